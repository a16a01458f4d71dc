"""The Hub: short patience, exact commits, one line for each refusal."""

from __future__ import annotations

import hashlib
import http.server
import json
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mlx_tinyagent.config import paths
from mlx_tinyagent.errors import FetchError
from mlx_tinyagent.models import fetch, hub
from mlx_tinyagent.models.registry import ModelSpec, local_path, resolve

COMMIT = "c0ffee" * 6 + "0000"


class Hub(http.server.ThreadingHTTPServer):
    """As much of the Hub's protocol as its client needs for small files."""

    def __init__(self, files: dict[str, bytes]) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.files = files
        self.status = 200
        self.asked: list[str] = []

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.server_address[1]}"


class _Handler(http.server.BaseHTTPRequestHandler):
    server: Hub

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self._answer(body=True)

    def _answer(self, *, body: bool) -> None:
        if self.server.status != 200:
            self.send_response(self.server.status)
            code = {403: "GatedRepo", 404: "RepoNotFound"}.get(self.server.status, "")
            self.send_header("X-Error-Code", code)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        if self.path.startswith("/api/models/"):
            siblings = [{"rfilename": n, "size": len(c)} for n, c in self.server.files.items()]
            answer = {"id": "org/tiny", "sha": COMMIT, "siblings": siblings}
            self._send(json.dumps(answer).encode(), body=body)
            return
        name = self.path.rpartition(f"/resolve/{COMMIT}/")[2]
        if name not in self.server.files:
            self.send_error(404)
            return
        self.server.asked.append(name)
        self._send(self.server.files[name], body=body)

    def _send(self, content: bytes, *, body: bool) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("ETag", f'"{hashlib.sha1(content).hexdigest()}"')
        self.send_header("X-Repo-Commit", COMMIT)
        self.end_headers()
        if body:
            self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        """Keep the test's output clean."""


@pytest.fixture
def server(
    make_llama: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Hub]:
    """A Hub with one repository, set as the client's endpoint."""
    from huggingface_hub import constants

    folder = make_llama("repository")
    files = {file.name: file.read_bytes() for file in folder.iterdir()}
    files |= {"pytorch_model.bin": b"pickle", "onnx/model.onnx": b"onnx", "README.md": b"# hi"}
    with Hub(files) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        monkeypatch.setattr(constants, "ENDPOINT", server.url)
        monkeypatch.setattr(
            constants,
            "HUGGINGFACE_CO_URL_TEMPLATE",
            server.url + "/{repo_id}/resolve/{revision}/{filename}",
        )
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
        monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
        yield server
        server.shutdown()


SPEC = ModelSpec(name="org/tiny", kind="hub", hub="org/tiny")


def test_pull_takes_only_what_is_read(server: Hub) -> None:
    """Weights, configuration and tokenizer; the commit is remembered."""
    seen: list[tuple[int, int]] = []
    folder = fetch.pull(SPEC, lambda done, total: seen.append((done, total)))

    wanted = {"config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"}
    assert {file.name for file in folder.iterdir()} == wanted == set(server.asked)
    total = sum(len(server.files[name]) for name in wanted)
    assert seen[-1] == (total, total)
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)
    record = json.loads((paths().cache / "hub" / "org--tiny.json").read_text())
    assert record["commit"] == COMMIT == folder.name
    assert local_path("org/tiny") == folder


def test_offline_setting_uses_what_is_there(server: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    """HF_HUB_OFFLINE asks nobody: a fetched model is found, another is one line."""
    folder = fetch.pull(SPEC)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    server.asked.clear()
    assert fetch.pull(SPEC) == folder
    assert server.asked == []
    with pytest.raises(FetchError, match="HF_HUB_OFFLINE is set"):
        fetch.pull(resolve("org/other"))


@pytest.mark.parametrize(
    ("status", "reason"), [(403, "license"), (404, "has no model"), (500, "could not be fetched")]
)
def test_refusals_are_told_apart(server: Hub, status: int, reason: str) -> None:
    """A license to accept, an unknown name and a failing server need different steps."""
    server.status = status
    with pytest.raises(FetchError, match=reason) as caught:
        fetch.pull(SPEC)
    assert "\n" not in str(caught.value)


def test_repositories_without_safetensors_are_refused(server: Hub) -> None:
    """Before anything is downloaded."""
    del server.files["model.safetensors"]
    with pytest.raises(FetchError, match="only weights that are read"):
        fetch.pull(SPEC)
    assert server.asked == []


def test_silence_ends_the_probe(monkeypatch: pytest.MonkeyPatch) -> None:
    """A Hub that neither answers nor refuses is given up after the set time."""
    import huggingface_hub

    hang = threading.Event()
    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", lambda *_, **__: hang.wait(60))
    monkeypatch.setattr(hub, "PROBE_S", 0.2)
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    start = time.monotonic()
    with pytest.raises(FetchError, match="no answer within"):
        fetch.pull(SPEC)
    assert time.monotonic() - start < 5
    hang.set()


def test_wanted_files_leave_subfolders_and_other_formats() -> None:
    """Twin weights (consolidated, onnx) are not fetched twice."""
    names = [
        "model-00001-of-00002.safetensors",
        "consolidated.safetensors",
        "original/model.safetensors",
        "pytorch_model.bin",
        "config.json",
        "tokenizer.model",
        "chat_template.jinja",
        "training_args.py",
    ]
    kept = hub.wanted_files(dict.fromkeys(names, 1))
    assert sorted(kept) == sorted([names[0], "config.json", "tokenizer.model", names[6]])
