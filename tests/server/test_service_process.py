"""`crossrank serve` as a process: its start, its end, its workers, its log."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
from served_app import DOCUMENTS, QUERY, SERVE, server_process

BODY = {"query": QUERY, "documents": DOCUMENTS}
HEAD = "POST /v2/rerank HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
LARGE = {"query": QUERY, "documents": [f"wind tunnel {number} " * 60 for number in range(500)]}


def stats(server):
    return httpx.get(f"{server.url}/stats", timeout=30).json()


def until(condition):
    while not condition():
        time.sleep(0.02)


def test_sigterm_finishes_what_was_accepted_and_takes_no_more(tiny_artifact):
    with server_process("--model", f"tiny={tiny_artifact}", "--log-format", "json") as server:
        with ThreadPoolExecutor(1) as pool:
            accepted = pool.submit(httpx.post, f"{server.url}/v2/rerank", json=LARGE, timeout=120)
            until(lambda: stats(server)["in_progress"] == 1)
            server.process.send_signal(signal.SIGTERM)
            server.wait_for("finishing 1 accepted")
            late = httpx.post(f"{server.url}/v2/rerank", json=BODY)
            assert (late.status_code, late.json()["error"]["code"]) == (503, "draining")
            assert int(late.headers["Retry-After"]) >= 1
            assert httpx.get(f"{server.url}/ready").status_code == 503
            answer = accepted.result()
        assert answer.status_code == 200
        assert len(answer.json()["results"]) == len(LARGE["documents"])
        assert server.process.wait(30) == 0
        assert "Traceback" not in server.log
        lines = [json.loads(line) for line in server.lines if line.startswith("{")]
        assert {"path": "/v2/rerank", "status": 200, "documents": 500, "model": "tiny"}.items() <= lines[-1].items()
        assert "wind tunnel" not in server.log
        assert QUERY not in server.log


def test_a_second_signal_ends_at_once(tiny_artifact):
    with server_process("--model", f"tiny={tiny_artifact}") as server, ThreadPoolExecutor(1) as pool:
        endless = {"query": QUERY, "documents": [f"wind tunnel {number} " * 60 for number in range(9000)]}
        accepted = pool.submit(httpx.post, f"{server.url}/v2/rerank", json=endless, timeout=120)
        until(lambda: stats(server)["in_progress"] == 1)
        for _ in range(2):
            server.process.send_signal(signal.SIGTERM)
            server.wait_for("finishing 1 accepted")
        assert server.process.wait(30) == 0
        with pytest.raises(httpx.HTTPError):
            accepted.result().raise_for_status()


def test_a_client_that_closes_its_connection_stops_costing(tiny_artifact):
    with server_process("--model", f"tiny={tiny_artifact}") as server:
        body = json.dumps(LARGE).encode()
        head = f"{HEAD}Content-Length: {len(body)}\r\n\r\n"
        with socket.create_connection(("127.0.0.1", server.port)) as connection:
            connection.sendall(head.encode() + body)
            until(lambda: stats(server)["queue_requests"] == 1)
        until(lambda: (now := stats(server))["hung_up"] == 1 and now["queue_requests"] == now["queue_tokens"] == 0)
        assert stats(server)["documents"] == 0
        assert stats(server)["responses"]["499"] == 1
        assert httpx.post(f"{server.url}/v2/rerank", json=BODY).status_code == 200


def test_workers_share_the_port_and_their_numbers_and_are_replaced(tiny_artifact):
    with server_process("--model", f"tiny={tiny_artifact}", workers=2) as server:
        memory = server.wait_for(r"\[(\d+)\] private memory of this worker: (\d+) MB", 2)
        workers = {int(match[1]) for match in memory}
        assert len(workers) == 2
        for _ in range(20):
            assert httpx.post(f"{server.url}/v2/rerank", json=BODY).status_code == 200
        for _ in range(5):  # whichever worker is asked
            text = httpx.get(f"{server.url}/metrics").text
            assert 'te_request_count{method="rerank"} 20.0' in text
            assert stats(server)["documents"] == 20 * len(DOCUMENTS)
        os.kill(workers.pop(), signal.SIGKILL)
        server.wait_for("ready: models loaded", 3)
        assert httpx.post(f"{server.url}/v2/rerank", json=BODY).status_code == 200
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(60) == 0


def test_a_model_that_cannot_be_loaded_ends_the_process(tmp_path):
    for workers in ("1", "2"):
        options = ("--port", "0", "--workers", workers, "--model", f"gone={tmp_path / 'nothing'}")
        done = subprocess.run(
            [*SERVE, *options], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, timeout=120
        )
        assert done.returncode == 3, workers
        assert "the models could not be loaded" in done.stderr


def test_texts_are_logged_only_where_that_is_asked_for(tiny_artifact):
    with server_process("--model", f"tiny={tiny_artifact}", "--log-texts") as server:
        httpx.post(f"{server.url}/v2/rerank", json=BODY)
        line = server.wait_for('path="/v2/rerank"')[0].string
        assert "stock prices fell on monday" in line


def test_hostile_connections_leave_others_served(tiny_artifact):
    """500 of them at once: garbage, half bodies, endless heads, and clients that hang up."""

    def open_hostile(number, port):
        connection = socket.create_connection(("127.0.0.1", port))
        connection.settimeout(30)
        kind = number % 4
        head = b"POST /v2/rerank HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
        if kind == 0:
            connection.sendall(os.urandom(2000))
        elif kind == 1:
            connection.sendall(head + b'Content-Length: 5000\r\n\r\n{"query": "half')
        elif kind == 2:
            with contextlib.suppress(ConnectionError):  # more than a head may have
                connection.sendall(head + b"X-Endless: " + b"a" * 200_000)
        else:
            body = json.dumps(BODY).encode()
            connection.sendall(head + f"Content-Length: {len(body)}\r\n\r\n".encode() + body)
            connection.close()
        return connection

    with server_process("--model", f"tiny={tiny_artifact}") as server:
        with httpx.Client(base_url=server.url, timeout=60) as client:
            expected = client.post("/v2/rerank", json=BODY).json()["results"]
            for _ in range(20):
                client.post("/v2/rerank", json=BODY)
            before = resident(server.process.pid)
            for turn in range(3):
                hostile = [open_hostile(number, server.port) for number in range(500)]
                for _ in range(20):
                    answer = client.post("/v2/rerank", json=BODY)
                    assert answer.status_code == 200
                    assert answer.json()["results"] == expected
                for connection in hostile:
                    connection.close()
                if turn == 0:
                    first = resident(server.process.pid)
        until(lambda: stats(server)["in_progress"] == 0)
        # The first turn fills buffers and pools; further ones must not add to them.
        assert resident(server.process.pid) - first < 20e6, (before, first)


def test_slow_clients_are_cut_off(tiny_artifact):
    options = ("--header-timeout", "0.3", "--stall-timeout", "0.3", "--keep-alive", "1", "--write-timeout", "0.3")
    with server_process("--model", f"tiny={tiny_artifact}", *options) as server:
        silent = socket.create_connection(("127.0.0.1", server.port))
        dripping = socket.create_connection(("127.0.0.1", server.port))
        half = socket.create_connection(("127.0.0.1", server.port))
        half.sendall(
            b"POST /v2/rerank HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 99\r\n\r\n{"
        )
        stop = threading.Event()

        def drip():
            try:
                dripping.sendall(b"GET /health HTTP/1.1\r\n")
                while not stop.wait(0.05):
                    dripping.sendall(b"X-More: 1\r\n")
            except OSError:
                pass

        thread = threading.Thread(target=drip)
        thread.start()
        for connection in (silent, dripping, half):
            connection.settimeout(30)
        try:
            assert ended(silent) == b""
            assert ended(dripping) == b""
            assert ended(half).startswith(b"HTTP/1.1 408")
        finally:
            stop.set()
            thread.join()
        # An answer that is not read: the connection ends although the client does nothing.
        large = {
            "query": "q",
            "documents": ["word " * 150 for _ in range(6000)],
            "return_documents": True,
            "deadline_ms": 5000,
        }
        body = json.dumps(large).encode()
        unread = socket.create_connection(("127.0.0.1", server.port))
        unread.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        unread.sendall(
            b"POST /v2/rerank HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
            + f"Content-Length: {len(body)}\r\n\r\n".encode()
            + body
        )
        until(lambda: stats(server)["responses"].get("200", 0) > 0 and connections(server) <= 1)
        unread.close()


def test_connections_too_many_are_refused_and_others_kept(tiny_artifact):
    with server_process("--model", f"tiny={tiny_artifact}", "--max-connections", "3") as server:
        held = [httpx.Client(base_url=server.url) for _ in range(3)]
        for client in held:
            assert client.get("/health").status_code == 200
        refused = httpx.get(f"{server.url}/health")
        assert (refused.status_code, refused.json()["message"]) == (503, "too many connections")
        assert refused.json()["detail"] == refused.json()["error"]["message"] == "too many connections"
        assert (refused.json()["error_type"], refused.headers["Retry-After"]) == ("Unhealthy", "1")
        assert all(client.get("/health").status_code == 200 for client in held)
        held.pop().close()
        until(lambda: httpx.get(f"{server.url}/health").status_code == 200)
        for client in held:
            client.close()


def ended(connection):
    """What a connection gives until the other side closes it."""
    received = b""
    try:
        while part := connection.recv(4096):
            received += part
    except ConnectionResetError:
        pass
    connection.close()
    return received


def connections(server):
    """Established connections of the process on its port, by the kernel's table."""
    port = f":{server.port:04X}"
    rows = [line.split() for line in Path("/proc/net/tcp").read_text(encoding="ascii").splitlines()[1:]]
    return sum(row[1].endswith(port) and row[3] == "01" for row in rows)


def resident(pid):
    """Bytes of memory that a process has."""
    return int(Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE")
