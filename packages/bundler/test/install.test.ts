import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, describe, it } from "node:test";
import { promisify } from "node:util";
import { endpoint, root, temporaryFolder } from "./support.js";

const run = promisify(execFile);
const { devDependencies } = JSON.parse(readFileSync(join(root, "package.json"), "utf8")) as { devDependencies: Record<string, string> };

describe("the package's file, as a release has it", () => {
  const project = temporaryFolder();
  // Only PATH and npm's own place are inherited, so that the CI that runs these tests does not leak in.
  const env = { PATH: process.env.PATH, HOME: process.env.HOME };

  before(async () => {
    // Without scripts: dist/ is built, and other tests are reading it.
    const { stdout } = await run("npm", ["pack", "--silent", "--ignore-scripts", "--pack-destination", project], { cwd: root });
    writeFileSync(join(project, "package.json"), JSON.stringify({ name: "app", version: "1.0.0", private: true }));
    const packages = [`./${stdout.trim()}`, `esbuild@${devDependencies["esbuild"]}`];
    await run("npm", ["install", "--save-dev", "--prefer-offline", "--ignore-scripts", "--no-audit", "--no-fund", ...packages], { cwd: project, env });
  });

  after(() => rmSync(project, { recursive: true, force: true }));

  it("installs in a project of its own, which then builds as the README says", async () => {
    const script = /^\/\/ build\.mjs\n.*?(?=^```)/ms.exec(readFileSync(join(root, "README.md"), "utf8"))?.[0];
    assert(script);
    mkdirSync(join(project, "src"));
    writeFileSync(join(project, "build.mjs"), script);
    writeFileSync(join(project, "src/index.js"), "console.log('built');");
    const server = await endpoint();
    const job = { CORRELATION_ID: "7", SPANHOOK_ENDPOINT: server.url, SPANHOOK_TOKEN: "a-token-of-builds" };
    const { stderr } = await run(process.execPath, ["build.mjs"], { cwd: project, env: { ...env, ...job } });
    await server.close();
    assert.equal(stderr, "");
    assert.equal((await run(process.execPath, ["dist/index.js"], { cwd: project })).stdout, "built\n");
    assert.deepEqual(server.received.map(({ method, url }) => `${method} ${url}`), ["POST /build-events"]);
    const event = JSON.parse(server.received[0]?.body ?? "") as { correlation_id: string; metrics: { asset_count: number } };
    assert.deepEqual([event.correlation_id, event.metrics.asset_count], ["7", 1]);
  });
});
