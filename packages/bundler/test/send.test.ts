import assert from "node:assert/strict";
import { createHmac } from "node:crypto";
import { createSocket } from "node:dgram";
import { Resolver } from "node:dns/promises";
import { describe, it } from "node:test";
import type { BuildEvent, Options } from "@spanhook/bundler";
import type { Build } from "../dist/event.js";
import { checkNameServers } from "../dist/http.js";
import { signedHeaders } from "../dist/proof.js";
import { report } from "../dist/send.js";
import { type Endpoint, endpoint } from "./support.js";

const done: Build = {
  bundler: "webpack",
  status: "success",
  errors_count: 0,
  warnings_count: 0,
  metrics: { compile_time_ms: 1, total_asset_size_bytes: 2, asset_count: 1, chunk_count: 1 },
  details: { largest_assets: [{ name: "main.js", size: 2 }], chunks: [] },
};

async function send(options: Options, build: Build = done): Promise<string[]> {
  const lines: string[] = [];
  await report(() => build, { correlationId: "1", env: {}, warn: (line) => lines.push(line), ...options });
  return lines;
}

async function using<T>(server: Endpoint, work: (server: Endpoint) => Promise<T>): Promise<T> {
  try {
    return await work(server);
  } finally {
    await server.close();
  }
}

describe("the signature", () => {
  it("is the HMAC of id, timestamp and body, as Standard Webhooks says", () => {
    // The vector of the Standard Webhooks libraries.
    const headers = signedHeaders("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, '{"test": 2432232314}');
    assert.equal(headers["webhook-signature"], "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    assert.equal(headers["webhook-timestamp"], "1614265330");
  });

  it("is what node:crypto computes, for a body that is not ASCII", () => {
    const secret = Buffer.from([0, 1, 2, 250, 251, 252]);
    const { "webhook-signature": signature } = signedHeaders(`whsec_${secret.toString("base64")}`, "msg_1", 7, '{"a":"ü✓"}');
    assert.equal(signature, `v1,${createHmac("sha256", secret).update('msg_1.7.{"a":"ü✓"}', "utf8").digest("base64")}`);
  });

  it("is never made with a mistyped key", async () => {
    await using(await endpoint(), async (server) => {
      for (const signingKey of ["hunter2", "whsec_", "whsec_not base64!"]) {
        const lines = await send({ endpoint: server.url, signingKey });
        assert.equal(lines.length, 1);
        assert.match(lines[0] ?? "", /SPANHOOK_SIGNING_KEY is not whsec_/);
        assert(!lines[0]?.includes("hunter2"));
      }
      assert.equal(server.received.length, 0);
    });
  });
});

describe("the proof", () => {
  const all = {
    SPANHOOK_TOKEN: "token-1",
    SPANHOOK_SIGNING_KEY: "whsec_AAAA",
    CIRCLE_OIDC_TOKEN_V2: "circle-1",
  };

  it("is the token first, then the signing key, then CircleCI's token, then nothing", async () => {
    await using(await endpoint(), async (server) => {
      const env: Record<string, string> = { ...all };
      await send({ endpoint: server.url, env });
      delete env.SPANHOOK_TOKEN;
      await send({ endpoint: server.url, env });
      delete env.SPANHOOK_SIGNING_KEY;
      await send({ endpoint: server.url, env });
      delete env.CIRCLE_OIDC_TOKEN_V2;
      await send({ endpoint: server.url, env });
      assert.deepEqual(
        server.received.map(({ headers }) => [headers.authorization, headers["webhook-signature"] !== undefined]),
        [
          ["Bearer token-1", false],
          [undefined, true],
          ["Bearer circle-1", false],
          [undefined, false],
        ],
      );
    });
  });

  it("is asked from GitHub when an audience is set", async () => {
    await using(await endpoint(200, '{"value":"github-1"}'), async (github) => {
      await using(await endpoint(), async (server) => {
        const env = {
          SPANHOOK_AUDIENCE: "https://ingest.example.com",
          ACTIONS_ID_TOKEN_REQUEST_URL: `${github.url}/token?api-version=2`,
          ACTIONS_ID_TOKEN_REQUEST_TOKEN: "request-1",
        };
        assert.deepEqual(await send({ endpoint: server.url, env }), []);
        assert.equal(github.received[0]?.url, "/token?api-version=2&audience=https%3A%2F%2Fingest.example.com");
        assert.equal(github.received[0]?.headers.authorization, "Bearer request-1");
        assert.equal(server.received[0]?.headers.authorization, "Bearer github-1");
      });
    });
  });

  it("that GitHub does not give is one warning that names the permission", async () => {
    const lines = await send({ endpoint: "http://127.0.0.1:9", env: { SPANHOOK_AUDIENCE: "x" } });
    assert.deepEqual(lines, ["spanhook: build event not sent: GitHub gave no OIDC token: the job needs `permissions: id-token: write`, and pull requests from forks get none"]);
  });

  it("shares one limit with the post: a slow token leaves no second wait", async () => {
    await using(await endpoint(0), async (github) => {
      const env = { SPANHOOK_AUDIENCE: "x", ACTIONS_ID_TOKEN_REQUEST_URL: github.url, ACTIONS_ID_TOKEN_REQUEST_TOKEN: "y" };
      const started = Date.now();
      const lines = await send({ endpoint: "http://127.0.0.1:9", env, timeoutMs: 200 });
      assert(Date.now() - started < 1000);
      assert.match(lines[0] ?? "", /no answer within 200 ms/);
    });
  });

  it("is never printed, whatever goes wrong", async () => {
    const secrets = ["s3cret-token", "whsec_c2VjcmV0LWtleQ==", "p4ssword"];
    const lines = [
      ...(await send({ endpoint: "https://user:p4ssword@127.0.0.1:9", token: "s3cret-token" })),
      ...(await send({ endpoint: "http://127.0.0.1:9", token: "s3cret-token\nx: y" })),
      ...(await send({ endpoint: "http://127.0.0.1:9", token: "s3cret-tokenü" })),
      ...(await send({ endpoint: "http://127.0.0.1:9", signingKey: "whsec_c2VjcmV0LWtleQ==" })),
      ...(await send({ endpoint: "p4ssword", token: "s3cret-token" })),
    ];
    assert.equal(lines.length, 5);
    for (const line of lines) for (const secret of secrets) assert(!line.includes(secret), line);
  });
});

describe("the endpoint", () => {
  it("gets /build-events appended, unless it is there", async () => {
    await using(await endpoint(), async (server) => {
      for (const path of ["", "/", "/ci", "/ci/", "/build-events", "/v1/build-events/", "/ci?x=1"]) await send({ endpoint: server.url + path });
      assert.deepEqual(
        server.received.map(({ url }) => url),
        ["/build-events", "/build-events", "/ci/build-events", "/ci/build-events", "/build-events", "/v1/build-events", "/ci/build-events?x=1"],
      );
    });
  });

  it("that answers other than 2xx makes one warning with advice", async () => {
    const advice: [number, RegExp][] = [
      [302, /set SPANHOOK_ENDPOINT to the address/],
      [401, /set SPANHOOK_TOKEN, SPANHOOK_SIGNING_KEY or/],
      [404, /check the path of SPANHOOK_ENDPOINT/],
      [413, /do the versions/],
      [429, /logs of the endpoint/],
      [503, /logs of the endpoint/],
    ];
    for (const [status, text] of advice) {
      await using(await endpoint(status, "{}", { location: "/elsewhere" }), async (server) => {
        const lines = await send({ endpoint: server.url });
        assert.equal(lines.length, 1);
        assert.match(lines[0] ?? "", text);
        assert.match(lines[0] ?? "", new RegExp(`answered ${status}`));
        assert.equal(server.received.length, 1, "redirects are not followed");
      });
    }
  });

  it("that is no URL makes a warning, not an exception", async () => {
    assert.match((await send({ endpoint: "spanhook" }))[0] ?? "", /is not a URL/);
    assert.match((await send({ endpoint: "ftp://x/" }))[0] ?? "", /must start with https/);
  });
});

describe("name servers", () => {
  it("that are silent do not hold the build", async () => {
    const silent = createSocket("udp4");
    await new Promise<void>((bound) => silent.bind(0, "127.0.0.1", bound));
    const resolver = new Resolver({ timeout: 60_000, tries: 1 });
    resolver.setServers([`127.0.0.1:${silent.address().port}`]);
    const started = Date.now();
    // AbortSignal.timeout does not keep the process alive by itself; here nothing else does.
    const keep = setTimeout(() => undefined, 5000);
    await assert.rejects(checkNameServers("spanhook.example.com", AbortSignal.timeout(100), resolver), /no name server answered/);
    clearTimeout(keep);
    assert(Date.now() - started < 2000);
    silent.close();
  });

  it("are not asked about addresses", async () => {
    const nobody = { resolve4: () => assert.fail() } as unknown as Resolver;
    for (const host of ["127.0.0.1", "[::1]", "localhost"]) await checkNameServers(host, AbortSignal.timeout(100), nobody);
  });
});

describe("strict", () => {
  it("throws what is otherwise a warning", async () => {
    await using(await endpoint(500), async (server) => {
      await assert.rejects(send({ endpoint: server.url, strict: true }), /answered 500/);
    });
  });

  it("only warns when the build failed: its own error is the one to show", async () => {
    await using(await endpoint(500), async (server) => {
      assert.equal((await send({ endpoint: server.url, strict: true }, { ...done, status: "failed" })).length, 1);
    });
  });
});

describe("the plugin itself", () => {
  it("warns when statistics are not as expected, and does not throw", async () => {
    const lines: string[] = [];
    const describeBuild = (): Build => {
      throw new TypeError("no assets in /home/someone");
    };
    await report(describeBuild, { endpoint: "http://127.0.0.1:9", correlationId: "1", warn: (line) => lines.push(line) });
    assert.deepEqual(lines, ["spanhook: build event not sent: unexpected TypeError: please report it"]);
  });

  it("is silent on a laptop, and warns in a CI that has no known run id", async () => {
    assert.deepEqual(await send({ endpoint: "http://127.0.0.1:9", correlationId: "", env: {} }), []);
    const lines = await send({ endpoint: "http://127.0.0.1:9", correlationId: "", env: { CI: "true" } });
    assert.match(lines.join("\n"), /^spanhook: .*set CORRELATION_ID$/);
  });

  it("keeps the body below 200 KB and the metrics exact", async () => {
    const long = "ü".repeat(5000);
    const files = Array.from({ length: 20 }, (_, index) => `${index}${long}`);
    const chunk = { names: files, files, size: 1, entry: true, initial: true };
    const details = {
      largest_assets: files.map((name) => ({ name, size: 1 })),
      chunks: Array.from({ length: 50 }, () => chunk),
    };
    await using(await endpoint(), async (server) => {
      await send({ endpoint: server.url, project: long }, { ...done, details });
      const body = server.received[0]?.body ?? "";
      assert(Buffer.byteLength(body) < 200_000);
      const event = JSON.parse(body) as BuildEvent;
      assert.deepEqual(event.metrics, done.metrics);
      assert.equal(event.details.largest_assets.length, 20);
      assert(event.details.chunks.length > 0);
    });
  });
});
