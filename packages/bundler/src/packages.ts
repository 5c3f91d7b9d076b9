/** What the modules of one package weigh in a chunk. */
export interface Package {
  /** As in `node_modules`, so without a version; `OWN` and `REST` are no names that npm allows. */
  name: string;
  size: number;
  modules: number;
}

/** Modules of no package: the app's own code, and what the bundler adds. */
export const OWN = "(own)";
/** Packages that are not told one by one, and what lies in `node_modules` and has no package's name. */
export const REST = "(rest)";

const MAX_PACKAGES = 20;
const MAX_NAME = 214;

/** A scope and a name: https://github.com/npm/validate-npm-package-name#naming-rules, and capitals, which old ones have. */
const NAME = /^(?:@[a-z0-9~-][a-z0-9._~-]*\/)?[a-z0-9~-][a-z0-9._~-]*$/i;

/**
 * The package that a module is of, by its path. The last `node_modules` counts: pnpm, Yarn's PnP and nested
 * packages all end in one (`.pnpm/react@19.1.0/node_modules/react`, `react-npm-19.1.0-1b2c.zip/node_modules/react`).
 */
export function packageOf(module: string): string {
  // webpack puts loaders in front, and queries behind; Rollup marks what a plugin made of a module with a NUL byte.
  const path = module.slice(module.lastIndexOf("!") + 1).replace(/^\0/, "").replace(/[?|].*$/s, "");
  const parts = path.split(/[/\\:]/);
  const at = parts.lastIndexOf("node_modules");
  if (at < 0) return OWN;
  const [first = "", second = ""] = parts.slice(at + 1);
  const name = first.startsWith("@") ? `${first}/${second}` : first;
  return NAME.test(name) && name.length <= MAX_NAME ? name : REST;
}

/** Modules by their package: the largest, then the app's own code and the rest, so that the sum is that of all. */
export function packagesOf(modules: Iterable<[module: string, size: number]>): Package[] {
  const found = new Map<string, Package>();
  const add = (name: string, size: number, modules: number) => {
    const known = found.get(name) ?? { name, size: 0, modules: 0 };
    found.set(name, { name, size: known.size + size, modules: known.modules + modules });
  };
  // Of a module without a size nothing was left.
  for (const [module, size] of modules) if (size > 0) add(packageOf(module), size, 1);
  const named = [...found.values()].filter(({ name }) => name !== OWN && name !== REST).sort((a, b) => b.size - a.size);
  for (const { name, size, modules } of named.slice(MAX_PACKAGES)) {
    found.delete(name);
    add(REST, size, modules);
  }
  const last = [OWN, REST].flatMap((name) => found.get(name) ?? []);
  return [...named.slice(0, MAX_PACKAGES), ...last].map((it) => ({ ...it, size: Math.round(it.size) }));
}
