"""A hub on this machine: as much of the Hugging Face hub's HTTP interface as downloads need, with faults to order."""

from __future__ import annotations

import hashlib
import json
import os
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

HUB_ID = "someone/reranker"
COMMIT = "0123456789abcdef0123456789abcdef01234567"


class FakeHub:
    """One repository on a server of its own; large files are links to another address, as on the hub.

    Attributes:
        hub_id: the repository.
        requests: how many came, of whatever kind.
        fetched: paths of the files that were sent, in order, each time they were.
        ranges: the Range header of each of these requests; None where there was none.
        tokens: the Authorization headers that came.
        cuts: path to the numbers of bytes after which the next connections that send it break off.
        damaged: paths of files that are sent with another last byte than they have.
        branches: name to commit.
    """

    def __init__(self, folder: Path, *, hub_id: str = HUB_ID, commit: str = COMMIT) -> None:
        self.serve(folder, hub_id=hub_id, commit=commit)
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
        self._server.hub = self
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def serve(self, folder: Path, *, hub_id: str = HUB_ID, commit: str = COMMIT) -> None:
        """Begin anew with a repository of one commit, without faults."""
        self.hub_id = hub_id
        self.requests = 0
        self.fetched: list[str] = []
        self.ranges: list[str | None] = []
        self.tokens: set[str | None] = set()
        self.cuts: dict[str, list[int]] = {}
        self.damaged: set[str] = set()
        self.branches = {"main": commit}
        self._commits = {commit: folder}

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def environment(self, home: Path) -> dict[str, str]:
        """Variables for a process that is to use this hub, with its caches in a folder."""
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
        return inherited | {
            "HF_HUB_OFFLINE": "0",
            "HF_HOME": str(home / "hub"),
            "HF_ENDPOINT": self.url,
            "CROSSRANK_CACHE": str(home / "exports"),
            "NO_PROXY": "127.0.0.1",
        }

    def publish(self, commit: str, folder: Path) -> None:
        """Put another commit onto the main branch."""
        self._commits[commit] = folder
        self.branches["main"] = commit

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def describe(self, revision: str) -> bytes | None:
        commit = self.branches.get(revision, revision)
        if commit not in self._commits:
            return None
        folder = self._commits[commit]
        files = sorted(path for path in folder.rglob("*") if path.is_file())
        siblings = [{"rfilename": path.relative_to(folder).as_posix(), **_metadata(path)} for path in files]
        reply = {"id": self.hub_id, "modelId": self.hub_id, "sha": commit, "siblings": siblings, "tags": []}
        return json.dumps(reply).encode()

    def list_tree(self, revision: str) -> bytes | None:
        described = json.loads(self.describe(revision) or "null")
        if described is None:
            return None
        entries = []
        for file in described["siblings"]:
            entry = {"type": "file", "path": file["rfilename"], "size": file["size"], "oid": file["blobId"]}
            if "lfs" in file:
                entry["lfs"] = {"oid": file["lfs"]["sha256"], "size": file["size"], "pointerSize": 134}
            entries.append(entry)
        return json.dumps(entries).encode()

    def find(self, revision: str, name: str) -> tuple[str, Path] | None:
        commit = self.branches.get(revision, revision)
        path = self._commits[commit] / name if commit in self._commits else None
        return (commit, path) if path is not None and path.is_file() else None


def is_large(path: Path) -> bool:
    """Whether the hub keeps a file in its large storage, under its sha256."""
    return path.suffix in {".onnx", ".safetensors", ".bin"} or path.name.endswith(".onnx_data")


def _digest(path: Path) -> str:
    """The digest by which the hub knows a file: its sha256 where it is large, else git's id."""
    content = path.read_bytes()
    if is_large(path):
        return hashlib.sha256(content).hexdigest()
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def _metadata(path: Path) -> dict[str, object]:
    size = path.stat().st_size
    if is_large(path):
        pointer = hashlib.sha1(_digest(path).encode()).hexdigest()
        return {"size": size, "blobId": pointer, "lfs": {"sha256": _digest(path), "size": size, "pointerSize": 134}}
    return {"size": size, "blobId": _digest(path)}


class _Handler(BaseHTTPRequestHandler):
    """Answers from `self.server.hub`."""

    def do_HEAD(self):
        self._answer(body=False)

    def do_GET(self):
        self._answer(body=True)

    def log_message(self, *_args):
        pass

    def _answer(self, *, body):
        hub = self.server.hub
        hub.requests += 1
        hub.tokens.add(self.headers.get("Authorization"))
        path = self.path.split("?")[0]
        api, files = f"/api/models/{hub.hub_id}", f"/{hub.hub_id}/resolve/"
        if path == api or path.startswith(f"{api}/revision/"):
            reply = hub.describe(path.rpartition("/revision/")[2] if path != api else "main")
            self._send(reply or b"{}", "" if reply else "RevisionNotFound", body=body)
        elif path.startswith(f"{api}/tree/"):
            reply = hub.list_tree(path.rpartition("/tree/")[2])
            self._send(reply or b"[]", "" if reply else "RevisionNotFound", body=body)
        elif path.startswith((files, "/large" + files)):
            revision, _, name = path.partition("/resolve/")[2].partition("/")
            found = hub.find(revision, name)
            if found is None:
                self._send(b"{}", "EntryNotFound" if hub.describe(revision) else "RevisionNotFound", body=body)
            elif is_large(found[1]) and not path.startswith("/large"):
                self._send_link(*found)
            else:
                self._send_file(name, *found, body=body)
        else:
            self._send(b"{}", "RepoNotFound", body=body)

    def _send(self, content, error, *, body):
        self.send_response(404 if error else 200)
        self.send_header("Content-Length", str(len(content)))
        if error:
            self.send_header("X-Error-Code", error)
        self.end_headers()
        if body:
            self.wfile.write(content)

    def _send_link(self, commit, path):
        self.send_response(302)
        self.send_header("Location", f"{self.server.hub.url}/large{self.path}")
        self.send_header("X-Linked-Etag", f'"{_digest(path)}"')
        self.send_header("X-Linked-Size", str(path.stat().st_size))
        self.send_header("X-Repo-Commit", commit)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def _send_file(self, name, commit, path, *, body):
        hub = self.server.hub
        content = path.read_bytes()
        if name in hub.damaged:
            content = content[:-1] + bytes([content[-1] ^ 1])
        asked = self.headers.get("Range")
        start = int(asked.removeprefix("bytes=").partition("-")[0]) if asked else 0
        self.send_response(206 if asked else 200)
        self.send_header("Content-Length", str(len(content) - start))
        self.send_header("ETag", f'"{_digest(path)}"')
        self.send_header("X-Repo-Commit", commit)
        self.end_headers()
        if body:
            hub.fetched.append(name)
            hub.ranges.append(asked)
            cuts = hub.cuts.get(name)
            self.wfile.write(content[start : start + cuts.pop(0) if cuts else len(content)])
            self.close_connection = True
