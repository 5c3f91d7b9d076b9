"""What was answered 2xx arrives, whatever fails meanwhile: benches/reliability/chaos.py for a few minutes."""

import datetime
import os
import pathlib
import subprocess
import sys

import pytest

RELIABILITY = pathlib.Path(__file__).parents[2] / "benches" / "reliability"
sys.path.insert(0, str(RELIABILITY))

import ledger  # noqa: E402
import processes  # noqa: E402
from chaos import connections  # noqa: E402
from deliveries import Samples  # noqa: E402
from report import Result  # noqa: E402


@pytest.fixture(autouse=True)
def built():
    for name in ("SPANHOOK_BINARY", "SPANHOOK_PARTS", "SPANHOOK_FUNCTIONS"):
        if not os.environ.get(name):
            pytest.skip(f"{name} is unset")


def written(folder, samples, number):
    """What becomes of every sample, under one number."""
    with processes.sink(folder / "sink") as sink, processes.serve(folder, folder / "queue", sink.endpoint) as serve:
        post, _ = connections(serve.endpoint)
        for name in samples.texts:
            status, _ = post(samples.make(number, name))
            assert status < 300, name
        processes.collector.until(lambda: processes.status(serve)["queued"] == 0)
    return ledger.written(sink.folder)


def test_no_two_deliveries_have_a_span_in_common_so_that_none_can_hide_a_loss(tmp_path):
    samples = Samples()
    one, another = (written(tmp_path / str(number), samples, number) for number in (1, 2))
    assert len(one) == len(another) > 1000
    assert not one.keys() & another.keys()


def test_the_ledger_notices_what_is_missing_and_what_nobody_sent(tmp_path):
    def write(folder, *names):
        spans = ", ".join(f'{{"traceId": "aa", "name": "{it}", "startTimeUnixNano": "1"}}' for it in names)
        folder.mkdir()
        line = f'{{"resourceSpans": [{{"scopeSpans": [{{"spans": [{spans}]}}]}}]}}\n'
        # Twice, and cut off by a SIGKILL in between.
        (folder / "traces.jsonl").write_text(line + line[: len(line) // 2] + line)
        return folder

    result = Result("serve", write(tmp_path / "run", "a", "b", "of nobody"), ledger.Ledger(), [], None)
    result.ledger.answers = {7: ("accepted", 2, "aa")}
    result.waiting, result.drained, result.dead = 1, 0.5, 0
    promised, possible = write(tmp_path / "promised", "a", "gone"), write(tmp_path / "possible", "b")
    result.compare({7: ("accepted", 2, "aa")}, promised, possible)
    assert (result.twice, result.unknown, len(result.missing)) == (3, 1, 1)
    missing, unknown = result.failures()
    assert "gone" in missing and "1 items" in unknown


def test_what_was_answered_2xx_arrives_whatever_fails_meanwhile(tmp_path):
    # Other faults every day, and the same ones again for whoever looks into a failure.
    seed = os.environ.get("SPANHOOK_CHAOS_SEED", datetime.date.today().isoformat())
    minutes = os.environ.get("SPANHOOK_CHAOS_MINUTES", "5")
    command = [sys.executable, RELIABILITY / "chaos.py", "--minutes", minutes, "--seed", seed, "--keep", tmp_path / "run"]
    done = subprocess.run(command, capture_output=True, text=True)
    print(done.stdout)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
