import assert from "node:assert/strict";
import { createHmac } from "node:crypto";
import { before, describe, it } from "node:test";
import type { BuildEvent } from "@spanhook/bundler";
import { type Name, blackHole, build, bundlers, endpoint, filesIn } from "./support.js";

/** How a bundler prints a size; rollup prints none. */
const printed: Partial<Record<Name, (size: number) => string>> = {
  webpack: binary,
  rspack: binary,
  // Vite 8 cuts off what does not fit, it does not round.
  vite: (size) => `${(Math.floor(size / 10) / 100).toFixed(2)} kB`,
  rolldown: (size) => `${(size / 1000).toFixed(2)} kB`,
  esbuild: (size) => (size < 1024 ? `${size}b` : `${(size / 1024).toFixed(1)}kb`),
};

function binary(size: number): string {
  return size < 1024 ? `${size} bytes` : `${Number((size / 1024).toPrecision(3))} KiB`;
}

const key = `whsec_${Buffer.from("a key for these tests only").toString("base64")}`;

/** Builds against an endpoint of its own and returns the only event. */
async function buildOnce(name: Name, env: Record<string, string> = {}) {
  const server = await endpoint();
  const run = await build(name, { SPANHOOK_ENDPOINT: server.url, SPANHOOK_SIGNING_KEY: key, CORRELATION_ID: "run-1", ...env });
  await server.close();
  const events = server.received.map(({ body }) => JSON.parse(body) as BuildEvent);
  return { run, events, requests: server.received };
}

for (const name of bundlers) {
  const bundler = name === "rolldown" ? "rollup" : name;

  describe(name, () => {
    let good: ReturnType<typeof buildOnce>;
    before(() => {
      good = buildOnce(name);
    });

    it("sends one signed event whose sizes are those on the disk", async () => {
      const { run, events, requests } = await good;
      assert.equal(run.code, 0, run.text);
      assert.deepEqual(run.warnings, []);
      assert.equal(events.length, 1);
      const [event] = events;
      const [request] = requests;
      assert(event && request);

      assert.equal(`${request.method} ${request.url}`, "POST /build-events");
      assert.equal(request.headers["content-type"], "application/json");
      const signed = `${request.headers["webhook-id"]}.${request.headers["webhook-timestamp"]}.${request.body}`;
      const mac = createHmac("sha256", Buffer.from(key.slice(6), "base64")).update(signed).digest("base64");
      assert.equal(request.headers["webhook-signature"], `v1,${mac}`);
      assert(Math.abs(Date.now() / 1000 - Number(request.headers["webhook-timestamp"])) < 60);

      const files = filesIn(run.outdir);
      const shipped = [...files].filter(([file]) => !file.endsWith(".map"));
      const maps = [...files].filter(([file]) => file.endsWith(".map"));
      const total = (list: [string, number][]) => list.reduce((sum, [, size]) => sum + size, 0);
      assert.equal(maps.length > 0, true, "the sample has source maps");
      assert.deepEqual(
        new Map(event.details.largest_assets.map(({ name: file, size }) => [file, size])),
        new Map(shipped),
      );
      assert.equal(event.metrics.total_asset_size_bytes, total(shipped));
      assert.equal(event.metrics.asset_count, shipped.length);
      assert.equal(event.metrics.source_map_size_bytes, total(maps));
      assert.equal(event.metrics.chunk_count, event.details.chunks.length);

      assert.equal(event.type, "webpack_build_stats");
      assert.equal(event.correlation_id, "run-1");
      assert.equal(event.bundler, bundler);
      assert.match(event.bundler_version ?? "", /^(rolldown )?\d+\.\d+\.\d+/);
      assert.equal(event.job_status, "success");
      assert.equal(event.errors_count, 0);
      assert.equal(new Date(event.timestamp).toISOString(), event.timestamp);
      const time = event.metrics.compile_time_ms ?? 0;
      assert(time > 0 && time < run.milliseconds, `${time} ms of ${run.milliseconds}`);
    });

    const format = printed[name];
    if (format) {
      it("sends the sizes that the bundler prints", async () => {
        const { run, events } = await good;
        const lines = run.text.split("\n");
        for (const asset of events[0]?.details.largest_assets ?? []) {
          const line = lines.find((text) => new RegExp(`${asset.name.replace(/[.]/g, "\\.")} `).test(text));
          assert(line?.includes(` ${format(asset.size)}`), `${asset.name} ${format(asset.size)} in:\n${run.text}`);
        }
      });
    }

    it("tells entry and lazy chunks apart", async () => {
      const { events } = await good;
      const chunks = events[0]?.details.chunks ?? [];
      assert.equal(chunks.filter((chunk) => chunk.entry).length, 1);
      assert(chunks.filter((chunk) => chunk.entry).every((chunk) => chunk.initial));
      const lazy = chunks.filter((chunk) => !chunk.initial);
      assert.equal(lazy.length, 1, JSON.stringify(chunks));
      assert.equal(lazy[0]?.entry, false);
    });

    it("sends a failed build without sizes, and leaves its exit code alone", async () => {
      const without = await build(name, { TEST_ENTRY: "broken.js" });
      const { run, events } = await buildOnce(name, { TEST_ENTRY: "broken.js" });
      assert.notEqual(run.code, 0);
      assert.equal(run.code, without.code);
      assert.match(run.text, /is-not-there/);
      assert.equal(events.length, 1);
      assert.equal(events[0]?.job_status, "failed");
      assert.equal(events[0]?.errors_count, 1);
      assert.deepEqual(Object.keys(events[0]?.metrics ?? {}), ["compile_time_ms"]);
      assert.deepEqual(events[0]?.details, { largest_assets: [], chunks: [] });
    });

    it("says nothing of the machine: no absolute path is in the body", async () => {
      const { requests } = await good;
      assert.doesNotMatch(requests[0]?.body ?? "", /"(\/|[A-Z]:|\.\.)|\/(home|root|work|Users|tmp)\//);
    });

    it("warns once and goes on when the endpoint is down, slow or says no", async () => {
      const refusing = await endpoint(401);
      const broken = await endpoint(500);
      const cases = [
        { url: "http://127.0.0.1:9", warning: /no connection \(\w+\): check SPANHOOK_ENDPOINT/ },
        { url: refusing.url, warning: /answered 401: check SPANHOOK_SIGNING_KEY/ },
        { url: broken.url, warning: /answered 500: .*logs of the endpoint/ },
      ];
      for (const { url, warning } of cases) {
        const run = await build(name, { SPANHOOK_ENDPOINT: url, SPANHOOK_SIGNING_KEY: key, CORRELATION_ID: "1" });
        assert.equal(run.code, 0, run.text);
        assert.equal(run.warnings.length, 1, run.text);
        assert.match(run.warnings[0] ?? "", warning);
        assert(!run.text.includes(key) && !run.text.includes(key.slice(6)));
      }
      await Promise.all([refusing, broken].map((server) => server.close()));
    });

    it("ends no later than the limit when the endpoint is slow, or drops packets", async () => {
      const quick = await build(name);
      for (const open of [() => endpoint(0), blackHole]) {
        const server = await open();
        const run = await build(name, { SPANHOOK_ENDPOINT: server.url, CORRELATION_ID: "1", TEST_OPTIONS: '{"timeoutMs":300}' });
        await server.close();
        assert.equal(run.code, 0, run.text);
        assert.equal(run.warnings.length, 1, run.text);
        assert.match(run.warnings[0] ?? "", /no answer within 300 ms/);
        // The time of the whole process: a socket left open would keep it for ten seconds.
        assert(run.milliseconds < quick.milliseconds + 2000, `${run.milliseconds} ms, without ${quick.milliseconds} ms`);
      }
    });

    it("fails the build on request (strict)", async () => {
      const server = await endpoint(401);
      const run = await build(name, { SPANHOOK_ENDPOINT: server.url, CORRELATION_ID: "1", TEST_OPTIONS: '{"strict":true}' });
      await server.close();
      assert.notEqual(run.code, 0, run.text);
      assert.match(run.text, /answered 401: set SPANHOOK_TOKEN, SPANHOOK_SIGNING_KEY or/);
    });

    it("is silent without an endpoint, but for one line with DEBUG=spanhook", async () => {
      const quiet = await build(name);
      assert.equal(quiet.code, 0, quiet.text);
      assert.deepEqual(quiet.warnings, []);
      const loud = await build(name, { DEBUG: "spanhook" });
      assert.deepEqual(loud.warnings, ["spanhook: no SPANHOOK_ENDPOINT, nothing is sent"]);
    });
  });
}
