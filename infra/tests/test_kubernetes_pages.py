"""The pages on Lighthouse, Tekton and the plugin tell what the snapshots of the mapping and the tests show."""

import hashlib
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
PLUGIN = (ROOT / "docs" / "from-lighthouse-telemetry-plugin.md").read_text()
PAGE = (ROOT / "docs" / "kubernetes.md").read_text()
SNAPSHOTS = "".join(
    path.read_text() for path in sorted((ROOT / "shared/core/tests/kubernetes/snapshots").glob("*.snap"))
)


def spans():
    """(service.name, name, kind, id) of every span of the snapshots, and its error, if it has one."""
    service = None
    for block in re.split(r"^(?=resource$|(?:SERVER|INTERNAL) \")", SNAPSHOTS, flags=re.M):
        def of(key, block=block):
            return (re.findall(rf'^  {re.escape(key)} = "(.*)"$', block, re.M) or [""])[0]

        service = of("service.name") or service
        if span := re.match(r'\w+ "(.*)"(?: ERROR)?\n  id (\w+)', block):
            yield (service, span[1], of("spanhook.kind"), span[2]), of("error.type")


SPANS = dict(spans())
PARENTS = dict(re.findall(r"^  id (\w+) parent (\w+)$", SNAPSHOTS, re.M))
ATTRIBUTES = set(re.findall(r"^  ([\w.]+) = ", SNAPSHOTS, re.M))


def table(page, heading):
    """The cells of the first table below a heading."""
    rows = page.split(f"\n{heading}\n")[1].split("\n| --- |")[1].split("\n\n")[0].splitlines()[1:]
    return [[cell.strip() for cell in row.split("|")[1:-1]] for row in rows]


def code(cell):
    return re.findall(r"`([^`]+)`", cell)


def test_the_snapshots_are_read():
    assert len(SPANS) > 50 and {"lighthouse", "tekton", "kubernetes"} == {service for service, *_ in SPANS}


def test_every_span_beside_the_plugins_is_one_of_the_snapshots():
    shown = {(service, name, kind) for service, name, kind, _ in SPANS}
    rows = [row for row in table(PLUGIN, "## Spans") if row[2]]
    assert len(rows) == 18
    for _, here, kinds, _ in rows:
        service, *names = code(rows[0][1] if here == "the same" else here)
        for name in names:
            assert any((service, name, kind) in shown for kind in code(kinds)), (service, name, kinds)
    # None is left out.
    assert {kind for row in rows for kind in code(row[2])} == {kind for _, _, kind, _ in SPANS}


def test_every_attribute_in_the_plugins_place_is_one_of_the_snapshots():
    rows = table(PLUGIN, "## Attributes")
    named = {name for _, here in rows for name in code(here) if "." in name}
    assert len(rows) == 14 and named - ATTRIBUTES == set()


def test_every_test_beside_a_fault_is_there():
    rows = table(PLUGIN, "## Faults that are gone")
    folders = [ROOT / "shared/core/tests/kubernetes", ROOT / "relay/tests"]
    sources = "".join(path.read_text() for folder in folders for path in folder.glob("*.rs"))
    assert len(rows) == 12
    for fault, _, tests in rows:
        assert code(tests), fault
        for name in code(tests):
            assert re.search(rf"^\s*(?:async )?fn {name}\(", sources, re.M), name


def test_every_cause_of_a_failure_is_one_of_the_snapshots():
    causes = {error for _, cell, _ in table(PAGE, "### What failed") for error in code(cell)}
    errors = set(SPANS.values()) - {""}
    assert causes - errors == set() and len(causes) > 10


def test_the_tree_is_the_one_of_the_snapshots():
    tree = PAGE.split("## The trace")[1].split("```")[1].splitlines()
    trace, *lines = [line for line in tree if line]
    of = {span: (name, kind, error) for (_, name, kind, span), error in SPANS.items()}

    def hashed(length, *fields):
        text = "".join(f"{len(it)}:{it}," for it in ("spanhook/1", "kubernetes", "prod", *fields))
        return hashlib.sha256(text.encode()).hexdigest()[: 2 * length]

    # The event is in the snapshots of another cluster.
    guid = "6f1d2c3b-00aa-11f1-9c3d-5a6b7c8d9e0f"
    of[hashed(8, "event", guid)] = ("push", "event", "")
    assert trace.split()[1] == hashed(16, "trace", "event", guid)
    above = []
    for line in lines:
        shape = r"([│├└ ]*)(\S.*?)  +(?:(\w+) +)?(\w+) +([0-9a-f]{16})(?:   .*)?"
        branch, name, error, kind, span = re.fullmatch(shape, line).groups()
        assert of[span] == (name, kind, error or ""), line
        above[len(branch) // 2:] = [span]
        # The run's parent is the event, of which the snapshot of objects alone has none.
        if kind not in ("event", "run"):
            assert PARENTS[span] == above[-2], line
    assert len(lines) == 20


def test_what_is_asked_by_hand_is_the_step_of_the_tree():
    (asked,) = re.findall(r"^# export TRACEPARENT=00-(\w+)-(\w+)-01$", PAGE, re.M)
    (trace,) = re.findall(r"^trace (\w{32})", PAGE, re.M)
    (step,) = re.findall(r"build +OOMKilled +step +(\w+)", PAGE)
    assert asked == (trace, step)
