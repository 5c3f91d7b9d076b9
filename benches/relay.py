#!/usr/bin/env python3
"""Loads `spanhook-relay` with a day of a busy cluster: an API server and a receiver in memory, over HTTP.

usage: benches/relay.py [path of the release binary] [start|day]

`start`: 10,000 objects that have ended are there when the relay starts.
`day`: 24 hours of 1,000 runs each, as fast as the relay reads them. A run is a PipelineRun and a TaskRun of 20 KB,
a Pod of 6 KB and three Events; a pruner deletes it an hour later. Objects have ids and sizes as real ones, but
no meaning: the receiver only counts.
"""
import collections, datetime, http.server, json, os, subprocess, sys, tempfile, threading, time, urllib.parse, urllib.request, uuid

BINARY = sys.argv[1] if len(sys.argv) > 1 else os.path.join(os.environ.get("CARGO_TARGET_DIR", "target"), "release/spanhook-relay")
WHAT = sys.argv[2:] or ["start", "day"]
PATHS = {
    "PipelineRun": "/apis/tekton.dev/v1/pipelineruns",
    "TaskRun": "/apis/tekton.dev/v1/taskruns",
    "Pod": "/api/v1/pods",
    "Event": "/api/v1/events",
}
AHEAD = 2000  # lines that a watch may be behind: what etcd and TCP hold in a cluster is bounded too


class Cluster:
    """Lists of what is there, and watches of what changes."""

    def __init__(self):
        self.changed = threading.Condition()
        self.version = 1
        self.objects = {path: {} for path in PATHS.values()}
        self.lines = {path: collections.deque() for path in PATHS.values()}
        self.watched = set()

    def put(self, path, uid, change, text):
        with self.changed:
            self.changed.wait_for(lambda: len(self.lines[path]) < AHEAD)
            self.version += 1
            text = text.replace("VERSION", str(self.version))
            if change == "DELETED":
                del self.objects[path][uid]
            else:
                self.objects[path][uid] = text
            self.lines[path].append(f'{{"type":"{change}","object":{text}}}\n'.encode())
            self.changed.notify_all()


class Api(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    cluster = None

    def do_GET(self):
        url = urllib.parse.urlsplit(self.path)
        asked = dict(urllib.parse.parse_qsl(url.query))
        if url.path not in self.cluster.objects:
            return self.answer(404, b'{"kind":"Status","apiVersion":"v1","metadata":{},"status":"Failure","reason":"NotFound","code":404}')
        if asked.get("watch") == "true":
            return self.watch(url.path)
        with self.cluster.changed:
            items = list(self.cluster.objects[url.path].values())
            version = self.cluster.version
        begin = int(asked.get("continue") or 0)
        end = begin + int(asked.get("limit", len(items)))
        more = str(end) if end < len(items) else ""
        body = f'{{"kind":"List","apiVersion":"v1","metadata":{{"resourceVersion":"{version}","continue":"{more}"}},"items":['
        self.answer(200, (body + ",".join(items[begin:end]) + "]}").encode())

    def watch(self, path):
        """A watch of each kind, from its list on: nothing changes before all are open."""
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.end_headers()
        self.close_connection = True
        changed, lines = self.cluster.changed, self.cluster.lines[path]
        with changed:
            self.cluster.watched.add(path)
            changed.notify_all()
        try:
            while True:
                with changed:
                    changed.wait_for(lambda: lines)
                    some = b"".join(lines)
                    lines.clear()
                    changed.notify_all()
                self.wfile.write(some)
        except OSError:
            pass  # the relay has ended

    def answer(self, status, body):
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


class Receiver(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    posts = size = 0
    seen = {}  # when an object came first, by uid

    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        now = time.monotonic()
        Receiver.posts += 1
        Receiver.size += len(body)
        for item in json.loads(body)["items"]:
            Receiver.seen.setdefault(item["object"]["metadata"]["uid"], now)
        answer = b'{"status":"accepted","spans":1,"trace_id":null}'
        self.send_response(202)
        self.send_header("content-length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_):
        pass


def serve(handler):
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return f"http://127.0.0.1:{server.server_port}"


class Relay:
    def __init__(self, cluster):
        Api.cluster = cluster
        Receiver.posts, Receiver.size, Receiver.seen = 0, 0, {}
        self.folder = tempfile.TemporaryDirectory()
        config = os.path.join(self.folder.name, "config")
        with open(config, "w") as file:
            json.dump({"apiVersion": "v1", "kind": "Config", "current-context": "x",
                       "clusters": [{"name": "c", "cluster": {"server": serve(Api)}}], "users": [{"name": "u", "user": {}}],
                       "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}]}, file)
        self.began = time.monotonic()
        self.process = subprocess.Popen(
            [BINARY, "--endpoint", serve(Receiver), "--listen", "127.0.0.1:0"],
            env={"KUBECONFIG": config, "KUBERNETES_SIGNING_KEY": "whsec_cmVsYXktcmVsYXktcmVsYXktcmVsYXktcmVsYXk=", "LOG_LEVEL": "warn"})

    def memory(self):
        """Now and at its most, in MB."""
        with open(f"/proc/{self.process.pid}/status") as file:
            fields = dict(line.split(":", 1) for line in file)
        return [int(fields[name].split()[0]) / 1024 for name in ("VmRSS", "VmHWM")]

    def cpu(self):
        with open(f"/proc/{self.process.pid}/stat") as file:
            fields = file.read().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def stop(self):
        self.process.terminate()
        if self.process.wait(60) != 0:
            sys.exit("the relay ended badly")
        self.folder.cleanup()


def at(seconds=0):
    return (datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%SZ")


SCRIPT = "set -e; make build; " * 850  # in spec and status of a run alike, as Tekton keeps it


def run(name, phase):
    """The objects of a run by kind, each as (uid, JSON): `phase` is Running or Ended."""
    ended = phase == "Ended"
    uid = lambda kind: str(uuid.uuid5(uuid.NAMESPACE_OID, f"{kind} {name}"))
    labels = {"event-GUID": uid("event"), "tekton.dev/pipelineRun": name, "tekton.dev/pipelineRunUID": uid("PipelineRun"),
              "tekton.dev/taskRun": f"{name}-build", "tekton.dev/taskRunUID": uid("TaskRun"), "tekton.dev/pipelineTask": "build",
              "lighthouse.jenkins-x.io/refs.org": "acme", "lighthouse.jenkins-x.io/refs.repo": "shop",
              "lighthouse.jenkins-x.io/lastCommitSHA": "4d3c2b1a4d3c2b1a4d3c2b1a4d3c2b1a4d3c2b1a"}
    meta = lambda kind, name: {"name": name, "namespace": "jx", "uid": uid(kind), "creationTimestamp": at(-60), "labels": labels, "resourceVersion": "VERSION",
                               "annotations": {"lighthouse.jenkins-x.io/cloneURI": "https://github.com/acme/shop.git"},
                               "managedFields": [{"manager": "controller", "fieldsV1": {f"f:{i}": {} for i in range(150)}}]}
    condition = {"type": "Succeeded", "status": "True" if ended else "Unknown", "reason": phase, "lastTransitionTime": at()}
    status = {"startTime": at(-50), "conditions": [condition]} | ({"completionTime": at()} if ended else {})
    state = {"terminated": {"exitCode": 0, "reason": "Completed", "startedAt": at(-40), "finishedAt": at()}} if ended else {"running": {"startedAt": at(-40)}}
    step = {"name": "build", "container": "step-build"} | state
    spec = {"steps": [{"name": "build", "script": SCRIPT[:8000]}]}
    pod = {"phase": "Succeeded" if ended else "Running", "startTime": at(-48), "containerStatuses": [{"name": "step-build", "image": "golang:1.26", "restartCount": 0, "state": state}],
           "conditions": [{"type": "PodScheduled", "status": "True", "lastTransitionTime": at(-48)}]}
    objects = {
        "PipelineRun": {"spec": {"pipelineSpec": spec}, "status": status | {"pipelineSpec": spec}, "metadata": meta("PipelineRun", name)},
        "TaskRun": {"spec": {"taskSpec": spec}, "status": status | {"taskSpec": spec, "steps": [step]}, "metadata": meta("TaskRun", f"{name}-build")},
        "Pod": {"spec": {"nodeName": "node-1", "containers": [{"name": "step-build", "image": "golang:1.26", "args": [SCRIPT[:3000]]}]}, "status": pod, "metadata": meta("Pod", f"{name}-pod")},
    }
    return {kind: (uid(kind), json.dumps({"apiVersion": "v1", "kind": kind} | it, separators=(",", ":"))) for kind, it in objects.items()}


def events(name, pod):
    for reason, message in [("Scheduled", "Successfully assigned"), ("Pulled", 'Successfully pulled image "golang:1.26" in 1.5s'), ("Started", "Started container")]:
        uid = str(uuid.uuid5(uuid.NAMESPACE_OID, f"{reason} {name}"))
        yield uid, json.dumps({"apiVersion": "v1", "kind": "Event", "reason": reason, "message": message, "lastTimestamp": at(),
                               "metadata": {"name": f"{name}.{reason}", "namespace": "jx", "uid": uid, "resourceVersion": "VERSION"},
                               "involvedObject": {"kind": "Pod", "namespace": "jx", "name": f"{name}-pod", "uid": pod, "fieldPath": "spec.containers{step-build}"}})


def wait(condition, what):
    until = time.monotonic() + 120
    while not condition():
        if time.monotonic() > until:
            sys.exit(f"not {what}: {len(Receiver.seen)}")
        time.sleep(0.01)


def start():
    cluster, runs = Cluster(), 2500
    for number in range(runs):
        objects = run(f"run-{number}", "Ended")
        for kind, (uid, text) in objects.items():
            cluster.objects[PATHS[kind]][uid] = text.replace("VERSION", "1")
        uid, text = next(events(f"run-{number}", objects["Pod"][0]))
        cluster.objects[PATHS["Event"]][uid] = text.replace("VERSION", "1")
    size = sum(len(text) for path in cluster.objects.values() for text in path.values())
    relay = Relay(cluster)
    wait(lambda: len(Receiver.seen) == 4 * runs, "10,000 objects at the receiver")
    now, most = relay.memory()
    print(f"start: 10,000 objects, {size / 1e6:.0f} MB: {time.monotonic() - relay.began:.1f} s, {relay.cpu():.1f} s of CPU, "
          f"{Receiver.posts} requests, {Receiver.size / 1e6:.1f} MB, memory at most {most:.0f} MB, then {now:.0f} MB")
    relay.stop()


def day():
    cluster, hourly = Cluster(), 1000
    relay = Relay(cluster)
    with cluster.changed:
        cluster.changed.wait_for(lambda: len(cluster.watched) == len(PATHS))
    ended, old, all_sent = {}, collections.deque(), 0
    for hour in range(1, 25):
        for number in range(hourly):
            name = f"run-{hour}-{number}"
            kept = {}
            for kind, (uid, text) in run(name, "Running").items():
                cluster.put(PATHS[kind], uid, "ADDED", text)
                kept[kind] = uid
            for uid, text in events(name, kept["Pod"]):
                cluster.put(PATHS["Event"], uid, "ADDED", text)
                old.append(("Event", uid, text))
            for kind, (uid, text) in reversed(run(name, "Ended").items()):
                cluster.put(PATHS[kind], uid, "MODIFIED", text)
                old.append((kind, uid, text))
            ended[kept["PipelineRun"]] = time.monotonic()
            all_sent += 5  # but the Event of a start, which tells nothing
            while len(old) > 6 * hourly:
                kind, uid, text = old.popleft()
                cluster.put(PATHS[kind], uid, "DELETED", text)
        if hour in (1, 6, 12, 18, 24):
            wait(lambda: len(Receiver.seen) == all_sent, f"all of {all_sent} objects at the receiver")
            now, most = relay.memory()
            delays = sorted(Receiver.seen[uid] - time for uid, time in ended.items())
            p50, p99 = (delays[int(len(delays) * part)] for part in (0.5, 0.99))
            print(f"day: hour {hour:2}: memory {now:.0f} MB, at most {most:.0f} MB; {relay.cpu():.0f} s of CPU, {Receiver.posts} requests, "
                  f"{Receiver.size / 1e6:.0f} MB; from the end of a run to the receiver p50 {p50:.2f} s, p99 {p99:.2f} s", flush=True)
    print(f"day: {24 * hourly} runs in {time.monotonic() - relay.began:.0f} s, {len(Receiver.seen)} objects sent")
    relay.stop()


for name in WHAT:
    {"start": start, "day": day}[name]()
