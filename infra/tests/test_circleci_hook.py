"""The switch from circleci-hook: its users' one address, for the webhook and for jobs."""

import hashlib
import hmac
import re
import subprocess
import urllib.request
from pathlib import Path

from serve import SECRET, Serve

PAGE = (Path(__file__).parents[2] / "docs/from-circleci-hook.md").read_text()
WORKFLOW, JOB = "411439c5-f099-5b64-9c6b-206053d273ec", "02afb910-f1f7-5620-9353-b9b54b548181"
PING = (
    b'{"type":"ping","id":"92e0554a-837f-4086-913b-0dc7665d2a84","happened_at":"2026-11-02T09:30:00Z",'
    b'"webhook":{"id":"d4ab06bc-eb79-463d-8aa4-47d066382d3b","name":"spanhook"}}'
)


class Nowhere:
    """A Collector that is not there yet."""

    endpoint = "http://127.0.0.1:9"


def test_one_address_serves_the_webhook_and_the_jobs_step_of_the_page(tmp_path):
    (step,) = re.findall(r"`(curl [^`]*HOOK_URL/traceparent[^`]*)`", PAGE)
    with Serve(tmp_path, Nowhere, CIRCLECI_HOOK_SECRET=SECRET, TRACE_IDS="native") as spanhook:
        signature = "v1=" + hmac.new(SECRET.encode(), PING, hashlib.sha256).hexdigest()
        headers = {"circleci-signature": signature, "circleci-event-type": "ping", "content-type": "application/json"}
        request = urllib.request.Request(spanhook.endpoint, PING, headers)
        with urllib.request.urlopen(request, timeout=10) as answer:
            assert answer.status == 202
        env = {
            "PATH": "/usr/bin:/bin", "HOOK_URL": spanhook.endpoint, "BASH_ENV": str(tmp_path / "bash_env"),
            "CIRCLE_WORKFLOW_ID": WORKFLOW, "CIRCLE_WORKFLOW_JOB_ID": JOB,
        }
        subprocess.run(["bash", "-c", step], env=env, check=True)
        log = spanhook.log()
    # As circleci-hook gave it: the workflow's id and the first half of the job's.
    expected = f"export TRACEPARENT=00-{WORKFLOW.replace('-', '')}-{JOB.replace('-', '')[:16]}-01\n"
    assert (tmp_path / "bash_env").read_text() == expected
    # What the page tells people to look for.
    assert "a ping arrived" in log and "a ping arrived" in PAGE
