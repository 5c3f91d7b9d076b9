import assert from "node:assert/strict";
import { appendFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, it } from "node:test";
import { type BuildEvent, esbuildPlugin, rollupPlugin, vitePlugin } from "@spanhook/bundler";
import * as esbuild from "esbuild";
import { type RollupWatcher, watch as rollupWatch } from "rollup";
import { build as viteBuild } from "vite";
import { endpoint, temporaryFolder } from "./support.js";

function source(): { entry: string; dir: string } {
  const dir = temporaryFolder();
  const entry = join(dir, "entry.js");
  writeFileSync(entry, "console.log(1);\n");
  return { entry, dir: join(dir, "out") };
}

/** Changes the file after each build and resolves after the third one. */
function threeBuilds(watcher: Pick<RollupWatcher, "on" | "close">, entry: string): Promise<void> {
  let builds = 0;
  return new Promise((done, fail) => {
    watcher.on("event", (event) => {
      if (event.code === "ERROR") fail(event.error);
      if (event.code === "BUNDLE_END") void event.result.close();
      if (event.code !== "END") return;
      builds += 1;
      // The end of the third build is the end of the second one's report, too.
      if (builds < 3) setTimeout(() => appendFileSync(entry, `console.log(${builds});\n`), 200);
      else setTimeout(() => done(watcher.close()), 200);
    });
  });
}

describe("watch mode", () => {
  for (const watch of [false, true]) {
    const expected = watch ? "every build" : "only the first build";

    it(`sends ${expected} of rollup with watch: ${watch}`, async () => {
      const server = await endpoint();
      const { entry, dir } = source();
      const plugins = [rollupPlugin({ endpoint: server.url, correlationId: "1", watch })];
      await threeBuilds(rollupWatch({ input: entry, output: { dir }, plugins }), entry);
      await server.close();
      assert.equal(server.received.length, watch ? 3 : 1);
    });

    it(`sends ${expected} of vite with watch: ${watch}`, async () => {
      const server = await endpoint();
      const { entry, dir } = source();
      const watcher = await viteBuild({
        configFile: false,
        logLevel: "silent",
        build: { outDir: dir, emptyOutDir: true, watch: {}, rolldownOptions: { input: entry } },
        plugins: [vitePlugin({ endpoint: server.url, correlationId: "1", watch })],
      });
      await threeBuilds(watcher as unknown as RollupWatcher, entry);
      await server.close();
      assert.equal(server.received.length, watch ? 3 : 1);
    });

    it(`sends ${expected} of esbuild's rebuilds with watch: ${watch}`, async () => {
      const server = await endpoint();
      const { entry, dir } = source();
      const plugins = [esbuildPlugin({ endpoint: server.url, correlationId: "1", watch })];
      const context = await esbuild.context({ entryPoints: [entry], outdir: dir, plugins });
      for (let time = 0; time < 3; time += 1) await context.rebuild();
      await context.dispose();
      await server.close();
      assert.equal(server.received.length, watch ? 3 : 1);
    });
  }

});

describe("esbuild's names", () => {
  it("are below the output folder, wherever it is", async () => {
    const server = await endpoint();
    const { entry, dir } = source();
    const plugins = [esbuildPlugin({ endpoint: server.url, correlationId: "1" })];
    await esbuild.build({ entryPoints: [entry], outfile: join(dir, "deep/app.js"), absWorkingDir: "/", plugins });
    await server.close();
    const event = JSON.parse(server.received[0]?.body ?? "") as BuildEvent;
    assert.deepEqual(event.details.largest_assets.map(({ name }) => name), ["app.js"]);
  });
});
