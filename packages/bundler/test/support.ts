import { execFile, spawn } from "node:child_process";
import { mkdtempSync, readdirSync, rmSync, statSync } from "node:fs";
import { type IncomingHttpHeaders, createServer } from "node:http";
import { type AddressInfo, connect } from "node:net";
import { dirname, join, relative } from "node:path";
import { fileURLToPath } from "node:url";

/** The package's folder; this file runs from build/. */
export const root = join(dirname(fileURLToPath(import.meta.url)), "..");
export const app = join(root, "test/app");

export const bundlers = ["webpack", "rspack", "vite", "rollup", "rolldown", "esbuild"] as const;
export type Name = (typeof bundlers)[number];

const commands: Record<Name, string[]> = {
  webpack: ["node_modules/webpack-cli/bin/cli.js", "--config", "webpack.config.mjs"],
  rspack: ["node_modules/@rspack/cli/bin/rspack.js", "build", "--config", "rspack.config.mjs"],
  vite: ["node_modules/vite/bin/vite.js", "build"],
  rollup: ["node_modules/rollup/dist/bin/rollup", "-c", "rollup.config.mjs"],
  rolldown: ["node_modules/rolldown/bin/cli.mjs", "-c", "rolldown.config.mjs"],
  esbuild: ["test/app/esbuild.build.mjs"],
};

export interface Run {
  code: number;
  /** Everything printed, both streams. */
  text: string;
  warnings: string[];
  outdir: string;
  milliseconds: number;
}

/** Builds the sample app in a process of its own, as a CI job does. */
export function build(name: Name, env: Record<string, string> = {}): Promise<Run> {
  const outdir = join(root, "build/out", `${name}-${process.pid}-${counter++}`);
  rmSync(outdir, { recursive: true, force: true });
  const [script = "", ...args] = commands[name];
  const started = Date.now();
  return new Promise((done) => {
    execFile(
      process.execPath,
      [join(root, script), ...args],
      // Only PATH is inherited, so that the CI that runs these tests does not leak in.
      { cwd: app, env: { PATH: process.env.PATH, NO_COLOR: "1", TEST_OUTDIR: outdir, ...env } },
      (error, stdout, stderr) => {
        const text = stdout + stderr;
        done({
          code: error ? Number(error.code ?? 1) : 0,
          text,
          warnings: text.split("\n").filter((line) => line.startsWith("spanhook:")),
          outdir,
          milliseconds: Date.now() - started,
        });
      },
    );
  });
}

let counter = 0;

/** Name and size of every file below a folder. */
export function filesIn(folder: string): Map<string, number> {
  const files = readdirSync(folder, { recursive: true, withFileTypes: true }).filter((entry) => entry.isFile());
  return new Map(
    files.map((file) => {
      const path = join(file.parentPath, file.name);
      return [relative(folder, path), statSync(path).size];
    }),
  );
}

export interface Received {
  method: string;
  url: string;
  headers: IncomingHttpHeaders;
  body: string;
}

export interface Endpoint {
  url: string;
  received: Received[];
  close(): Promise<void>;
}

/** An endpoint on loopback. With status 0 it never answers. */
export async function endpoint(status = 202, text = "{}", headers: Record<string, string> = {}): Promise<Endpoint> {
  const received: Received[] = [];
  const server = createServer((request, response) => {
    let body = "";
    request.setEncoding("utf8");
    request.on("data", (part: string) => (body += part));
    request.on("end", () => {
      received.push({ method: request.method ?? "", url: request.url ?? "", headers: request.headers, body });
      if (status) response.writeHead(status, headers).end(text);
    });
  });
  await new Promise<void>((ready) => server.listen(0, "127.0.0.1", ready));
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    received,
    close: () =>
      new Promise((closed) => {
        server.closeAllConnections();
        server.close(() => closed());
      }),
  };
}

const deaf = `
  const server = require("node:net").createServer();
  server.listen({ port: 0, host: "127.0.0.1", backlog: 1 }, () => {
    require("node:fs").writeSync(1, String(server.address().port));
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0);
  });`;

/** A port whose packets get lost, as behind a firewall: a process that never accepts, with a full queue. */
export async function blackHole(): Promise<{ url: string; close(): void }> {
  const child = spawn(process.execPath, ["-e", deaf], { stdio: ["ignore", "pipe", "inherit"] });
  const port = await new Promise<number>((heard) => child.stdout.once("data", (data: Buffer) => heard(Number(data.toString()))));
  const sockets = Array.from({ length: 4 }, () => connect(port, "127.0.0.1").on("error", () => undefined));
  await new Promise((filled) => setTimeout(filled, 100));
  return {
    url: `http://127.0.0.1:${port}`,
    close() {
      for (const socket of sockets) socket.destroy();
      child.kill("SIGKILL");
    },
  };
}

export function temporaryFolder(): string {
  return mkdtempSync(join(root, "build/"));
}
