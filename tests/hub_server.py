"""A Hugging Face hub in memory on 127.0.0.1, for the endpoints that `huggingface_hub` uses.

Repositories with commits and branches: their information, listing, files (those of LFS by way of a
redirect, as on the real hub), and the whole way up: create, preupload, LFS batch, commit. What the
client asks is in `requests`.
"""

import base64
import hashlib
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest

Files = dict[str, bytes]
LFS = (".npz", ".safetensors", ".png")
TOKEN = "hf_of_a_test"


@dataclass
class Repository:
    """One repository: branch or tag -> commit -> files."""

    commits: dict[str, Files] = field(default_factory=dict)
    refs: dict[str, str] = field(default_factory=dict)
    gated: bool = False
    private: bool = False

    def commit(self, files: Files, branch: str = "main") -> str:
        """Makes a commit of these files; returns its hash."""
        text = repr((len(self.commits), sorted((name, _sha256(d)) for name, d in files.items())))
        commit = hashlib.sha1(text.encode()).hexdigest()
        self.commits[commit] = dict(files)
        self.refs[branch] = commit
        return commit

    def at(self, revision: str) -> str | None:
        """The commit that a revision stands for."""
        commit = self.refs.get(revision, revision)
        return commit if commit in self.commits else None


@dataclass
class Hub:
    """What the server serves; tests look into it and change it."""

    url: str = ""
    repositories: dict[str, Repository] = field(default_factory=dict)
    objects: Files = field(default_factory=dict)
    """LFS objects by SHA-256."""
    requests: list[str] = field(default_factory=list)
    """`METHOD /path` of each request."""
    secrets: set[str] = field(default_factory=set)
    """Tokens that came."""
    fails: Callable[[str], int | None] = lambda _line: None
    """HTTP status by which a request is refused; None lets it through."""
    damage: Callable[[bytes], bytes] = bytes
    """What a download's bytes become on their way."""

    def add(self, repo: str, files: Files, branch: str = "main") -> str:
        """Commits files to a repository, which is made; returns the commit."""
        return self.repositories.setdefault(repo, Repository()).commit(files, branch)

    def files(self, repo: str, revision: str = "main") -> Files:
        """What a repository holds."""
        found = self.repositories[repo]
        commit = found.at(revision)
        assert commit is not None
        return found.commits[commit]

    def asked(self, method: str, part: str) -> list[str]:
        """Requests of a method whose path has this part."""
        return [line for line in self.requests if line.startswith(f"{method} ") and part in line]


def folder_files(folder: Path) -> Files:
    """A folder's files, as a repository has them."""
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


class _Refused(Exception):
    """An answer that is an error."""

    def __init__(self, status: int, code: str, message: str = ""):
        super().__init__(code)
        self.status, self.code, self.message = status, code, message or code


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: Hub

    def log_message(self, format: str, *args: object) -> None:
        """Says nothing."""

    def _answer(self) -> None:
        path = unquote(urlsplit(self.path).path)
        line = f"{self.command} {path}"
        self.hub.requests.append(line)
        body = self._body()
        if token := self.headers.get("Authorization"):
            self.hub.secrets.add(token.removeprefix("Bearer "))
        try:
            if (status := self.hub.fails(line)) is not None:
                raise _Refused(status, "Broken")
            self._route(path, body)
        except _Refused as refused:
            headers = {"X-Error-Code": refused.code, "X-Error-Message": refused.message}
            self._send(refused.status, b"{}", headers)

    do_GET = do_HEAD = do_POST = do_PUT = _answer

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        parts = []
        while size := int(self.rfile.readline(), 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(parts)

    def _route(self, path: str, body: bytes) -> None:
        parts = path.strip("/").split("/")
        if parts[0] == "objects":
            self._object(parts[1], body)
        elif path == "/api/validate-yaml":
            self._json({"errors": [], "warnings": []})
        elif path == "/api/repos/create":
            self._create(json.loads(body))
        elif path.endswith(".git/info/lfs/objects/batch"):
            self._batch(json.loads(body))
        elif parts[:2] == ["api", "models"]:
            self._api("/".join(parts[2:4]), parts[4:], body)
        elif parts[2:3] == ["resolve"]:
            self._resolve("/".join(parts[:2]), parts[3:])
        else:
            raise _Refused(404, "NoSuchEndpoint")

    def _repository(self, name: str, write: bool = False) -> Repository:
        repository = self.hub.repositories.get(name)
        known = self.headers.get("Authorization") == f"Bearer {TOKEN}"
        if repository is None or (repository.private and not known):
            raise _Refused(401 if not known else 404, "RepoNotFound", "Repository not found")
        if repository.gated and not known:
            raise _Refused(401, "GatedRepo", f"Access to model {name} is restricted")
        if write:
            self._may_write()
        return repository

    def _may_write(self) -> None:
        if self.headers.get("Authorization") != f"Bearer {TOKEN}":
            raise _Refused(401, "", "Invalid username or password.")

    def _split(self, repository: Repository, parts: list[str]) -> tuple[str, str]:
        """Commit and path of `main/a/b`, where revisions may have slashes."""
        for n in range(1, len(parts) + 1):
            commit = repository.at("/".join(parts[:n]))
            if commit is not None:
                return commit, "/".join(parts[n:])
        raise _Refused(404, "RevisionNotFound", "Revision not found")

    def _api(self, name: str, rest: list[str], body: bytes) -> None:
        what = rest[0] if rest else "revision"
        repository = self._repository(name, write=what in ("preupload", "commit", "branch"))
        if what == "branch":
            branch = "/".join(rest[1:])
            if branch in repository.refs:
                raise _Refused(409, "", "Reference already exists")
            repository.refs[branch] = repository.refs["main"]
            self._json({})
            return
        commit, below = self._split(repository, rest[1:] or ["main"])
        if what == "revision":
            siblings = [{"rfilename": file} for file in sorted(repository.commits[commit])]
            known = {"id": name, "sha": commit, "siblings": siblings, "private": repository.private}
            self._json(known | {"gated": "auto" if repository.gated else False, "tags": []})
        elif what == "tree":
            files = repository.commits[commit].items()
            self._json([_entry(f, data) for f, data in sorted(files) if f.startswith(below)])
        elif what == "preupload":
            self._preupload(repository.commits[commit], json.loads(body))
        elif what == "commit":
            self._commit(name, "/".join(rest[1:]), body)

    def _preupload(self, files: Files, asked: dict[str, Any]) -> None:
        answer = []
        for file in asked["files"]:
            data = files.get(file["path"])
            oid = None if data is None else _oid(file["path"], data)
            mode = "lfs" if file["path"].endswith(LFS) else "regular"
            answer.append(
                {"path": file["path"], "uploadMode": mode, "shouldIgnore": False, "oid": oid}
            )
        self._json({"files": answer})

    def _batch(self, asked: dict[str, Any]) -> None:
        self._may_write()
        objects = []
        for wanted in asked["objects"]:
            found = dict(wanted)
            if wanted["oid"] not in self.hub.objects:
                found["actions"] = {"upload": {"href": f"{self.hub.url}/objects/{wanted['oid']}"}}
            objects.append(found)
        self._json({"transfer": "basic", "objects": objects})

    def _commit(self, name: str, branch: str, body: bytes) -> None:
        repository = self.hub.repositories[name]
        files = dict(repository.commits[repository.refs[branch]])
        for line in body.splitlines():
            entry = json.loads(line)
            value = entry["value"]
            if entry["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif entry["key"] == "lfsFile":
                files[value["path"]] = self.hub.objects[value["oid"]]
            elif entry["key"] == "deletedFile":
                del files[value["path"]]
        commit = repository.commit(files, branch)
        self._json({"commitUrl": f"{self.hub.url}/{name}/commit/{commit}", "commitOid": commit})

    def _create(self, asked: dict[str, Any]) -> None:
        self._may_write()
        name = f"{asked['organization']}/{asked['name']}"
        if name in self.hub.repositories:
            self._send(409, json.dumps({"url": f"{self.hub.url}/{name}"}).encode(), {})
            return
        made = Repository(private=asked.get("visibility") == "private")
        made.commit({".gitattributes": b"*.npz filter=lfs\n"})
        self.hub.repositories[name] = made
        self._json({"url": f"{self.hub.url}/{name}"})

    def _resolve(self, name: str, rest: list[str]) -> None:
        repository = self._repository(name)
        commit, path = self._split(repository, rest)
        data = repository.commits[commit].get(path)
        headers = {"X-Repo-Commit": commit}
        if data is None:
            raise _Refused(404, "EntryNotFound", "Entry not found")
        if not path.endswith(LFS):
            self._send(200, data, headers | {"ETag": f'"{_oid(path, data)}"'})
            return
        digest = _sha256(data)
        self.hub.objects.setdefault(digest, data)
        linked = {"X-Linked-Etag": f'"{digest}"', "X-Linked-Size": str(len(data))}
        # The objects are another host's, as on the real hub.
        host = self.hub.url.replace("127.0.0.1", "localhost")
        where = {"Location": f"{host}/objects/{digest}"}
        self._send(302, b"", headers | linked | where)

    def _object(self, digest: str, body: bytes) -> None:
        if self.command == "PUT":
            self.hub.objects[digest] = body
            self._send(200, b"", {})
        else:
            data = self.hub.damage(self.hub.objects[digest])
            self._send(200, data, {"ETag": f'"{digest}"'})

    def _json(self, value: Any) -> None:
        self._send(200, json.dumps(value).encode(), {"Content-Type": "application/json"})

    def _send(self, status: int, data: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _oid(path: str, data: bytes) -> str:
    """What git calls a file: the blob's SHA-1; of an LFS file its SHA-256."""
    if path.endswith(LFS):
        return _sha256(data)
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


def _entry(path: str, data: bytes) -> dict[str, Any]:
    """A file in a listing."""
    found = {"type": "file", "path": path, "size": len(data), "oid": _oid(path, data)}
    if path.endswith(LFS):
        found["lfs"] = {"oid": _sha256(data), "size": len(data), "pointerSize": 130}
    return found


@contextmanager
def serving() -> Iterator[Hub]:
    """An empty hub for as long as the block runs."""
    hub = Hub()
    handler = type("Handler", (_Handler,), {"hub": hub})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        hub.url = f"http://127.0.0.1:{server.server_address[1]}"
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        try:
            yield hub
        finally:
            server.shutdown()


def use(hub: Hub, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Points `huggingface_hub` of this process to the hub, as HF_ENDPOINT and HF_HOME do when it is
    imported."""
    from huggingface_hub import constants

    template = f"{hub.url}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
    settings = {
        "ENDPOINT": hub.url,
        "HUGGINGFACE_CO_URL_TEMPLATE": template,
        "HF_HUB_CACHE": str(cache),
        "HF_TOKEN_PATH": str(cache / "token"),
        "HF_HUB_OFFLINE": False,
        "HF_HUB_DISABLE_XET": True,
    }
    for name, value in settings.items():
        monkeypatch.setattr(constants, name, value)
    monkeypatch.delenv("HF_TOKEN", raising=False)
    monkeypatch.setenv("HF_HUB_DISABLE_PROGRESS_BARS", "1")


def environment(hub: Hub, home: Path) -> dict[str, str]:
    """The same for a process of its own."""
    return {"HF_ENDPOINT": hub.url, "HF_HOME": str(home), "HF_HUB_DISABLE_XET": "1"}
