import assert from "node:assert/strict";
import { execFile, spawnSync } from "node:child_process";
import { createHmac } from "node:crypto";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, it } from "node:test";
import { promisify } from "node:util";
import { type BuildEvent, reduce } from "@spanhook/bundler";
import webpack from "webpack";
import { app, endpoint, root, temporaryFolder } from "./support.js";

const readme = readFileSync(join(root, "README.md"), "utf8");
const missing = ["jq", "curl", "openssl"].filter((tool) => spawnSync(tool, ["--version"]).error);

function stats(entry: string): Promise<webpack.StatsCompilation> {
  return new Promise((done, fail) => {
    const compiler = webpack({ mode: "production", devtool: "source-map", entry, output: { path: temporaryFolder(), library: { type: "commonjs" } } });
    compiler?.run((error, result) => (error || !result ? fail(error) : done(result.toJson())));
  });
}

describe("the README", () => {
  it("names every option and every variable", () => {
    const options = readFileSync(join(root, "src/options.ts"), "utf8");
    const names = [...options.matchAll(/^ {2}(\w+)\?:/gm)].map(([, name]) => name);
    const documented = [...readme.matchAll(/^\| `(\w+)` \|/gm)].map(([, name]) => name);
    assert.deepEqual(documented, names.filter((name) => name !== "env"));
    for (const [variable] of options.matchAll(/SPANHOOK_\w+/g)) assert(readme.includes(variable));
  });

  for (const entry of ["lazy.js", "broken.js"]) {
    it(`has a script that sends the same as the plugin does (${entry})`, async () => {
      assert.deepEqual(missing, [], "the script needs these programs");
      const script = /# send-build-event\.sh\n(.*?)```/s.exec(readme)?.[1] ?? "";
      const folder = temporaryFolder();
      const json = await stats(join(app, "src", entry));
      writeFileSync(join(folder, "stats.json"), JSON.stringify(json));
      const secret = Buffer.from([0, 10, 255, 32, 65]);
      const server = await endpoint();
      const env = { PATH: process.env.PATH, CORRELATION_ID: "7", SPANHOOK_ENDPOINT: server.url, SPANHOOK_SIGNING_KEY: `whsec_${secret.toString("base64")}` };
      const { stderr } = await promisify(execFile)("sh", ["-eu", "-c", script], { cwd: folder, env });
      await server.close();
      assert.equal(stderr, "");

      const [request] = server.received;
      assert(request);
      const signed = `${request.headers["webhook-id"]}.${request.headers["webhook-timestamp"]}.${request.body}`;
      assert.equal(request.headers["webhook-signature"], `v1,${createHmac("sha256", secret).update(signed).digest("base64")}`);
      const event = JSON.parse(request.body) as BuildEvent;
      const { status, metrics, details, errors_count, warnings_count } = reduce(json, "webpack");
      // Full statistics name source maps but not their size.
      delete metrics.source_map_size_bytes;
      // The script leaves packages to the others.
      details.chunks = details.chunks.map(({ modules, packages, ...chunk }) => chunk);
      assert.deepEqual(
        { metrics: event.metrics, details: event.details, errors_count: event.errors_count, warnings_count: event.warnings_count, status: event.job_status },
        { metrics, details, errors_count, warnings_count, status },
      );
      assert.equal(event.correlation_id, "7");
      assert(Math.abs(Date.now() - Date.parse(event.timestamp)) < 60_000);
    });
  }
});
