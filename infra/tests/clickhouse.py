"""ClickHouse in this process, and its HTTP protocol as far as the Collector's exporter speaks it."""

import atexit
import contextlib
import functools
import http.server
import json
import os
import pathlib
import re
import struct
import tempfile
import threading
import urllib.parse

import pytest
from chdb import session

SQL = pathlib.Path(__file__).parent.parent / "clickhouse"
QUERIES = SQL / "queries"
# Of builds and their releases, of metrics, and of runners' own spans; the other queries are of what webhooks tell.
RELEASE_QUERIES = {
    "artifact_size", "bundle_size", "chunk_packages", "chunk_size", "largest_assets", "latency_by_build",
}
METRIC_QUERIES = {"run_durations"}
RUNNER_QUERIES = {"runner_stages"}
CI_QUERIES = {path.stem for path in QUERIES.glob("*.sql")} - RELEASE_QUERIES - METRIC_QUERIES - RUNNER_QUERIES


@functools.cache
def engine():
    """The engine of this process: chdb takes one folder in a process."""
    folder = tempfile.TemporaryDirectory()
    atexit.register(folder.cleanup)
    return ClickHouse(folder.name)


@functools.cache
def generated():
    """The engine with the database `generated`, loaded from SPANHOOK_SPANS."""
    path = os.environ.get("SPANHOOK_SPANS")
    if not path:
        pytest.skip("SPANHOOK_SPANS is unset: it names a file that generate-spans wrote")
    clickhouse = engine()
    clickhouse.create("generated")
    clickhouse.create_tables()
    clickhouse.load("otel_traces", path)
    return clickhouse


class ClickHouse:
    """A database in a folder. It takes one query at a time."""

    def __init__(self, folder):
        self._session = session.Session(str(folder))
        self._lock = threading.Lock()

    def execute(self, query, output="CSV", **params):
        """The answer's bytes."""
        with self._lock:
            return self._session.query(query, output, params=params).bytes()

    def rows(self, query, **params):
        """The answer as a list of dicts."""
        lines = self.execute(query, "JSONEachRow", **params).splitlines()
        return [json.loads(line) for line in lines]

    def value(self, query, **params):
        """The only value of the answer."""
        return next(iter(self.rows(query, **params)[0].values()))

    def apply(self, path):
        """Runs the statements of a file, in the current database."""
        for statement in statements(path.read_text()):
            self.execute(statement)

    def create(self, database):
        """An empty database, made the current one."""
        self.execute(f"DROP DATABASE IF EXISTS {database}")
        self.execute(f"CREATE DATABASE {database}")
        self.use(database)

    def use(self, database):
        self.execute(f"USE {database}")

    def create_tables(self):
        """The project's tables, in the current database."""
        for name in ("otel_traces", "ci_job_telemetry_traces", "otel_metrics", "otel_logs", "ci_builds"):
            self.apply(SQL / f"{name}.sql")
        # Spans of a fixed date must not vanish from the tests one day.
        self.execute("SYSTEM STOP TTL MERGES")

    def insert(self, table, rows):
        """Inserts dicts; a Timestamp is nanoseconds."""
        with tempfile.NamedTemporaryFile("w", suffix=".jsonl") as file:
            file.writelines(json.dumps(row) + "\n" for row in rows)
            file.flush()
            self.load(table, file.name)

    def load(self, table, path):
        """Inserts a file of JSON lines, which all have the keys of the first."""
        with open(path) as lines:
            given = json.loads(next(lines))
        types = {row["name"]: row["type"] for row in self.rows(f"DESCRIBE TABLE {table}")}
        # DateTime64 reads an integer as seconds, so it is read as what it is, and converted.
        structure = ", ".join(
            f"`{name}` {types[name].replace('DateTime64(9)', 'Int64')}" for name in given
        )
        values = ", ".join(NANOSECONDS.get(name, f"`{name}`") for name in given)
        self.execute(
            f"INSERT INTO {table} ({columns(given)}) SELECT {values} "
            f"FROM file('{path}', 'JSONEachRow', {quoted(structure)})"
        )


NANOSECONDS = {
    "Timestamp": "fromUnixTimestamp64Nano(Timestamp)",
    "Events.Timestamp": "arrayMap(it -> fromUnixTimestamp64Nano(it), `Events.Timestamp`)",
}


def columns(names):
    """A list of columns for an SQL statement."""
    return ", ".join(f"`{name}`" for name in names)


def quoted(text):
    """A text as an SQL literal."""
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


def statements(text):
    """The statements of an SQL file: none of ours has a semicolon within."""
    text = re.sub(r"^\s*--.*$", "", text, flags=re.MULTILINE)
    return [part.strip() for part in text.split(";") if part.strip()]


def query(name):
    """A query of infra/clickhouse/queries."""
    (statement,) = statements((QUERIES / f"{name}.sql").read_text())
    return statement


@contextlib.contextmanager
def serve(clickhouse, version="26.9.2.1"):
    """The engine behind ClickHouse's HTTP protocol on a free port of the loopback: its address."""
    hello = _hello(version)

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self):
            settings = dict(urllib.parse.parse_qsl(urllib.parse.urlsplit(self.path).query))
            body = self._body()
            try:
                answer = self._insert(settings, body) if "query" in settings else self._query(body)
                self._answer(200, answer)
            except Exception as error:  # the client is to see whatever it is
                self._answer(500, str(error).encode())

        def _query(self, body):
            statement = body.decode()
            if "revision()" in statement:
                return hello
            return clickhouse.execute(statement, "Native")

        def _insert(self, settings, body):
            table, names = re.match(r"(?is)insert\s+into\s+(\S+)\s*\((.*?)\)", settings["query"]).groups()
            names = columns(name.strip(" `\t\n") for name in names.split(","))
            with tempfile.NamedTemporaryFile(suffix=".native") as file:
                file.write(body)
                file.flush()
                clickhouse.execute(
                    f"INSERT INTO {table} ({names}) SELECT {names} FROM file('{file.name}', 'Native')"
                )
            return b""

        def _body(self):
            if self.headers.get("Transfer-Encoding") != "chunked":
                return self.rfile.read(int(self.headers.get("Content-Length", 0)))
            body = b""
            while size := int(self.rfile.readline(), 16):
                body += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
            return body

        def _answer(self, status, body):
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            if status != 200:
                self.send_header("X-ClickHouse-Exception-Code", "1")
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


def _hello(version):
    """The first answer, a Native block that says revision 0.

    chdb writes blocks of revision 0, while the client expects its own newest revision until the
    server has named one: so this block alone is written by hand, in the newer form.
    """

    def text(value):
        return bytes([len(value)]) + value.encode()

    info = b"\x01\x00\x02\xff\xff\xff\xff\x00"
    columns = [
        ("displayName()", "String", text("chdb")),
        ("version()", "String", text(version)),
        ("revision()", "UInt32", struct.pack("<I", 0)),
        ("timezone()", "String", text("UTC")),
    ]
    block = b"".join(text(name) + text(kind) + b"\x00" + value for name, kind, value in columns)
    return info + bytes([len(columns), 1]) + block
