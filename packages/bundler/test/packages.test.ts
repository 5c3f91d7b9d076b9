import assert from "node:assert/strict";
import { mkdirSync, readFileSync, symlinkSync, writeFileSync } from "node:fs";
import { dirname, join, relative } from "node:path";
import { describe, it } from "node:test";
import { type BuildEvent, reduce } from "@spanhook/bundler";
import { app, build, bundlers, endpoint, root, temporaryFolder } from "./support.js";

/** The command line tool's tests read the same list. */
const cases = JSON.parse(readFileSync(join(root, "test/packages.json"), "utf8")) as Record<string, string>;

/** What the only chunk of a bundle is made of, with modules of ten bytes each. */
function packages(modules: string[]) {
  const inputs = Object.fromEntries(modules.map((path) => [path, { bytesInOutput: 10 }]));
  return reduce({ outputs: { "main.js": { bytes: 1, entryPoint: "x", inputs } } }, "esbuild").details.chunks[0];
}

describe("packages of a chunk", () => {
  it("are told by the paths of modules, however they were installed", () => {
    for (const [path, name] of Object.entries(cases)) {
      assert.deepEqual(packages([path])?.packages, [{ name, size: 10, modules: 1 }], path);
    }
  });

  it("have the same name in every layout, whatever else is in the path", () => {
    const layouts = [
      (name: string) => `node_modules/${name}`,
      (name: string) => `node_modules/.pnpm/${name.replace("/", "+")}@1.2.3_x@4.5.6/node_modules/${name}`,
      (name: string) => `.yarn/cache/${name.replace("/", "-")}-npm-1.2.3-0a1b2c3d4e-10c0.zip/node_modules/${name}`,
      (name: string) => `node_modules/outer/node_modules/${name}`,
    ];
    const wraps = [
      (path: string) => path,
      (path: string) => `/home/ada/app/${path}`,
      (path: string) => `D:\\app\\${path.replaceAll("/", "\\")}`,
      (path: string) => `\0/app/${path}?commonjs-proxy`,
      (path: string) => `/app/node_modules/loader/index.js??rule!/app/${path}?query`,
    ];
    const letters = "abcXYZ019-._~";
    // A sequence that looks like chance and is the same each time (glibc's constants).
    let seed = 1;
    const next = (below: number) => {
      seed = (seed * 1103515245 + 12345) % 2 ** 31;
      return Math.floor(seed / 65536) % below;
    };
    const word = () => `a${Array.from({ length: next(12) }, () => letters[next(letters.length)]).join("")}`;
    for (let round = 0; round < 2000; round += 1) {
      const name = next(2) ? word() : `@${word()}/${word()}`;
      const path = layouts[next(layouts.length)]?.(name) ?? "";
      const module = wraps[next(wraps.length)]?.(`${path}/lib/${word()}.js`) ?? "";
      assert.equal(packages([module])?.packages?.[0]?.name, name, module);
    }
  });

  it("are the 20 largest, with the app's own code and the sum of the rest behind them", () => {
    const of = (name: string, count: number) => Array.from({ length: count }, (_, nth) => `node_modules/${name}/${nth}.js`);
    const many = Array.from({ length: 25 }, (_, nth) => of(`p${nth}`, nth + 1)).flat();
    const chunk = packages([...many, "src/a.js", "node_modules/.cache/x.js"]);
    assert.equal(chunk?.packages?.length, 22);
    assert.deepEqual(chunk?.packages?.[0], { name: "p24", size: 250, modules: 25 });
    // p0 to p4, and what has no name.
    assert.deepEqual(chunk?.packages?.slice(-2), [
      { name: "(own)", size: 10, modules: 1 },
      { name: "(rest)", size: 160, modules: 16 },
    ]);
    assert.equal(chunk?.modules, many.length + 2);
    assert.equal(chunk?.packages?.reduce((sum, { size }) => sum + size, 0), 10 * (many.length + 2));
  });

  it("are left out where statistics tell no modules, and a module without a size is none", () => {
    const chunks = [{ names: ["a"], files: ["a.js"], size: 3 }];
    for (const modules of [undefined, [{ name: "./src/a.js", size: 0, chunks: ["a"] }]]) {
      const [chunk] = reduce({ assets: [], chunks, modules }, "webpack").details.chunks;
      assert.deepEqual(chunk, { names: ["a"], files: ["a.js"], size: 3, entry: false, initial: false });
    }
  });

  it("are read from modules that name their chunks, and from those joined into one", () => {
    const modules = [
      { name: "./node_modules/zod/index.js", size: 30, chunks: [1, 2] },
      {
        nameForCondition: "/app/src/index.js", name: "./src/index.js + 1 modules", size: 50, chunks: [1],
        modules: [{ name: "./src/index.js", size: 20 }, { name: "./node_modules/react/index.js", size: 30 }],
      },
    ];
    const chunks = [{ id: 1, names: ["main"], size: 80 }, { id: 2, names: ["lazy"], size: 30 }];
    const found = reduce({ assets: [], chunks, modules }, "webpack").details.chunks;
    assert.deepEqual(found.map(({ modules, packages }) => [modules, packages?.map(({ name, size }) => [name, size])]), [
      [3, [["zod", 30], ["react", 30], ["(own)", 20]]],
      [1, [["zod", 30]]],
    ]);
  });
});

/** An app with packages as pnpm and as npm install them. */
function installed(): string {
  const folder = temporaryFolder();
  const write = (file: string, code: string) => {
    mkdirSync(dirname(join(folder, file)), { recursive: true });
    writeFileSync(join(folder, file), code);
  };
  const values = (name: string) => `export const ${name} = ${JSON.stringify(Array.from({ length: 40 }, (_, nth) => `${name} ${nth}`))};\n`;
  write("node_modules/.pnpm/left@1.2.3/node_modules/left/index.js", `import { more } from "./more.js";\n${values("left")}export { more };\n`);
  write("node_modules/.pnpm/left@1.2.3/node_modules/left/more.js", values("more"));
  symlinkSync(".pnpm/left@1.2.3/node_modules/left", join(folder, "node_modules/left"));
  write("node_modules/@acme/ui/index.js", values("ui"));
  write("own.js", "export const own = () => document.title;\n");
  write("lazy.js", 'import { ui } from "./node_modules/@acme/ui/index.js";\nexport const text = `lazy ${ui.join()}`;\n');
  write("index.js", [
    'import { left, more } from "./node_modules/left/index.js";',
    'import { own } from "./own.js";',
    "document.body.append(own(), left.join(), more.join());",
    'import("./lazy.js").then(({ text }) => console.log(text));\n',
  ].join("\n"));
  return folder;
}

for (const name of bundlers) {
  it(`${name} tells how much of a chunk is third-party`, async () => {
    const server = await endpoint();
    const entry = relative(join(app, "src"), join(installed(), "index.js"));
    const run = await build(name, { SPANHOOK_ENDPOINT: server.url, CORRELATION_ID: "1", TEST_ENTRY: entry });
    await server.close();
    assert.equal(run.code, 0, run.text);
    const { chunks } = (JSON.parse(server.received[0]?.body ?? "") as BuildEvent).details;
    const main = chunks.find((chunk) => chunk.entry);
    const lazy = chunks.find((chunk) => !chunk.initial);
    const names = (chunk: typeof main) => chunk?.packages?.map((it) => it.name);
    assert.deepEqual(names(main), ["left", "(own)"], JSON.stringify(chunks));
    assert.equal(main?.packages?.[0]?.modules, 2, JSON.stringify(chunks));
    assert((main?.packages?.[0]?.size ?? 0) > 500, JSON.stringify(chunks));
    assert.deepEqual(names(lazy), ["@acme/ui", "(own)"], JSON.stringify(chunks));
    assert.equal(lazy?.modules, 2, JSON.stringify(chunks));
    // esbuild tells what is left of a module, webpack and rspack what they call the chunk's size.
    const sum = (main?.packages ?? []).reduce((all, { size }) => all + size, 0);
    if (name === "esbuild") assert(sum <= (main?.size ?? 0));
    if (name === "webpack" || name === "rspack") assert.equal(sum, main?.size);
  });
}
