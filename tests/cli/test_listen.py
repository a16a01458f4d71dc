"""A spoken request: sound is checked, sent where it was told to, and what was said is planned."""

from __future__ import annotations

import io
import json
import os
import sys
import threading
import wave
from collections.abc import Callable, Iterator
from email import message_from_bytes
from email.message import Message
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from mlx_tinyagent.cli import speech
from mlx_tinyagent.cli.listen import say
from mlx_tinyagent.errors import ConfigError, InputError, ModelError, UsageError


def wav(
    seconds: float = 1.0, *, rate: int = 16_000, channels: int = 1, width: int = 2, hz: float = 440
) -> bytes:
    """Return a tone as a WAV file's bytes; only 16 bits have the tone, others are silent."""
    frames = int(seconds * rate)
    written = io.BytesIO()
    with wave.open(written, "wb") as file:
        file.setparams((channels, width, rate, frames, "NONE", ""))
        tone = np.sin(2 * np.pi * hz * np.arange(frames) / rate) * 2**14
        data = np.repeat(tone.astype("<i2"), channels).tobytes()
        file.writeframes(data if width == 2 else bytes(frames * channels * width))
    return written.getvalue()


class Scribe(HTTPServer):
    """A server that answers every upload with one answer and keeps what it was sent."""

    status = 200
    answer = b'{"text": " Get Kate Murphy\'s phone number. "}'
    location = ""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.seen: list[tuple[str, Message]] = []

    @property
    def url(self) -> str:
        """Base address."""
        return f"http://127.0.0.1:{self.server_port}/v1"


class _Handler(BaseHTTPRequestHandler):
    server: Scribe

    def do_POST(self) -> None:
        """Keep the form, give the answer."""
        body = self.rfile.read(int(self.headers["Content-Length"]))
        head = f"Content-Type: {self.headers['Content-Type']}\r\n\r\n".encode()
        message = message_from_bytes(head + body)
        message["Authorization"] = self.headers["Authorization"] or ""
        self.server.seen.append((self.path, message))
        self.send_response(self.server.status)
        if self.server.location:
            self.send_header("Location", self.server.location)
        self.send_header("Content-Length", str(len(self.server.answer)))
        self.end_headers()
        self.wfile.write(self.server.answer)

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""


@pytest.fixture
def scribe() -> Iterator[Scribe]:
    """A running server on this machine."""
    with Scribe() as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def sound(tmp_path: Path) -> Path:
    """A WAV file of one second."""
    path = tmp_path / "request.wav"
    path.write_bytes(wav())
    return path


def test_the_form_is_what_openai_takes(
    scribe: Scribe, monkeypatch: pytest.MonkeyPatch, sound: Path
) -> None:
    """File, model and format, read by the standard library's own parser; the key as bearer."""
    monkeypatch.setenv(speech.KEY_VARIABLE, "secret")

    said = speech.SpeechEndpoint(url=scribe.url, model="tiny").write_down(sound.read_bytes())

    assert said.strip() == "Get Kate Murphy's phone number."
    ((path, message),) = scribe.seen
    parts = {
        str(part.get_param("name", header="content-disposition")): part
        for part in message.walk()
        if not part.is_multipart()
    }
    assert path == "/v1/audio/transcriptions"
    assert message["Authorization"] == "Bearer secret"
    assert parts["model"].get_payload() == "tiny"
    assert parts["response_format"].get_payload() == "json"
    assert parts["file"].get_filename() == "request.wav"
    assert parts["file"].get_payload(decode=True) == sound.read_bytes()


def test_sound_to_this_machine_takes_no_proxy(
    scribe: Scribe, monkeypatch: pytest.MonkeyPatch, sound: Path
) -> None:
    """A proxy in the environment would carry it off the machine."""
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")

    assert speech.SpeechEndpoint(url=scribe.url).write_down(sound.read_bytes())


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("http://example.org/v1", "plain HTTP"),
        ("http://192.168.0.2:80/v1", "plain HTTP"),
        ("ftp://127.0.0.1/v1", "expected an address"),
        ("127.0.0.1:8000", "expected an address"),
        ("http://127.0.0.1:99999/v1", "expected an address"),
        ("http://[::1/v1", "expected an address"),
        ("https://me:word@example.org/v1", "holds a password"),
    ],
)
def test_wrong_addresses_are_refused(url: str, why: str) -> None:
    """Before anything is sent, in a line that says why."""
    with pytest.raises(UsageError, match=why):
        speech.SpeechEndpoint(url=url)


@pytest.mark.parametrize("url", ["https://example.org/v1", "http://[::1]:8000/v1"])
def test_encrypted_and_own_addresses_are_taken(url: str) -> None:
    """HTTPS to anybody, plain HTTP to this machine, IPv6 too."""
    assert speech.SpeechEndpoint(url=url).url == url


@pytest.mark.parametrize(
    ("status", "answer", "why"),
    [
        (500, b"out of\nmemory", "status 500: out of memory"),
        (200, b"no json", "no JSON"),
        (200, b'{"words": []}', "without a text"),
        (200, b'{"text": null}', "without a text"),
        (200, b'{"text": "' + b"a" * 1024 * 1024 + b'"}', "more than"),
    ],
)
def test_bad_answers_are_one_line(
    scribe: Scribe, status: int, answer: bytes, why: str, sound: Path
) -> None:
    """A server that fails, or answers something else, is a model error."""
    scribe.status, scribe.answer = status, answer

    with pytest.raises(ModelError, match=why) as caught:
        speech.SpeechEndpoint(url=scribe.url).write_down(sound.read_bytes())

    assert "\n" not in str(caught.value)


def test_a_redirect_is_not_followed(scribe: Scribe, sound: Path) -> None:
    """The sound is not sent on to another address."""
    scribe.status, scribe.location = 307, f"{scribe.url}/elsewhere"

    with pytest.raises(ModelError, match="status 307"):
        speech.SpeechEndpoint(url=scribe.url).write_down(sound.read_bytes())
    assert len(scribe.seen) == 1


def test_nobody_there_is_one_line(sound: Path) -> None:
    """A port without a server."""
    with Scribe() as closed:
        url = closed.url

    with pytest.raises(ModelError, match="cannot be used"):
        speech.SpeechEndpoint(url=url, timeout_s=5).write_down(sound.read_bytes())


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "no WAV file"),
        (b"RIFF\0\0\0\0WAVE", "no WAV file"),
        (b"ID3 not a wave", "no WAV file"),
        (wav(0), "0.0 s long"),
        (wav(121, rate=1000), "121.0 s long"),
    ],
)
def test_other_sound_is_refused(tmp_path: Path, content: bytes, why: str) -> None:
    """Before it is sent."""
    path = tmp_path / "sound"
    path.write_bytes(content)

    with pytest.raises(InputError, match=why):
        speech.read_wav(path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    """With the system's reason."""
    with pytest.raises(InputError, match=r"none\.wav cannot be read: No such file"):
        speech.read_wav(tmp_path / "none.wav")


@pytest.mark.parametrize(("rate", "channels"), [(16_000, 1), (44_100, 2), (8_000, 1)])
def test_samples_keep_the_tone(rate: int, channels: int) -> None:
    """Whatever the rate, a second has 16,000 samples and its loudest frequency is the tone's."""
    found = speech.samples(wav(1.0, rate=rate, channels=channels, hz=440))

    assert found.dtype == np.float32
    assert found.shape == (16_000,)
    spectrum = np.abs(np.fft.rfft(found))
    assert spectrum.argmax() == 440
    assert 0.45 < np.abs(found).max() < 0.55


@pytest.mark.parametrize("width", [1, 3, 4])
def test_samples_of_other_widths_are_read(width: int) -> None:
    """All zero bytes are silence, or with 8 bits, whose middle is 128, the lowest value."""
    found = speech.samples(wav(0.5, width=width))

    assert found.shape == (8_000,)
    assert set(found.tolist()) == ({-1.0} if width == 1 else {0.0})


def test_24_bits_are_read_with_their_sign() -> None:
    """Little-endian, the highest byte last."""
    written = io.BytesIO()
    with wave.open(written, "wb") as file:
        file.setparams((1, 3, 16_000, 3, "NONE", ""))
        file.writeframes(b"\x00\x00\x40" + b"\x00\x00\x80" + b"\x00\x00\xc0")

    assert speech.samples(written.getvalue()).tolist() == [0.5, -1.0, -0.5]


def test_without_a_scribe_it_says_what_would_do(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither a server named nor mlx-whisper installed."""
    monkeypatch.setitem(sys.modules, "mlx_whisper", None)

    with pytest.raises(ConfigError, match="pip install mlx-whisper"):
        speech.LocalSpeech().write_down(wav())


def test_mlx_whisper_gets_samples_and_a_model(monkeypatch: pytest.MonkeyPatch) -> None:
    """As its ``transcribe`` takes them; an array needs no ffmpeg."""
    seen: dict[str, Any] = {}

    def transcribe(audio: np.ndarray, *, path_or_hf_repo: str) -> dict[str, str]:
        seen.update(shape=audio.shape, model=path_or_hf_repo)
        return {"text": " hello "}

    monkeypatch.setitem(sys.modules, "mlx_whisper", SimpleNamespace(transcribe=transcribe))  # type: ignore[arg-type]

    assert speech.LocalSpeech(model="mine").write_down(wav()) == " hello "
    assert seen == {"shape": (16_000,), "model": "mine"}


def test_a_microphone_without_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    """The extra is named."""
    monkeypatch.setitem(sys.modules, "sounddevice", None)

    with pytest.raises(ConfigError, match="extra 'voice'"):
        speech.record(1)


def test_a_recording_is_a_wav_file(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the microphone gave, one channel of 16 bits."""

    def rec(frames: int, **how: Any) -> np.ndarray:
        assert how == {"samplerate": 16_000, "channels": 1, "dtype": "int16"}
        return np.full((frames, 1), 7, np.int16)

    fake = SimpleNamespace(rec=rec, wait=lambda: None, PortAudioError=RuntimeError)
    monkeypatch.setitem(sys.modules, "sounddevice", fake)  # type: ignore[arg-type]

    with wave.open(io.BytesIO(speech.record(0.5))) as file:
        assert (file.getnframes(), file.getframerate(), file.getsampwidth()) == (8_000, 16_000, 2)
        assert file.readframes(2) == b"\x07\x00\x07\x00"


def test_text_only_prints_what_was_said(
    cli: Callable[..., Any], scribe: Scribe, sound: Path
) -> None:
    """On standard output, blanks made plain, nothing planned."""
    done = cli("listen", sound, "--endpoint", scribe.url, "--text")

    assert (done.code, done.out) == (0, "Get Kate Murphy's phone number.\n")


def test_silence_is_an_error(cli: Callable[..., Any], scribe: Scribe, sound: Path) -> None:
    """There is nothing to plan."""
    scribe.answer = json.dumps({"text": " \n"}).encode()

    done = cli("listen", sound, "--endpoint", scribe.url)

    assert done.code == 1
    assert done.line == "no words were heard"


@pytest.mark.usefixtures("world")
def test_a_spoken_request_is_planned_and_answered(
    cli: Callable[..., Any], scribe: Scribe, sound: Path, plans: dict[str, str]
) -> None:
    """As a typed one; what was heard is shown."""
    plans["Get Kate Murphy's phone number."] = '1. get_phone_number("Kate Murphy")\n2. join()'

    done = cli("listen", sound, "--endpoint", scribe.url)

    assert done.code == 0, done.err
    assert done.out == "Kate Murphy: +353 20 911 0130\n"
    assert "heard: Get Kate Murphy's phone number." in done.err


@pytest.mark.usefixtures("world")
def test_speech_is_no_yes(
    cli: Callable[..., Any], scribe: Scribe, sound: Path, plans: dict[str, str]
) -> None:
    """A plan that changes something needs one that is typed."""
    said = "Note that the key is under the mat, yes, do it"
    scribe.answer = json.dumps({"text": said}).encode()
    plans[said] = '1. create_note("Key", "The key is under the mat.", "")\n2. join()'

    done = cli("listen", sound, "--endpoint", scribe.url)

    assert done.code == 3
    assert "no terminal to ask at" in done.err


def test_speaking_needs_macos(
    cli: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, sound: Path
) -> None:
    """Said before anything is recorded, sent or planned."""
    monkeypatch.setattr(sys, "platform", "linux")

    done = cli("listen", sound, "--say")

    assert done.code == 2
    assert "--say" in done.line


def test_an_answer_is_spoken_as_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is no option and no command of ``say``; the program here only keeps what it was given."""
    program = tmp_path / "bin" / "say"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\necho "$1" >{tmp_path}/option\ncat "$2" >{tmp_path}/said\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}{os.pathsep}{os.environ['PATH']}")

    say("-o x [[rate 9]] done \u2713")

    assert (tmp_path / "option").read_text() == "-f\n"
    assert (tmp_path / "said").read_text() == "-o x rate 9 done \u2713"


def test_an_answer_that_cannot_be_spoken_is_a_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The answer was printed already; that it was not spoken is no failure."""
    monkeypatch.setenv("PATH", str(tmp_path))

    say("done")

    assert "could not be spoken" in capsys.readouterr().err
