import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { cpSync, mkdirSync, readFileSync, rmSync } from "node:fs";
import { join } from "node:path";
import { before, describe, it } from "node:test";
import { bundlers, root } from "./support.js";

const consumer = join(root, "build/consumer");
const node = (...args: string[]) => execFileSync(process.execPath, args, { cwd: consumer, encoding: "utf8" });

describe("the package", () => {
  let files: string[] = [];

  before(() => {
    rmSync(consumer, { recursive: true, force: true });
    const folder = join(consumer, "node_modules/@spanhook/bundler");
    mkdirSync(folder, { recursive: true });
    cpSync(join(root, "test/consumer"), consumer, { recursive: true });
    // Without scripts: dist/ is built, and other tests are reading it.
    const json = execFileSync("npm", ["pack", "--json", "--ignore-scripts", "--pack-destination", consumer], { cwd: root, encoding: "utf8" });
    // npm 12 and later give an object by package name.
    const [pack] = Object.values(JSON.parse(json) as Record<string, { filename: string; files: { path: string }[] }>);
    assert(pack);
    files = pack.files.map(({ path }) => path);
    const name = pack.filename.replace("@", "").replace("/", "-");
    execFileSync("tar", ["-xzf", join(consumer, name), "-C", folder, "--strip-components=1"]);
  });

  it("holds dist, README, LICENSE and nothing else", () => {
    const others = files.filter((file) => !/^dist\/(cjs\/)?[a-z]+\.(js|d\.ts)$/.test(file));
    assert.deepEqual(others.sort(), ["LICENSE", "README.md", "dist/cjs/package.json", "package.json"]);
  });

  it("needs no other package", () => {
    const manifest = JSON.parse(readFileSync(join(root, "package.json"), "utf8")) as Record<string, unknown>;
    for (const kind of ["dependencies", "peerDependencies", "optionalDependencies"]) assert.equal(manifest[kind], undefined);
  });

  it("fits the types of the bundlers, as ES module and as CommonJS", () => {
    node(join(root, "node_modules/typescript/bin/tsc"), "-p", consumer);
  });

  it("has declarations that need nobody's types", () => {
    const alone = ["--noEmit", "--strict", "--ignoreConfig", "--types", "", "--module", "nodenext", "--target", "es2022", "--lib", "es2022"];
    node(join(root, "node_modules/typescript/bin/tsc"), ...alone, "plain.ts");
  });

  for (const name of ["webpack", "rspack", "vite", "rollup", "esbuild"] satisfies (typeof bundlers)[number][]) {
    it(`loads @spanhook/bundler/${name} by import and by require`, () => {
      const print = `console.log(typeof ${name}Plugin)`;
      const imported = node("--input-type=module", "-e", `import { ${name}Plugin } from "@spanhook/bundler/${name}"; ${print}`);
      const required = node("--input-type=commonjs", "-e", `const { ${name}Plugin } = require("@spanhook/bundler/${name}"); ${print}`);
      assert.equal(imported + required, "function\nfunction\n");
    });
  }
});

describe("the lock file", () => {
  type Entry = { integrity?: string; optionalDependencies?: Record<string, string>; hasInstallScript?: boolean };
  const lock = JSON.parse(readFileSync(join(root, "package-lock.json"), "utf8")) as { packages: Record<string, Entry> };
  const { "": _own, ...packages } = lock.packages;

  it("has the hash of every package", () => {
    assert(Object.keys(packages).length > 0);
    assert.deepEqual(Object.keys(packages).filter((name) => !/^sha512-/.test(packages[name]?.integrity ?? "")), []);
  });

  // A registry without some platform's package makes npm leave it out, or write it down without a hash.
  it("leaves out no platform's package", () => {
    const wanted = Object.values(packages).flatMap(({ optionalDependencies }) => Object.keys(optionalDependencies ?? {}));
    assert.deepEqual(wanted.filter((name) => !Object.keys(packages).some((path) => path.endsWith(`node_modules/${name}`))), []);
  });
});
