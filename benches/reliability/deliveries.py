"""Deliveries of all providers, from the samples in events/: each has ids of its own, and is signed when it is sent.

What a delivery is follows from its number alone, so a second run can send the same ones again.
"""

import base64
import copy
import dataclasses
import hashlib
import hmac
import json
import pathlib
import re
import time
import uuid

EVENTS = pathlib.Path(__file__).parents[2] / "events"

# What signs, and its variable. The keys of Standard Webhooks are base64.
SECRET = "a-secret-of-the-reliability-runs"
KEY = "whsec_" + base64.b64encode(SECRET.encode()).decode()
SETTINGS = {
    "CIRCLECI_HOOK_SECRET": SECRET,
    "GITLAB_SIGNING_TOKEN": KEY,
    "GITHUB_WEBHOOK_SECRET": SECRET,
    "LIGHTHOUSE_HMAC_KEY": SECRET,
    "LIGHTHOUSE_SOURCES": "both",
    "TEKTON_SIGNING_KEY": KEY,
    "KUBERNETES_SIGNING_KEY": KEY,
    "BUILD_EVENTS_SIGNING_KEY": KEY,
    "WEBHOOK_METRICS": "true",
}
SIGNATURES = {
    "circleci": ("circleci-signature", "v1="),
    "github": ("x-hub-signature-256", "sha256="),
    "lighthouse": ("x-lighthouse-signature", "sha256="),
}

# What a payload of Lighthouse is about, by its key; a push has none of them.
KINDS = {
    "DeploymentStatus": "deployment_status", "Review": "review", "Comment": "issue_comment", "PullRequest": "pull_request",
}  # fmt: skip

UUID = re.compile(r"\b[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\b")
# Ids of traces and spans in what a job exports; a number of as many digits is none.
HEX = re.compile(r"(?<![0-9a-f-])(?=[0-9]*[a-f])(?:[0-9a-f]{32}|[0-9a-f]{16})(?![0-9a-f-])")
# A job in a pipeline of GitLab that is larger than one message of a queue.
LARGE = 1200


@dataclasses.dataclass(frozen=True)
class Delivery:
    """A body and where it goes."""

    number: int
    sample: str
    body: bytes

    @property
    def provider(self):
        return self.sample.split("/")[0]

    @property
    def path(self):
        if self.provider == "otlp":
            return f"/v1/{self.sample.split('/')[1]}"
        return f"/{self.provider}"

    def headers(self):
        """With a proof that holds for the next five minutes."""
        headers = {"content-type": "application/json"}
        if self.provider in SIGNATURES:
            name, prefix = SIGNATURES[self.provider]
            headers[name] = prefix + hmac.new(SECRET.encode(), self.body, hashlib.sha256).hexdigest()
        else:
            headers |= standard_webhooks(self.body, str(self.number))
        if self.provider == "github":
            about = [it for it in ("workflow_run", "workflow_job", "check_run") if f'"{it}"'.encode() in self.body]
            headers |= {"x-github-event": about[0] if about else "push", "x-github-delivery": str(self.number)}
        elif self.provider == "lighthouse":
            about = json.loads(self.body)
            activity = "jobId" in about
            headers["x-lighthouse-payload-type"] = "activity" if activity else "webhook"
            if not activity:
                headers["x-lighthouse-webhook-kind"] = next((it for key, it in KINDS.items() if key in about), "push")
        elif self.provider == "tekton":
            headers |= {"ce-id": str(self.number), "ce-specversion": "1.0", "ce-type": "dev.tekton.event.taskrun.successful.v1"}
        return headers


def standard_webhooks(body, number):
    now = str(int(time.time()))
    mac = hmac.new(SECRET.encode(), f"{number}.{now}.".encode() + body, hashlib.sha256)
    signature = "v1," + base64.b64encode(mac.digest()).decode()
    return {"webhook-id": number, "webhook-timestamp": now, "webhook-signature": signature}


class Samples:
    """All samples, as templates. `names` narrows them down."""

    def __init__(self, names=None):
        self.texts = {
            f"{path.parent.name}/{path.stem}": path.read_text()
            for path in sorted(EVENTS.glob("*/*.json"))
            if path.parent.name != "lambda"
        }
        self.texts["gitlab/large"] = json.dumps(large(json.loads(self.texts["gitlab/pipeline-failed"])))
        if names is not None:
            self.texts = {name: self.texts[name] for name in names}
        self.ids = {name: list(numbers(text)) for name, text in self.texts.items()}

    def make(self, number, sample):
        """The delivery of a number; its ids are in no other number's."""
        text = self.texts[sample]
        seed = uuid.uuid5(uuid.NAMESPACE_OID, str(number))
        text = UUID.sub(lambda it: str(uuid.uuid5(seed, it[0])), text)
        text = HEX.sub(lambda it: hashlib.sha256(seed.bytes + it[0].encode()).hexdigest()[: len(it[0])], text)
        # A run is known by a number of its provider's, which also stands in addresses.
        if self.ids[sample]:
            known = "|".join(self.ids[sample])
            text = re.sub(rf"(?<![0-9a-f.]){{1}}(?:{known})(?![0-9a-f])", lambda it: f"{100_000 + number}{it[0]}", text)
        # What has no id but its project's name, as a push or a metric of all runs, or its service's.
        text = re.sub(r'\b(acme)\b|(?<="stringValue": ")(make)(?=")', rf"\g<0>-{number}", text, flags=re.IGNORECASE)
        text = re.sub(r'("correlation_id": ?"[a-z][^"]*)"', rf'\1-{number}"', text)
        return Delivery(number, sample, text.encode())


def numbers(text):
    """What a payload has for ids, as digits, the longest first."""
    found = set()

    def walk(value, key=""):
        if isinstance(value, dict):
            for name, it in value.items():
                walk(it, name)
        elif isinstance(value, list):
            for it in value:
                walk(it, key)
        elif re.search(r"(^|_)id$", key, re.IGNORECASE) and re.fullmatch(r"[1-9][0-9]{4,11}", str(value)):
            found.add(str(value))

    walk(json.loads(text))
    return sorted(found, key=lambda it: (-len(it), it))


def large(pipeline):
    """A pipeline of so many jobs that its spans go out as several messages."""
    (job, *_) = (it for it in pipeline["builds"] if it.get("finished_at"))
    for number in range(LARGE):
        another = copy.deepcopy(job)
        another |= {"id": 7_000_000 + number, "name": f"job {number}"}
        pipeline["builds"].append(another)
    return pipeline
