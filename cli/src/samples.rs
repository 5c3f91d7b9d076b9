//! The sample deliveries of `events/`, so that the demo runs from anywhere.

/// Name and body of each, in the order in which a provider would send them.
pub(crate) const ALL: [(&str, &str); 15] = [
    ("circleci/ping.json", include_str!("../../events/circleci/ping.json")),
    (
        "circleci/job-completed-lint.json",
        include_str!("../../events/circleci/job-completed-lint.json"),
    ),
    (
        "circleci/job-completed-unit-tests.json",
        include_str!("../../events/circleci/job-completed-unit-tests.json"),
    ),
    (
        "circleci/job-completed-build-image.json",
        include_str!("../../events/circleci/job-completed-build-image.json"),
    ),
    (
        "circleci/job-completed-browser-tests.json",
        include_str!("../../events/circleci/job-completed-browser-tests.json"),
    ),
    (
        "circleci/workflow-completed.json",
        include_str!("../../events/circleci/workflow-completed.json"),
    ),
    (
        "circleci/workflow-completed-github-app.json",
        include_str!("../../events/circleci/workflow-completed-github-app.json"),
    ),
    ("gitlab/pipeline-running.json", include_str!("../../events/gitlab/pipeline-running.json")),
    ("gitlab/job-failed.json", include_str!("../../events/gitlab/job-failed.json")),
    ("gitlab/pipeline-failed.json", include_str!("../../events/gitlab/pipeline-failed.json")),
    (
        "gitlab/pipeline-child-success.json",
        include_str!("../../events/gitlab/pipeline-child-success.json"),
    ),
    ("github/workflow-job-build.json", include_str!("../../events/github/workflow-job-build.json")),
    (
        "github/workflow-job-test-failed.json",
        include_str!("../../events/github/workflow-job-test-failed.json"),
    ),
    (
        "github/workflow-job-deploy-skipped.json",
        include_str!("../../events/github/workflow-job-deploy-skipped.json"),
    ),
    (
        "github/workflow-run-failed.json",
        include_str!("../../events/github/workflow-run-failed.json"),
    ),
];

/// What a job of the failed pipeline reported of its build.
pub(crate) const BUILD_EVENTS: (&str, &str) = (
    "build-events/bundle-of-a-gitlab-job.json",
    include_str!("../../events/build-events/bundle-of-a-gitlab-job.json"),
);
