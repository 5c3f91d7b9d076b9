#!/usr/bin/env python3
"""Times each built function from exec to its first call for work, and sizes its zip.

usage: benches/cold-start.py target/lambda [rounds]
"""
import http.server, io, os, statistics, subprocess, sys, threading, time, zipfile

SETTINGS = {
    "AWS_LAMBDA_FUNCTION_NAME": "cold", "AWS_LAMBDA_FUNCTION_VERSION": "1", "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "256",
    "AWS_LAMBDA_LOG_GROUP_NAME": "cold", "AWS_LAMBDA_LOG_STREAM_NAME": "cold", "AWS_REGION": "eu-west-1",
    "AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "CIRCLECI_HOOK_SECRET": "a-secret-of-the-benchmark",
    "GITLAB_SECRET_TOKEN": "a-secret-of-the-benchmark", "QUEUE_URL": "http://127.0.0.1:9/q", "DEAD_LETTER_QUEUE_URL": "http://127.0.0.1:9/d",
    "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9",
}
asked = threading.Event()


class Api(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        asked.set()
        time.sleep(5)  # there is no work

    def log_message(self, *_):
        pass


server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Api)
server.daemon_threads = True
threading.Thread(target=server.serve_forever, daemon=True).start()
folder, rounds = sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 30
for function in ["circleci-webhook", "gitlab-webhook", "traceparent", "forwarder"]:
    binary = os.path.join(folder, function, "bootstrap")
    times = []
    for _ in range(rounds):
        asked.clear()
        began = time.perf_counter()
        process = subprocess.Popen([binary], env={**SETTINGS, "AWS_LAMBDA_RUNTIME_API": f"127.0.0.1:{server.server_port}"}, stdout=subprocess.DEVNULL)
        if not asked.wait(10):
            sys.exit(f"{function} did not start")
        times.append((time.perf_counter() - began) * 1000)
        process.kill()
        process.wait()
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        archive.write(binary, "bootstrap")
    times.sort()
    print(f"{function:<18} start p50 {statistics.median(times):5.1f} ms  p90 {times[int(len(times) * .9)]:5.1f} ms   "
          f"binary {os.path.getsize(binary) / 1e6:5.2f} MB  zip {len(packed.getvalue()) / 1e6:5.2f} MB")
