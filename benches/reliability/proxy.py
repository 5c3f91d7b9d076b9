"""An HTTP/1.1 proxy on loopback that can be made to fail, between two processes that are to survive it."""

import asyncio
import contextlib
import socket
import struct
import sys
import threading

# What an answer may be in place of that of the server: as a proxy, a login page or an overloaded Collector says it.
ANSWERS = {
    "503": ("503 Service Unavailable", "text/plain", "", b"no upstream"),
    "503, Retry-After 2": ("503 Service Unavailable", "application/json", "retry-after: 2\r\n", b"{}"),
    "429, Retry-After 1": ("429 Too Many Requests", "application/json", "retry-after: 1\r\n", b"{}"),
    "502": ("502 Bad Gateway", "text/html", "", b"<html><h1>502 Bad Gateway</h1></html>"),
    "200 with HTML": ("200 OK", "text/html", "", b"<!doctype html><html><form>Please sign in</form></html>"),
    "404": ("404 Not Found", "text/plain", "", b"404 page not found\n"),
}
# What happens to connections. "lost": the server does what was asked and its answer is thrown away; "cut": half of the
# answer comes; "reset": the request goes nowhere; "silent": nothing is ever said.
BROKEN = ["refused", "reset", "lost", "cut", "silent", "slow", "throttled"]
SECONDS = 0.7  # of "slow"
RATE = 20_000  # bytes a second of "throttled"


class Proxy:
    """Passes everything on to `upstream` (a port) as long as `mode` is None."""

    def __init__(self, upstream):
        self.upstream = upstream
        self.mode = None
        self.passed = 0
        self.listener = self.bind(0)
        self.port = self.listener.getsockname()[1]
        self.endpoint = f"http://127.0.0.1:{self.port}"
        self.open = set()
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self.thread.start()
        self.call(self.listen())

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.call(self.close())
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join()
        self.loop.close()

    def call(self, work):
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(30)

    def set(self, mode):
        """Another behaviour, which connections that are open learn at once."""
        self.call(self.change(mode))

    async def change(self, mode):
        was, self.mode = self.mode, mode
        for writer in list(self.open):
            abort(writer)
        if "refused" in (was, mode) and was != mode:
            if mode == "refused":
                self.server.close()
                self.listener = self.bind(self.port)
            else:
                await self.listen()

    @staticmethod
    def bind(port):
        """A port that is ours but where nobody listens yet: connections are refused."""
        bound = socket.socket()
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind(("127.0.0.1", port))
        return bound

    async def listen(self):
        self.server = await asyncio.start_server(self.connection, sock=self.listener, limit=2**26)

    async def close(self):
        self.server.close()
        for writer in list(self.open):
            abort(writer)
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            task.cancel()

    async def connection(self, reader, writer):
        self.open.add(writer)
        try:
            while request := await message(reader):
                await self.answer(request, writer)
        except (OSError, EOFError, asyncio.IncompleteReadError, asyncio.CancelledError):
            abort(writer)
        except Exception as error:  # a fault of this file must not look like one of the network
            print(f"proxy: {error!r}", file=sys.stderr)
            abort(writer)
        finally:
            self.open.discard(writer)
            writer.close()

    async def answer(self, request, writer):
        mode = self.mode
        if mode in ANSWERS:
            status, kind, more, body = ANSWERS[mode]
            head = f"HTTP/1.1 {status}\r\ncontent-type: {kind}\r\n{more}content-length: {len(body)}\r\n\r\n"
            writer.write(head.encode() + body)
        elif mode == "reset":
            raise ConnectionResetError
        elif mode == "silent":
            await asyncio.sleep(3600)  # until the mode changes
        else:
            if mode == "slow":
                await asyncio.sleep(SECONDS)
            answer = await self.ask(request, RATE if mode == "throttled" else None)
            if mode == "lost":
                raise ConnectionResetError
            if mode == "cut":
                writer.write(answer[: len(answer) // 2])
                await writer.drain()
                raise ConnectionResetError
            writer.write(answer)
        self.passed += 1
        await writer.drain()

    async def ask(self, request, rate):
        reader, writer = await asyncio.open_connection("127.0.0.1", self.upstream, limit=2**26)
        self.open.add(writer)
        try:
            if rate is None:
                writer.write(request)
            else:
                for start in range(0, len(request), rate // 10):
                    writer.write(request[start : start + rate // 10])
                    await writer.drain()
                    await asyncio.sleep(0.1)
            answer = await message(reader)
            if not answer:
                raise EOFError
            return answer
        finally:
            self.open.discard(writer)
            writer.close()


async def message(reader):
    """A request or an answer as it came, empty at the end of a connection."""
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError as error:
        if error.partial:
            raise
        return b""
    names = {}
    for line in head.split(b"\r\n")[1:-2]:
        name, _, value = line.partition(b":")
        names[name.strip().lower()] = value.strip().lower()
    if names.get(b"transfer-encoding") == b"chunked":
        body, size = b"", None
        while size != 0:
            line = await reader.readuntil(b"\r\n")
            size = int(line.split(b";")[0], 16)
            body += line + await reader.readexactly(size + 2)
        return head + body
    return head + await reader.readexactly(int(names.get(b"content-length", 0)))


def abort(writer):
    """Closes with a reset, so that the other side learns of it and the port is free."""
    with contextlib.suppress(OSError, AttributeError):
        linger = struct.pack("ii", 1, 0)
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
    writer.transport.abort()
