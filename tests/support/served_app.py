"""The HTTP service in the test's own process, and as a process of its own."""

from __future__ import annotations

import asyncio
import re
import subprocess
import sys
import threading
import time
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import TYPE_CHECKING

import httpx

from crossrank.server.app import create_app
from crossrank.server.settings import ServerSettings

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

HOST = "http://service"
SERVE = (sys.executable, "-c", "from crossrank.cli import main; main()", "serve")
QUERY = "the old café carries wind-tunnel results"
DOCUMENTS = [
    "wind tunnels carry air past models",
    "an old café in the harbour",
    "",
    "results of the election",
    "日本語で",
    "the old café carries wind-tunnel results",
    "stock prices fell on monday",
]


@asynccontextmanager
async def running_app(app) -> AsyncIterator[None]:
    """Start and end an ASGI application as a server would."""
    to_app: asyncio.Queue[dict] = asyncio.Queue()
    from_app: asyncio.Queue[dict] = asyncio.Queue()
    task = asyncio.create_task(app({"type": "lifespan", "state": {}}, to_app.get, from_app.put))
    await to_app.put({"type": "lifespan.startup"})
    assert (await from_app.get())["type"] == "lifespan.startup.complete"
    try:
        yield
    finally:
        await to_app.put({"type": "lifespan.shutdown"})
        assert (await from_app.get())["type"] == "lifespan.shutdown.complete"
        await task


@asynccontextmanager
async def client_of(source, *, opener=None, **settings) -> AsyncIterator[httpx.AsyncClient]:
    """A client of a service in this process, once its models are loaded; the service is its attribute `service`."""
    models = settings.pop("models", None) or {"tiny": {"source": str(source)}}
    options = {} if opener is None else {"opener": opener}
    started = []
    app = create_app(ServerSettings.model_validate({"models": models, **settings}), on_start=started.append, **options)
    async with running_app(app):
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url=HOST, timeout=60) as client:
            while (await client.get("/ready")).status_code != 200:
                assert started[0].models.error is None, started[0].models.error
                await asyncio.sleep(0.01)
            client.service = started[0]
            yield client


class ServerProcess:
    """A running `crossrank serve`."""

    def __init__(self, process: subprocess.Popen) -> None:
        self.process = process
        self.lines: list[str] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        self.url = ""

    def _read(self) -> None:
        for line in self.process.stderr:
            self.lines.append(line.rstrip("\n"))

    @property
    def log(self) -> str:
        return "\n".join(self.lines)

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])

    def wait_for(self, pattern: str, count: int = 1, seconds: float = 60.0) -> list[re.Match]:
        """Matches of a pattern in the log, once there are enough."""
        end = time.monotonic() + seconds
        while True:
            found = [match for line in list(self.lines) if (match := re.search(pattern, line))]
            if len(found) >= count:
                return found
            assert self.process.poll() is None, f"ended with {self.process.returncode}:\n{self.log}"
            assert time.monotonic() < end, f"no {pattern!r} in:\n{self.log}"
            time.sleep(0.01)


@contextmanager
def server_process(*arguments: str, workers: int = 1, ready: bool = True) -> Iterator[ServerProcess]:
    """`crossrank serve` on a free port, ready; killed at the end if it still runs."""
    process = subprocess.Popen(
        [*SERVE, "--port", "0", "--workers", str(workers), *arguments],
        stdin=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    server = ServerProcess(process)
    try:
        server.url = server.wait_for(r"running on (http://[0-9.]+:\d+)")[0][1]
        if ready:
            server.wait_for("ready: models loaded", workers)
        yield server
    finally:
        if process.poll() is None:
            process.terminate()
            with suppress(subprocess.TimeoutExpired):
                process.wait(10)
        if process.poll() is None:
            process.kill()
            process.wait()
        server._reader.join(5)
        process.stderr.close()


@contextmanager
def stub_server(stub, **settings) -> Iterator[str]:
    """The service around a stub engine, behind uvicorn on a free port in a thread of this process; gives its URL."""
    import uvicorn
    from stub_reranker import stub_opener

    from crossrank.server.process import uvicorn_config

    chosen = ServerSettings.model_validate({"models": {"stub": {"source": "stub"}}, "port": 0, **settings})
    config = uvicorn_config(chosen, lambda: create_app(chosen, opener=stub_opener(stub)))
    config.log_config = None
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        while not server.started:
            time.sleep(0.01)
        url = f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
        while httpx.get(f"{url}/ready").status_code != 200:
            time.sleep(0.01)
        yield url
    finally:
        server.should_exit = True
        thread.join()
