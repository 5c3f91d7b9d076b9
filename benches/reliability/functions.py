"""The built functions as AWS runs them: a Runtime API for each, an SQS server, and an event source mapping.

https://docs.aws.amazon.com/lambda/latest/dg/runtimes-api.html
https://docs.aws.amazon.com/lambda/latest/dg/services-sqs-errorhandling.html
"""

import base64
import contextlib
import http.server
import itertools
import json
import os
import pathlib
import queue
import signal
import sys
import threading
import time

import boto3
import botocore.config
from deliveries import SETTINGS
from processes import Process, collector, needed

SQS = pathlib.Path(__file__).parents[2] / "tests" / "parts" / "sqs" / "run.sh"
# As in template.yaml but for times, which are shorter so that what a fault hid is soon back: seconds that a webhook
# function and the forwarder may take, and for which a message that was received is hidden.
WEBHOOK_TIMEOUT, FORWARDER_TIMEOUT, VISIBILITY = 10, 10, 15
BATCH, WINDOW = 1000, 0.5
RECEIVES = 1000  # then a message is a dead letter


class Api(http.server.BaseHTTPRequestHandler):
    """The Runtime API of one function, which `self.server.function` is."""

    protocol_version = "HTTP/1.1"

    def do_GET(self):
        function = self.server.function
        if not function.alive:
            return
        invocation = function.waiting.get()
        if invocation is None:
            self.close_connection = True
            return
        headers = {
            "lambda-runtime-aws-request-id": invocation.id,
            "lambda-runtime-deadline-ms": str(int((time.time() + function.timeout) * 1000)),
            "lambda-runtime-invoked-function-arn": "arn:aws:lambda:eu-west-1:1:function:test",
        }
        function.current = invocation
        self.answer(200, json.dumps(invocation.event).encode(), headers)

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("content-length") or 0))
        if self.headers.get("transfer-encoding") == "chunked":
            while size := int(self.rfile.readline().strip() or b"0", 16):
                body += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
        invocation, what = self.server.function.current, self.path.rsplit("/", 2)
        if invocation and what[1] == invocation.id:
            invocation.answer.put(json.loads(body) if what[2] == "response" else None)
        self.answer(202, b"{}", {})

    def answer(self, status, body, headers):
        try:
            self.send_response(status)
            for name, value in {**headers, "content-type": "application/json", "content-length": str(len(body))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)
        except OSError:
            self.close_connection = True  # the function was killed meanwhile

    def log_message(self, *_):
        pass


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_):
        if not isinstance(sys.exc_info()[1], ConnectionError):  # the function was killed
            super().handle_error(*_)


class Invocation:
    ids = itertools.count()

    def __init__(self, event):
        self.event, self.id, self.answer = event, f"request-{next(self.ids)}", queue.Queue()


class Function:
    """One sandbox of a function, which takes one event at a time. It is started again when it has ended."""

    def __init__(self, name, folder, env, timeout):
        self.name, self.timeout = name, timeout
        self.turn, self.waiting, self.current, self.alive = threading.Lock(), queue.Queue(), None, True
        self.server = Server(("127.0.0.1", 0), Api)
        self.server.function = self
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        env = {
            "AWS_LAMBDA_RUNTIME_API": f"127.0.0.1:{self.server.server_port}",
            "AWS_LAMBDA_FUNCTION_NAME": name, "AWS_LAMBDA_FUNCTION_VERSION": "$LATEST",
            "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "256", "AWS_LAMBDA_LOG_GROUP_NAME": name,
            "AWS_LAMBDA_LOG_STREAM_NAME": "chaos", "AWS_REGION": "eu-west-1",
            "AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", **env,
        }  # fmt: skip
        bootstrap = needed("SPANHOOK_FUNCTIONS", "the folder of the built functions") / name / "bootstrap"
        self.process = Process(name, [bootstrap], folder, env)
        self.killed = 0

    def __enter__(self):
        self.process.start()
        return self

    def __exit__(self, *_):
        self.alive = False
        self.process.send(signal.SIGCONT)
        self.process.end()
        self.waiting.put(None)
        self.server.shutdown()
        self.server.server_close()

    def kill(self):
        """What was under way has no answer."""
        self.killed += 1
        self.process.end()
        current, self.current = self.current, None
        if current:
            current.answer.put(None)
        # A question for work that the dead process asked would swallow the next event.
        self.waiting, old = queue.Queue(), self.waiting
        with contextlib.suppress(queue.Empty):
            while True:
                self.waiting.put(old.get_nowait())
        old.put(None)
        self.process.start()

    def invoke(self, event):
        """The answer, or None when there was none in time."""
        with self.turn:
            invocation = Invocation(event)
            self.waiting.put(invocation)
            try:
                answer = invocation.answer.get(timeout=self.timeout)
            except queue.Empty:
                answer = None
                self.kill()  # as Lambda does
            self.current = None
            if answer is None:
                self.process.revive()
            return answer

    def post(self, path, headers, body):
        """As the HTTP API invokes it; status and answer."""
        event = {
            "version": "2.0", "routeKey": "$default", "rawPath": path, "rawQueryString": "", "headers": headers,
            "requestContext": {
                "accountId": "anonymous", "apiId": "test", "domainName": "test.execute-api.eu-west-1.amazonaws.com",
                "domainPrefix": "test", "requestId": "test", "routeKey": "$default", "stage": "$default",
                "time": "02/Nov/2026:09:30:00 +0000", "timeEpoch": 1_793_611_800_000,
                "http": {"method": "POST", "path": path, "protocol": "HTTP/1.1", "sourceIp": "127.0.0.1", "userAgent": "test"},
            },
            "body": base64.b64encode(body).decode(), "isBase64Encoded": True,
        }  # fmt: skip
        answer = self.invoke(event)
        if answer is None:
            return 502, b""
        text = answer.get("body") or ""
        return answer["statusCode"], base64.b64decode(text) if answer.get("isBase64Encoded") else text.encode()


class Queues:
    """An SQS server with the queue and its dead-letter queue. It keeps them in memory."""

    def __init__(self, folder):
        (self.port,) = collector.free_ports(1)
        self.endpoint = f"http://127.0.0.1:{self.port}"
        env = {"PATH": os.environ["PATH"], "SPANHOOK_PARTS": os.environ["SPANHOOK_PARTS"]}
        self.process = Process("sqs", [SQS, str(self.port)], folder, env, self.answers)

    def client(self):
        config = botocore.config.Config(retries={"max_attempts": 5}, read_timeout=10, connect_timeout=2, proxies={})
        keys = {"aws_access_key_id": "test", "aws_secret_access_key": "test"}
        return boto3.client("sqs", endpoint_url=self.endpoint, region_name="eu-west-1", config=config, **keys)

    def answers(self):
        try:
            return collector.opener().open(f"{self.endpoint}/?Action=ListQueues", timeout=5)
        except OSError:
            return False

    def __enter__(self):
        self.process.start()
        self.process.wait()
        client = self.sqs = self.client()
        self.dead = client.create_queue(QueueName="dead-letters")["QueueUrl"]
        arn = client.get_queue_attributes(QueueUrl=self.dead, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
        redrive = json.dumps({"deadLetterTargetArn": arn, "maxReceiveCount": str(RECEIVES)})
        attributes = {"VisibilityTimeout": str(VISIBILITY), "RedrivePolicy": redrive}
        self.queue = client.create_queue(QueueName="spans", Attributes=attributes)["QueueUrl"]
        return self

    def __exit__(self, *_):
        self.process.__exit__()

    def depth(self, url):
        names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
        found = self.sqs.get_queue_attributes(QueueUrl=url, AttributeNames=names)["Attributes"]
        return sum(int(found[it]) for it in names)


class Mapping:
    """Invokes the forwarder with what it receives, and deletes what that does not report."""

    def __init__(self, queues, forwarder):
        self.queues, self.forwarder = queues, forwarder
        self.forget = False  # ends between the forwarder's answer and the deletion
        self.stopped = threading.Event()
        self.thread = threading.Thread(target=self.run, daemon=True)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.stopped.set()
        self.thread.join(30)

    def run(self):
        sqs = self.queues.client()
        while not self.stopped.is_set():
            try:
                self.poll(sqs)
            except Exception as error:  # the queue does not answer: AWS would ask again as well
                print(f"mapping: {str(error)[:120]}", file=open(self.forwarder.process.log, "a"))
                self.stopped.wait(0.5)

    def poll(self, sqs):
        url, batch, until = self.queues.queue, [], time.monotonic() + WINDOW
        while len(batch) < BATCH and time.monotonic() < until:
            answer = sqs.receive_message(
                QueueUrl=url, MaxNumberOfMessages=10, MessageAttributeNames=["All"], MessageSystemAttributeNames=["All"]
            )
            batch += answer.get("Messages", [])
            if not answer.get("Messages"):
                self.stopped.wait(0.05)
        if not batch:
            return
        answer = self.forwarder.invoke({"Records": [record(it) for it in batch]})
        if answer is None or self.forget:
            return
        failed = {it.get("itemIdentifier") for it in answer.get("batchItemFailures") or []}
        if failed - {it["MessageId"] for it in batch}:
            return  # an identifier that is none of them means the whole batch to AWS
        done = [{"Id": str(at), "ReceiptHandle": it["ReceiptHandle"]} for at, it in enumerate(batch) if it["MessageId"] not in failed]
        for start in range(0, len(done), 10):
            sqs.delete_message_batch(QueueUrl=url, Entries=done[start : start + 10])


def record(message):
    attributes = {
        name: {"stringValue": it.get("StringValue"), "dataType": it["DataType"], "stringListValues": [], "binaryListValues": []}
        for name, it in message.get("MessageAttributes", {}).items()
    }
    return {
        "messageId": message["MessageId"], "receiptHandle": message["ReceiptHandle"], "body": message["Body"],
        "md5OfBody": message["MD5OfBody"], "attributes": message.get("Attributes", {}), "messageAttributes": attributes,
        "eventSource": "aws:sqs", "eventSourceARN": "arn:aws:sqs:eu-west-1:1:spans", "awsRegion": "eu-west-1",
    }  # fmt: skip


class Functions:
    """All functions behind one address, as the HTTP API has them, with queues that they reach through a proxy."""

    def __init__(self, folder, queues, sqs_endpoint, otlp_endpoint, env):
        env = {
            **SETTINGS, **env, "AWS_ENDPOINT_URL_SQS": sqs_endpoint,
            "QUEUE_URL": queues.queue, "DEAD_LETTER_QUEUE_URL": queues.dead,
        }  # fmt: skip
        providers = ("circleci", "gitlab", "github", "lighthouse", "tekton", "kubernetes")
        names = {f"/{it}": f"{it}-webhook" for it in providers} | {"/build-events": "build-events", "/v1": "otlp"}
        self.paths = {path: Function(name, folder, env, WEBHOOK_TIMEOUT) for path, name in names.items()}
        self.forwarder = Function(
            "forwarder", folder, {**env, "OTEL_EXPORTER_OTLP_ENDPOINT": otlp_endpoint}, FORWARDER_TIMEOUT
        )
        self.all = [*self.paths.values(), self.forwarder]

    def __enter__(self):
        for it in self.all:
            it.__enter__()
        return self

    def __exit__(self, *_):
        for it in self.all:
            it.__exit__()

    def post(self, path, headers, body):
        first = "/" + path.split("/")[1]
        return self.paths[first].post(path, headers, body)
