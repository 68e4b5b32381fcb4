"""Uploads to the Hugging Face hub, against an endpoint on this machine."""

import base64
import json
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import constants

from sgdr_jax import InputError
from sgdr_jax.runs.export import hub


class Hub:
    """What an endpoint has been sent: repositories with their settings, and the files of commits."""

    def __init__(self) -> None:
        self.created: list[dict[str, Any]] = []
        self.files: dict[str, bytes] = {}
        self.tokens: dict[str, str | None] = {}

    def answer(self, path: str, body: bytes) -> tuple[int, dict[str, Any]]:
        if path == "/api/repos/create":
            self.created.append(json.loads(body))
            return 200, {"url": "https://huggingface.co/me/rings"}
        if path == "/api/models/me/rings/preupload/main":
            return 200, {"files": [{"path": f["path"], "uploadMode": "regular", "shouldIgnore": False} for f in json.loads(body)["files"]]}
        if path == "/api/models/me/rings/commit/main":
            lines = [json.loads(line) for line in body.splitlines()]
            self.files |= {f["path"]: base64.b64decode(f["content"]) for f in (line["value"] for line in lines if line["key"] == "file")}
            return 200, {"commitUrl": "https://huggingface.co/me/rings/commit/1", "commitOid": "1" * 40, "pullRequestUrl": None}
        return 200, {"id": "me/rings", "sha": "0" * 40, "siblings": []}


@pytest.fixture
def endpoint(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """An endpoint that answers the requests of an upload as the hub does, and keeps what comes."""
    state = Hub()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            path = self.path.partition("?")[0]
            state.tokens[path] = self.headers["Authorization"]
            status, reply = state.answer(path, self.rfile.read(int(self.headers["Content-Length"] or 0)))
            data = json.dumps(reply).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def do_GET(self) -> None:
            self.headers["Content-Length"] = self.headers["Content-Length"] or "0"
            self.do_POST()

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{server.server_port}")
        monkeypatch.setenv("HF_TOKEN", "hf_secret")
        yield state
        server.shutdown()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An export: a card, names and 4 KiB of tensors."""
    (tmp_path / "out").mkdir()
    for name, data in (("README.md", b"# rings\n"), ("classes.json", b'["a"]\n'), ("model.safetensors", bytes(range(256)) * 16)):
        (tmp_path / "out" / name).write_bytes(data)
    return tmp_path / "out"


def test_the_files_arrive_as_they_are_in_a_private_repository(endpoint: Hub, folder: Path) -> None:
    assert hub.push(folder, "me/rings") == f"{constants.ENDPOINT}/me/rings"
    (created,) = endpoint.created
    assert (created["name"], created["organization"]) == ("rings", "me")
    assert created.get("visibility") == "private" or created.get("private") is True  # by the version of huggingface_hub
    assert endpoint.files == {path.name: path.read_bytes() for path in folder.iterdir()}
    assert endpoint.tokens["/api/models/me/rings/commit/main"] == "Bearer hf_secret"


def test_without_the_hub_the_folder_stays_and_a_line_says_what_to_run(endpoint: Hub, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    line = r"push is 'me/rings'; it was not uploaded \(.*\); the export is in .*out; later, run: hf upload me/rings .*out$"
    monkeypatch.setattr(Hub, "answer", lambda *_: (403, {"error": "no"}))
    with pytest.raises(InputError, match=line) as refused:
        hub.push(folder, "me/rings")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(InputError, match=line) as offline:
        hub.push(folder, "me/rings")
    assert "403" in str(refused.value) and "OfflineModeIsEnabled" in str(offline.value)
    assert all("\n" not in str(each.value) for each in (refused, offline)) and len([*folder.iterdir()]) == 3


@pytest.mark.parametrize("name", ["rings", "me/rings/2", "me/", "", "me/ro se"])
def test_a_wrong_name_is_told_before_anything_is_written(name: str) -> None:
    with pytest.raises(InputError, match="use OWNER/NAME"):
        hub.check(name)


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    hub.check("me/rings")
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(InputError, match=r"pip install 'sgdr_jax\[hub\]'"):
        hub.check("me/rings")
