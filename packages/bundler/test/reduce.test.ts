import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { reduce } from "@spanhook/bundler";

describe("reduce", () => {
  it("reads webpack's statistics, with source maps apart", () => {
    const stats = {
      time: 196,
      errorsCount: 0,
      warningsCount: 2,
      assets: [
        {
          name: "main.js",
          size: 300,
          info: { related: { sourceMap: "main.js.map", gzipped: "main.js.gz" } },
          related: [
            { name: "main.js.map", size: 900 },
            { name: "main.js.gz", size: 100 },
          ],
        },
        { name: "logo.svg?v=1", size: 40 },
      ],
      chunks: [{ names: ["main"], files: ["main.js"], size: 700, entry: true, initial: true, modules: [{}] }],
    };
    assert.deepEqual(reduce(stats, "webpack"), {
      status: "success",
      errors_count: 0,
      warnings_count: 2,
      metrics: { compile_time_ms: 196, total_asset_size_bytes: 340, asset_count: 2, chunk_count: 1, source_map_size_bytes: 900 },
      details: {
        largest_assets: [
          { name: "main.js", size: 300 },
          { name: "logo.svg", size: 40 },
        ],
        chunks: [{ names: ["main"], files: ["main.js"], size: 700, entry: true, initial: true }],
      },
    });
  });

  it("leaves the size of source maps out when the statistics do not tell it", () => {
    const asset = { name: "main.js", size: 1, info: { related: { sourceMap: ["main.js.map"] } }, related: [] };
    assert.equal("source_map_size_bytes" in reduce({ assets: [asset] }, "rspack").metrics, false);
    const listed = { name: "main.js.map", size: 5 };
    assert.equal(reduce({ assets: [asset, listed] }, "rspack").metrics.source_map_size_bytes, 5);
  });

  it("keeps no size of a failed build, but its time", () => {
    const failed = reduce({ time: 122, errorsCount: 1, assets: [{ name: "main.js", size: 428 }] }, "webpack");
    assert.equal(failed.status, "failed");
    assert.deepEqual(failed.metrics, { compile_time_ms: 122 });
    assert.deepEqual(failed.details, { largest_assets: [], chunks: [] });
  });

  it("reads webpack-like statistics of vite, whose chunks have no size", () => {
    const stats = {
      builtAt: 1,
      assets: [{ name: "index.mjs", size: 274 }],
      chunks: [{ id: "a", entry: true, initial: true, files: ["index.mjs"], names: ["index"] }],
    };
    const { metrics, details } = reduce(stats, "vite", { compileTimeMs: 12.6 });
    assert.equal(metrics.compile_time_ms, 13);
    assert.equal(details.chunks[0]?.size, 274);
  });

  it("reads a rollup bundle, in bytes and not in letters", () => {
    const bundle = {
      "main.js": { type: "chunk", name: "main", code: "✓", isEntry: true, imports: ["shared.js"] },
      "shared.js": { type: "chunk", name: "shared", code: "12", isEntry: false, imports: [] },
      "lazy.js": { type: "chunk", name: "lazy", code: "1", isEntry: false, imports: ["shared.js"] },
      "style.css": { type: "asset", source: new Uint8Array(7) },
      "main.js.map": { type: "asset", source: "{}" },
    };
    const { metrics, details } = reduce(bundle, "vite");
    assert.deepEqual(metrics, { total_asset_size_bytes: 13, asset_count: 4, chunk_count: 3, source_map_size_bytes: 2 });
    assert.deepEqual(details.chunks.map(({ files, initial }) => [files[0], initial]), [
      ["main.js", true],
      ["shared.js", true],
      ["lazy.js", false],
    ]);
  });

  it("reads esbuild's metafile, and knows the target of an import() from an entry", () => {
    const outputs = {
      "dist/index.js": {
        bytes: 204,
        entryPoint: "src/index.js",
        cssBundle: "dist/index.css",
        imports: [
          { path: "dist/chunk.js", kind: "import-statement" },
          { path: "dist/lazy.js", kind: "dynamic-import" },
          { path: "node:fs", kind: "import-statement", external: true },
        ],
      },
      "dist/lazy.js": { bytes: 87, entryPoint: "src/lazy.js", imports: [] },
      "dist/chunk.js": { bytes: 50, imports: [] },
      "dist/index.css": { bytes: 10 },
      "dist/index.js.map": { bytes: 999 },
    };
    const { metrics, details } = reduce({ outputs }, "esbuild", { outdir: "./dist" });
    assert.deepEqual(metrics, { total_asset_size_bytes: 351, asset_count: 4, chunk_count: 3, source_map_size_bytes: 999 });
    assert.deepEqual(details.chunks, [
      { names: ["index"], files: ["index.js", "index.css"], size: 204, entry: true, initial: true },
      { names: ["lazy"], files: ["lazy.js"], size: 87, entry: false, initial: false },
      { names: ["chunk"], files: ["chunk.js"], size: 50, entry: false, initial: true },
    ]);
  });

  it("keeps the 20 largest assets and the 50 largest chunks", () => {
    const assets = Array.from({ length: 60 }, (_, size) => ({ name: `${size}.js`, size }));
    const chunks = assets.map(({ name, size }) => ({ names: [], files: [name], size, entry: false, initial: false }));
    const { metrics, details } = reduce({ assets, chunks }, "webpack");
    assert.equal(metrics.asset_count, 60);
    assert.equal(metrics.chunk_count, 60);
    assert.deepEqual(details.largest_assets.map(({ size }) => size), Array.from({ length: 20 }, (_, index) => 59 - index));
    assert.equal(details.chunks.length, 50);
    assert.equal(details.chunks[49]?.size, 10);
  });

  it("cuts paths that say where the build ran", () => {
    const names = ["/home/someone/app/a.js", "C:\\Users\\someone\\b.js", "file:///home/someone/c.js", "../../d.js", "./e.js", "sub/f.js"];
    const { details } = reduce({ assets: names.map((name) => ({ name, size: 1 })) }, "webpack");
    assert.deepEqual(details.largest_assets.map(({ name }) => name), ["a.js", "b.js", "c.js", "d.js", "e.js", "sub/f.js"]);
  });

  it("reads empty statistics, and refuses a format that it does not know", () => {
    for (const format of ["webpack", "rspack", "vite", "esbuild"] as const) assert.equal(reduce({}, format).metrics.asset_count, 0);
    assert.throws(() => reduce({}, "parcel" as never), /unknown format parcel/);
  });
});
