import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { define } from "@spanhook/bundler";
import { correlationId, readContext } from "../dist/context.js";

const traceparent = "00-0123456789abcdef0123456789abcdef-0123456789abcdef-01";

const circleci = {
  CIRCLECI: "true",
  CIRCLE_WORKFLOW_ID: "cedf175c-c537-49f8-9b5c-95892f0b2407",
  CIRCLE_WORKFLOW_JOB_ID: "3f6a7c4a-0bb6-463a-bd0c-3d5e0b1b1d34",
  CIRCLE_BUILD_URL: "https://app.circleci.com/jobs/github/acme/shop/12",
  CIRCLE_PROJECT_USERNAME: "acme",
  CIRCLE_PROJECT_REPONAME: "shop",
  CIRCLE_BRANCH: "main",
  CIRCLE_SHA1: "aaa",
  CIRCLE_USERNAME: "a person",
};

const gitlab = {
  GITLAB_CI: "true",
  CI_SERVER_HOST: "GitLab.Example.com",
  CI_SERVER_PORT: "443",
  CI_SERVER_PROTOCOL: "https",
  CI_PIPELINE_ID: "2722508965",
  CI_JOB_ID: "15651125844",
  CI_PROJECT_PATH: "acme/shop",
  CI_COMMIT_REF_NAME: "main",
  CI_COMMIT_SHA: "bbb",
  CI_TRACEPARENT: "00-000000000000000000000000a24630a5-7b1a45c63d0a837b-01",
  CI_COMMIT_AUTHOR: "A Person <a@example.com>",
};

const github = {
  GITHUB_ACTIONS: "true",
  GITHUB_SERVER_URL: "https://github.com",
  GITHUB_RUN_ID: "99",
  GITHUB_RUN_ATTEMPT: "2",
  GITHUB_JOB: "build", // a name: the endpoint wants the number of the check run
  GITHUB_REPOSITORY: "acme/shop",
  GITHUB_REF_NAME: "12/merge",
  GITHUB_HEAD_REF: "feature",
  GITHUB_SHA: "ccc",
  GITHUB_ACTOR: "a-person",
};

describe("the context", () => {
  it("of a GitLab job has no root that is too large for a pipeline", () => {
    const foreign = `00-${"f".repeat(32)}-7b1a45c63d0a837b-01`;
    assert.equal(readContext({ ...gitlab, CI_TRACEPARENT: foreign }).root_id, undefined);
  });

  it("of a CircleCI job", () => {
    assert.deepEqual(readContext({ ...circleci, TRACEPARENT: traceparent }), {
      provider: "circleci",
      host: "circleci.com",
      run_id: "cedf175c-c537-49f8-9b5c-95892f0b2407",
      job_id: "3f6a7c4a-0bb6-463a-bd0c-3d5e0b1b1d34",
      project: "acme/shop",
      ref: "main",
      revision: "aaa",
      traceparent,
    });
    assert.equal(readContext({ ...circleci, CIRCLE_BUILD_URL: "https://ci.acme.example/gh/acme/shop/1" }).host, "ci.acme.example");
    assert.equal(readContext({ ...circleci, CIRCLE_BRANCH: "", CIRCLE_TAG: "v1" }).ref, "v1");
  });

  it("of a GitLab job", () => {
    assert.deepEqual(readContext(gitlab), {
      provider: "gitlab",
      host: "gitlab.example.com",
      run_id: "2722508965",
      job_id: "15651125844",
      project: "acme/shop",
      ref: "main",
      revision: "bbb",
      root_id: "2722508965",
    });
    assert.equal(readContext({ ...gitlab, CI_SERVER_PORT: "8443" }).host, "gitlab.example.com:8443");
    assert.equal(readContext({ ...gitlab, CI_SERVER_PORT: "80", CI_SERVER_PROTOCOL: "http" }).host, "gitlab.example.com");
    assert.equal(readContext({ ...gitlab, CI_TRACEPARENT: undefined }).root_id, undefined);
  });

  it("of a GitHub job", () => {
    assert.deepEqual(readContext(github), {
      provider: "github",
      host: "github.com",
      run_id: "99",
      attempt: "2",
      project: "acme/shop",
      ref: "feature",
      revision: "ccc",
    });
    assert.equal(readContext({ ...github, GITHUB_HEAD_REF: "", GITHUB_REF_NAME: "main" }).ref, "main");
    assert.equal(readContext({ ...github, GITHUB_SERVER_URL: "https://GHES.example.com:8443" }).host, "ghes.example.com:8443");
    assert.equal(readContext({ ...github, JOB_CHECK_RUN_ID: "7" }).job_id, "7");
    assert.equal(readContext({ ...github, JOB_CHECK_RUN_ID: "7", SPANHOOK_JOB_ID: "8" }).job_id, "8");
  });

  it("outside CI is empty, and never names a person", () => {
    assert.deepEqual(readContext({}), {});
    for (const env of [circleci, gitlab, github]) assert.doesNotMatch(JSON.stringify(readContext(env)), /person/i);
  });
});

describe("the correlation id", () => {
  it("is the option, then CORRELATION_ID, then BUILD_CORRELATION_ID, then the id of the CI run", () => {
    const mobile = { ...gitlab, BUILD_CORRELATION_ID: "mobile-build-77" };
    const env = { ...mobile, CORRELATION_ID: "mine" };
    assert.equal(correlationId({ env: mobile }), "mobile-build-77");
    assert.equal(correlationId({ correlationId: "option", env }), "option");
    assert.equal(correlationId({ env }), "mine");
    assert.equal(correlationId({ env: gitlab }), "2722508965");
    assert.equal(correlationId({ env: circleci }), "cedf175c-c537-49f8-9b5c-95892f0b2407");
    assert.equal(correlationId({ env: github }), "99");
    assert.equal(correlationId({ env: {} }), undefined);
  });

  it("becomes a constant for the app", () => {
    assert.deepEqual(define({ env: gitlab }), { __BUILD_ID__: '"2722508965"' });
    assert.deepEqual(define({ correlationId: 'a"b' }), { __BUILD_ID__: '"a\\"b"' });
    assert.deepEqual(define({ env: {} }), { __BUILD_ID__: '"local"' });
  });
});
