"""The service as processes: uvicorn with one or several workers, the log, and the end after SIGTERM."""

from __future__ import annotations

import asyncio
import functools
import logging
import os
import shutil
import signal
import tempfile
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import uvicorn
from uvicorn.config import STARTUP_FAILURE
from uvicorn.supervisors import Multiprocess

from crossrank.server.connections import LARGEST_HEAD, GuardedConnection, keep_alive_seconds

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

    from starlette.types import ASGIApp

    from crossrank.server.service import Service
    from crossrank.server.settings import ServerSettings

logger = logging.getLogger("crossrank.server")

_CLOSE_SECONDS = 2
"""For connections to be closed once every accepted request has its answer."""
_MULTIPROCESS = "PROMETHEUS_MULTIPROC_DIR"
_SIGNALS = (signal.SIGTERM, signal.SIGINT)
_LOG_CONFIG: dict[str, Any] = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {
        "plain": {"format": "%(asctime)s %(levelname)s [%(process)d] %(message)s"},
        "line": {"format": "%(message)s"},
    },
    "handlers": {
        "plain": {"class": "logging.StreamHandler", "formatter": "plain", "stream": "ext://sys.stderr"},
        "line": {"class": "logging.StreamHandler", "formatter": "line", "stream": "ext://sys.stderr"},
    },
    "loggers": {
        "uvicorn": {"handlers": ["plain"], "level": "INFO", "propagate": False},
        "crossrank.server": {"handlers": ["plain"], "level": "INFO", "propagate": False},
        "crossrank.server.access": {"handlers": ["line"], "level": "INFO", "propagate": False},
    },
}


def run(settings: ServerSettings) -> int:
    """Serve until SIGTERM or SIGINT. Returns the exit status.

    Args:
        settings: of the service.

    Raises:
        OSError: the address cannot be listened on.
    """
    config = uvicorn_config(settings, functools.partial(worker_app, settings))
    if settings.workers == 1:
        # uvicorn raises the signal again when it has ended, for whoever handled it before.
        for kind in _SIGNALS:
            signal.signal(kind, lambda *_: None)
        server = uvicorn.Server(config)
        server.run()
        return 0 if server.started else STARTUP_FAILURE
    folder = tempfile.mkdtemp(prefix="crossrank-metrics-")
    os.environ[_MULTIPROCESS] = folder
    try:
        sock = config.bind_socket()
        try:
            supervisor = Multiprocess(config, [sock])
            supervisor.run()
        finally:
            sock.close()
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return STARTUP_FAILURE if any(worker.exitcode == STARTUP_FAILURE for worker in supervisor.processes) else 0


def uvicorn_config(settings: ServerSettings, factory: Callable[[], ASGIApp]) -> uvicorn.Config:
    """What uvicorn is told.

    Args:
        settings: of the service.
        factory: makes the application, in each worker process; it has to be picklable where there are several.
    """
    return uvicorn.Config(
        factory,
        factory=True,
        host=settings.host,
        port=settings.port,
        http=functools.partial(GuardedConnection, settings=settings),  # type: ignore[arg-type]
        ws="none",
        lifespan="on",
        workers=settings.workers,
        access_log=False,
        log_config=_LOG_CONFIG,
        proxy_headers=False,
        server_header=False,
        timeout_keep_alive=keep_alive_seconds(settings),
        timeout_graceful_shutdown=_CLOSE_SECONDS,
        h11_max_incomplete_event_size=LARGEST_HEAD,
    )


def worker_app(settings: ServerSettings) -> ASGIApp:
    """The application of one worker process: it ends after SIGTERM when all accepted requests have their answers."""
    from crossrank.server.app import create_app

    return create_app(settings, on_start=functools.partial(_end_when_drained, seconds=settings.drain_timeout))


def private_memory() -> int | None:
    """Bytes that only this process has: what it costs besides what it shares with other workers; None if unknown."""
    try:
        text = Path("/proc/self/smaps_rollup").read_text(encoding="ascii")
    except OSError:
        return None
    lines = [line.split() for line in text.splitlines() if line.startswith(("Private_Clean:", "Private_Dirty:"))]
    return sum(int(line[1]) for line in lines) * 1024


def _end_when_drained(service: Service, *, seconds: float) -> None:
    """Put what SIGTERM and SIGINT do off until accepted requests have their answers; a second signal ends at once."""
    service.on_ready(_report_memory)
    service.on_failure(functools.partial(os._exit, STARTUP_FAILURE))
    if threading.current_thread() is not threading.main_thread():
        return
    loop = asyncio.get_running_loop()
    before = {kind: signal.getsignal(kind) for kind in _SIGNALS}

    def end(kind: int, frame: FrameType | None) -> None:
        original = before[signal.Signals(kind)]
        if callable(original):
            original(kind, frame)

    async def drain(kind: int) -> None:
        logger.info("finishing %d accepted requests, taking no more", service.in_progress)
        try:
            await asyncio.wait_for(service.drained(), seconds)
        except TimeoutError:
            logger.warning("%d requests have no answer after %g s", service.in_progress, seconds)
        end(kind, None)

    def begin(kind: int, frame: FrameType | None) -> None:
        if service.draining:
            for _ in range(2):  # uvicorn waits for nothing after a second SIGINT
                end(signal.SIGINT, frame)
            return
        service.draining = True
        loop.call_soon_threadsafe(lambda: tasks.append(loop.create_task(drain(kind))))

    tasks: list[asyncio.Task[None]] = []
    for kind in before:
        signal.signal(kind, begin)


def _report_memory() -> None:
    memory = private_memory()
    if memory is not None:
        logger.info("private memory of this worker: %.0f MB", memory / 1e6)
