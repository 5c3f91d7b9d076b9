import assert from "node:assert/strict";
import { join } from "node:path";
import { after, before, beforeEach, describe, it } from "node:test";
import { type BuildEvent, type Options, rollupPlugin, vitePlugin } from "@spanhook/bundler";
import { rolldown } from "rolldown";
import { rollup } from "rollup";
import { type InlineConfig, build, createBuilder } from "vite";
import { type Endpoint, app, endpoint, temporaryFolder } from "./support.js";

const input = join(app, "src/lazy.js");
const hooks = ["buildStart", "transform", "renderStart", "renderChunk", "generateBundle", "writeBundle"];

describe("the hooks of rollup, rolldown and vite", () => {
  let server: Endpoint;
  let options: Options;
  const events = () => server.received.map(({ body }) => JSON.parse(body) as BuildEvent);

  before(async () => {
    server = await endpoint();
    options = { endpoint: server.url, correlationId: "1" };
  });
  beforeEach(() => {
    server.received.length = 0;
  });
  after(() => server.close());

  const vite = (more: InlineConfig): InlineConfig => ({
    configFile: false,
    logLevel: "silent",
    plugins: [vitePlugin(options)],
    ...more,
    build: { outDir: temporaryFolder(), rolldownOptions: { input }, ...more.build },
  });

  const builds = {
    rollup: async (plugin: object) => {
      const bundle = await rollup({ input, plugins: [plugin as never, rollupPlugin(options)] });
      await bundle.write({ dir: temporaryFolder() }).finally(() => bundle.close());
    },
    rolldown: async (plugin: object) => {
      const bundle = await rolldown({ input, plugins: [plugin as never, rollupPlugin(options)] });
      await bundle.write({ dir: temporaryFolder() }).finally(() => bundle.close());
    },
    vite: async (plugin: object) => {
      await build(vite({ plugins: [plugin as never, vitePlugin(options)] }));
    },
  };

  for (const [name, run] of Object.entries(builds)) {
    for (const hook of hooks) {
      it(`report a failed build when another plugin of ${name} throws in ${hook}`, async () => {
        const plugin = {
          name: "bad",
          [hook]() {
            throw new Error("a fault of the plugin");
          },
        };
        await assert.rejects(run(plugin), /a fault of the plugin/);
        assert.deepEqual(events().map(({ job_status }) => job_status), ["failed"]);
      });
    }

    it(`count the warnings of ${name}`, async () => {
      await run({
        name: "warns",
        buildStart(this: { warn(text: string): void }) {
          this.warn("one");
          this.warn("two");
        },
      });
      assert.deepEqual(events().map(({ warnings_count }) => warnings_count), [2]);
    });
  }

  for (const [name, create] of Object.entries({ rollup, rolldown })) {
    it(`put all outputs of one ${name} build into one event`, async () => {
      const bundle = await create({ input, plugins: [rollupPlugin(options)] } as never);
      await bundle.write({ dir: temporaryFolder(), format: "es" });
      await bundle.write({ dir: temporaryFolder(), format: "cjs" });
      await bundle.close();
      assert.deepEqual(events().map(({ metrics }) => [metrics.asset_count, metrics.chunk_count]), [[2, 2]]);
    });
  }

  it("put the formats of a vite library into one event", async () => {
    await build(vite({ build: { lib: { entry: input, formats: ["es", "cjs"], fileName: "library" } } }));
    assert.deepEqual(events().map(({ metrics }) => metrics.asset_count), [2]);
  });

  it("name vite's environment when it is not the client", async () => {
    await build(vite({ build: { ssr: input } }));
    assert.deepEqual(events().map(({ name }) => name), ["ssr"]);
  });

  it("keep environments apart that vite builds at the same time with one plugin", async () => {
    const builder = await createBuilder(
      vite({
        environments: { ssr: { build: { outDir: temporaryFolder(), rolldownOptions: { input } } } },
        builder: {
          sharedConfigBuild: true,
          sharedPlugins: true,
          buildApp: async (all) => void (await Promise.all(Object.values(all.environments).map((one) => all.build(one)))),
        },
      }),
    );
    await builder.buildApp();
    assert.deepEqual(events().map(({ name, job_status }) => `${name} ${job_status}`).sort(), ["ssr success", "undefined success"]);
  });

  it("measure what is not written (write: false), too", async () => {
    await build(vite({ build: { write: false } }));
    assert.deepEqual(events().map(({ job_status, metrics }) => [job_status, metrics.asset_count]), [["success", 1]]);
  });
});
