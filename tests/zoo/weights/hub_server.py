"""A local imitation of the Hugging Face hub: its HTTP API for creating, writing and reading repositories."""

from __future__ import annotations

import base64
import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

COMMIT = "1" * 40


class Hub:
    """State of the hub.

    Attributes:
        files: File contents by repository and name.
        private: Private repositories.
        tokens: Owners by token.
        commits: Messages of all commits.
        address: URL of the server.
    """

    def __init__(self) -> None:
        self.files: dict[str, dict[str, bytes]] = {}
        self.private: set[str] = set()
        self.tokens = {"hf_owner": "owner"}
        self.commits: list[str] = []
        self.address = ""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    @property
    def hub(self) -> Hub:
        return self.server.hub  # pyright: ignore[reportAttributeAccessIssue] (set below)

    def send(self, status: int, content: Any = b"", headers: dict[str, str] | None = None, body: bool = True) -> None:
        content = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        for name, value in {"Content-Length": str(len(content)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        if body:
            self.wfile.write(content)

    def refuse(self, status: int, reason: str) -> None:
        self.send(status, {"error": reason}, {"X-Error-Message": reason, "Content-Type": "application/json"})

    def do_POST(self) -> None:
        given = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        owner = self.hub.tokens.get(self.headers.get("Authorization", "").removeprefix("Bearer "))
        if owner is None:
            return self.refuse(401, "Invalid username or password.")
        parts = self.path.partition("?")[0].strip("/").split("/")
        if parts == ["api", "repos", "create"]:
            asked = json.loads(given)
            repository = f"{asked.get('organization') or owner}/{asked['name']}"
            if repository.split("/")[0] != owner:
                return self.refuse(403, "You don't have the rights to create a model under this namespace")
            known = repository in self.hub.files
            self.hub.files.setdefault(repository, {})
            if asked.get("private") or asked.get("visibility") == "private":
                self.hub.private.add(repository)
            return self.send(409 if known else 200, {"url": f"{self.hub.address}/{repository}"})
        if parts[-1] == "validate-yaml":
            return self.send(200, {"errors": [], "warnings": []})
        repository = "/".join(parts[2:4])
        if parts[4] == "preupload":
            names = [one["path"] for one in json.loads(given)["files"]]
            modes = [{"path": name, "uploadMode": "regular", "shouldIgnore": False, "oid": None} for name in names]
            return self.send(200, {"files": modes})
        assert parts[4] == "commit"
        for line in given.decode().splitlines():
            entry = json.loads(line)
            if entry["key"] == "header":
                self.hub.commits.append(entry["value"]["summary"])
            else:
                self.hub.files[repository][entry["value"]["path"]] = base64.b64decode(entry["value"]["content"])
        answer = {"success": True, "commitOid": COMMIT, "commitUrl": f"{self.hub.address}/{repository}/commit/{COMMIT}"}
        return self.send(200, {**answer, "hookOutput": ""})

    def do_HEAD(self) -> None:
        self.answer(body=False)

    def do_GET(self) -> None:
        self.answer(body=True)

    def answer(self, body: bool) -> None:
        parts = self.path.partition("?")[0].strip("/").split("/")
        if parts[:2] == ["api", "models"]:
            repository = "/".join(parts[2:4])
            if repository not in self.hub.files:
                return self.send(404, headers={"X-Error-Code": "RepoNotFound"}, body=body)
            siblings = [{"rfilename": name} for name in self.hub.files[repository]]
            return self.send(200, {"id": repository, "sha": COMMIT, "siblings": siblings}, body=body)
        content = self.hub.files.get("/".join(parts[:2]), {}).get("/".join(parts[4:]))
        if content is None:
            return self.send(404, headers={"X-Error-Code": "EntryNotFound", "X-Repo-Commit": COMMIT}, body=body)
        etag = hashlib.sha256(content).hexdigest()
        return self.send(200, content, {"ETag": f'"{etag}"', "X-Repo-Commit": COMMIT}, body)

    def log_message(self, format: str, *args: Any) -> None:
        pass


@contextmanager
def running_hub() -> Iterator[Hub]:
    """Runs the hub on a free local port."""
    server: Any = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    server.hub = Hub()
    server.hub.address = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield server.hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
