import assert from "node:assert/strict";
import { join } from "node:path";
import { describe, it } from "node:test";
import { rspack } from "@rspack/core";
import { type BuildEvent, rspackPlugin, webpackPlugin } from "@spanhook/bundler";
import webpack from "webpack";
import { app, build, endpoint, temporaryFolder } from "./support.js";

const parse = (received: { body: string }[]) => received.map(({ body }) => JSON.parse(body) as BuildEvent);

describe("webpack's own ways", () => {
  it("sends one event for each configuration of a multi-compiler", async () => {
    const server = await endpoint();
    const run = await build("webpack", { SPANHOOK_ENDPOINT: server.url, CORRELATION_ID: "1", TEST_MULTI: "true" });
    await server.close();
    assert.equal(run.code, 0, run.text);
    assert.deepEqual(parse(server.received).map(({ name }) => name).sort(), ["legacy", "modern"]);
  });

  for (const name of ["webpack", "rspack"] as const) {
    it(`sends a failed ${name} build that ends early (bail)`, async () => {
      const env = { TEST_ENTRY: "broken.js", TEST_BAIL: "true" };
      const server = await endpoint();
      const run = await build(name, { SPANHOOK_ENDPOINT: server.url, CORRELATION_ID: "1", ...env });
      await server.close();
      assert.equal(run.code, (await build(name, env)).code);
      assert.notEqual(run.code, 0);
      const events = parse(server.received);
      assert.equal(events.length, 1, run.text);
      assert.equal(events[0]?.job_status, "failed");
      assert((events[0]?.metrics.compile_time_ms ?? 0) > 0);
    });
  }

  const compilers = {
    webpack: (url: string, watch: boolean) =>
      webpack({ ...config(), plugins: [webpackPlugin({ endpoint: url, correlationId: "1", watch })] }),
    rspack: (url: string, watch: boolean) =>
      rspack({ ...config(), plugins: [rspackPlugin({ endpoint: url, correlationId: "1", watch })] }),
  };

  for (const [name, create] of Object.entries(compilers)) {
    it(`measures cached assets of ${name} like new ones`, async () => {
      const server = await endpoint();
      const compiler = create(server.url, false);
      assert(compiler);
      for (let time = 0; time < 2; time += 1) {
        await new Promise<void>((done, fail) => compiler.run((error) => (error ? fail(error) : done())));
      }
      await new Promise<void>((done) => compiler.close(() => done()));
      await server.close();
      const [first, second] = parse(server.received);
      assert.deepEqual(second?.details, first?.details);
      assert.equal(second?.metrics.total_asset_size_bytes, first?.metrics.total_asset_size_bytes);
      assert((first?.metrics.total_asset_size_bytes ?? 0) > 0);
    });

    for (const watch of [false, true]) {
      it(`sends ${watch ? "every build" : "only the first build"} of ${name}'s watch mode with watch: ${watch}`, async () => {
        const server = await endpoint();
        const compiler = create(server.url, watch);
        assert(compiler);
        let builds = 0;
        await new Promise<void>((done) => {
          const watching = compiler.watch({}, () => {
            builds += 1;
            if (builds < 3) watching?.invalidate();
            else watching?.close(() => done());
          });
        });
        await server.close();
        assert.equal(server.received.length, watch ? builds : 1);
      });
    }
  }
});

function config() {
  return {
    mode: "production" as const,
    entry: join(app, "src/lazy.js"),
    // A library, so that nothing is shaken off and the asset has a size.
    output: { path: temporaryFolder(), library: { type: "commonjs" as const } },
  };
}
