"""From sound to words: WAV files, a microphone, and who writes down what was said.

Knows no plan. Sound goes to the address that was given and nowhere else: plain
HTTP to this machine only, no redirects, and no proxy on the way to this machine.
"""

from __future__ import annotations

import http.client
import importlib
import io
import ipaddress
import json
import os
import secrets
import urllib.error
import urllib.request
import wave
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Protocol
from urllib.parse import urlsplit

from mlx_tinyagent.errors import ConfigError, InputError, ModelError, UsageError

if TYPE_CHECKING:
    import numpy as np

KEY_VARIABLE = "MLX_TINYAGENT_ENDPOINT_KEY"  # sent as bearer token where it is set
ENDPOINT_MODEL = "whisper-1"  # OpenAI's name; servers with one model take any
LOCAL_MODEL = "mlx-community/whisper-tiny"
SAMPLE_RATE = 16_000  # Hz; what Whisper hears, and what is recorded
MAX_SECONDS = 120.0  # a request is a sentence or two
MAX_BYTES = 25 * 1024 * 1024  # OpenAI's limit for a file
MAX_ANSWER_BYTES = 1024 * 1024
TIMEOUT_S = 120


class Speech(Protocol):
    """Writes down what was said."""

    def write_down(self, sound: bytes) -> str:
        """Return the words in a WAV file's bytes."""
        ...


def read_wav(path: Path) -> bytes:
    """Read a WAV file that is short enough to be a request.

    Raises:
        InputError: It cannot be read, is no PCM WAV file, or is too long.
    """
    try:
        if path.stat().st_size > MAX_BYTES:
            raise InputError(f"{path} has more than {MAX_BYTES // 2**20} MB")
        sound = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from error
    seconds = _length(sound, str(path))
    if not 0 < seconds <= MAX_SECONDS:
        raise InputError(f"{path} is {seconds:.1f} s long; a request has up to {MAX_SECONDS:.0f} s")
    return sound


def _length(sound: bytes, where: str) -> float:
    """Return the seconds in a WAV file's bytes."""
    try:
        with wave.open(io.BytesIO(sound)) as file:
            return float(file.getnframes() / file.getframerate())
    except (wave.Error, EOFError, ZeroDivisionError) as error:
        raise InputError(f"{where} is no WAV file of PCM samples: {error}") from error


def record(seconds: float) -> bytes:
    """Record from the microphone; returns a WAV file's bytes.

    Raises:
        ConfigError: The extra is not installed.
        InputError: There is no microphone, or it cannot be used.
    """
    try:
        sounddevice: Any = importlib.import_module("sounddevice")
    except (ImportError, OSError) as error:  # OSError: PortAudio itself is missing
        raise ConfigError(
            f"a microphone needs the extra 'voice' ({error}); or name a WAV file"
        ) from error
    frames = int(seconds * SAMPLE_RATE)
    try:
        heard = sounddevice.rec(frames, samplerate=SAMPLE_RATE, channels=1, dtype="int16")
        sounddevice.wait()
    except sounddevice.PortAudioError as error:
        raise InputError(f"the microphone cannot be used: {error}") from error
    written = io.BytesIO()
    with wave.open(written, "wb") as file:
        file.setparams((1, 2, SAMPLE_RATE, frames, "NONE", ""))
        file.writeframes(heard.tobytes())
    return written.getvalue()


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """Takes a redirect as a refusal: sound goes where it was told to go."""

    def redirect_request(
        self,
        req: urllib.request.Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: http.client.HTTPMessage,
        newurl: str,
    ) -> None:
        return None


@dataclass(frozen=True, slots=True, kw_only=True)
class SpeechEndpoint:
    """An OpenAI-compatible address that writes speech down.

    Attributes:
        url: Base address, such as ``http://127.0.0.1:8000/v1``.
        model: The model's name there.
        timeout_s: Longest wait for the answer.

    Raises:
        UsageError: The address is none, holds a password, or is plain HTTP to
            another machine.
    """

    url: str
    model: str = ENDPOINT_MODEL
    timeout_s: float = TIMEOUT_S

    def __post_init__(self) -> None:
        try:
            parts = urlsplit(self.url)
            host = parts.hostname or ""
            known = parts.scheme in ("http", "https") and bool(host) and parts.port != 0
        except ValueError:
            known = False
        if not known:
            raise UsageError(
                f"the endpoint is {self.url!r}; expected an address such as "
                "http://127.0.0.1:8000/v1"
            )
        if parts.username or parts.password:
            raise UsageError(f"the endpoint holds a password; put the key into {KEY_VARIABLE}")
        if parts.scheme == "http" and not is_loopback(host):
            raise UsageError(
                f"the endpoint {self.url} is another machine over plain HTTP; take https"
            )

    def write_down(self, sound: bytes) -> str:
        """Send a WAV file's bytes; returns the words.

        Raises:
            ModelError: The endpoint cannot be reached, refuses, or answers in another format.
        """
        kind, body = form({"model": self.model, "response_format": "json"}, sound)
        headers = {"Content-Type": kind}
        if key := os.environ.get(KEY_VARIABLE):
            headers["Authorization"] = f"Bearer {key}"
        address = f"{self.url.rstrip('/')}/audio/transcriptions"
        request = urllib.request.Request(address, data=body, headers=headers)
        handlers: list[urllib.request.BaseHandler] = [_NoRedirect()]
        if is_loopback(urlsplit(self.url).hostname or ""):
            handlers.append(urllib.request.ProxyHandler({}))
        try:
            opener = urllib.request.build_opener(*handlers)
            with opener.open(request, timeout=self.timeout_s) as answer:
                data = answer.read(MAX_ANSWER_BYTES + 1)
        except urllib.error.HTTPError as error:
            detail = " ".join(error.read(300).decode("utf-8", "replace").split())
            raise ModelError(f"{address} refused with status {error.code}: {detail}") from error
        except (OSError, http.client.HTTPException, ValueError) as error:
            reason = getattr(error, "reason", None) or error
            raise ModelError(f"{address} cannot be used: {reason}") from error
        if len(data) > MAX_ANSWER_BYTES:
            raise ModelError(f"{address} answered with more than {MAX_ANSWER_BYTES} bytes")
        return _words(data, address)


def is_loopback(host: str) -> bool:
    """Whether a host is this machine."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def form(fields: dict[str, str], sound: bytes) -> tuple[str, bytes]:
    """Return content type and body of a form with fields and a WAV file (RFC 7578)."""
    mark = secrets.token_hex(16)
    parts = [
        f'--{mark}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'.encode()
        for name, value in fields.items()
    ]
    head = (
        f'--{mark}\r\nContent-Disposition: form-data; name="file"; filename="request.wav"\r\n'
        "Content-Type: audio/wav\r\n\r\n"
    )
    end = f"\r\n--{mark}--\r\n"
    body = b"".join([*parts, head.encode(), sound, end.encode()])
    return f"multipart/form-data; boundary={mark}", body


def _words(data: bytes, address: str) -> str:
    try:
        answer = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise ModelError(f"{address} answered with something that is no JSON") from error
    match answer:
        case {"text": str(text)}:
            return text
    raise ModelError(f"{address} answered without a text: {json.dumps(answer)[:200]}")


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalSpeech:
    """mlx-whisper on this machine.

    Attributes:
        model: Folder or Hub id of a Whisper model in MLX's format.
    """

    model: str = LOCAL_MODEL

    def write_down(self, sound: bytes) -> str:
        """Return the words in a WAV file's bytes.

        Raises:
            ConfigError: mlx-whisper is not installed.
            ModelError: The model cannot be loaded.
        """
        try:
            whisper: Any = importlib.import_module("mlx_whisper")
        except ImportError as error:
            raise ConfigError(
                "nothing here writes speech down: pip install mlx-whisper, or name a server with "
                "--endpoint"
            ) from error
        try:
            heard = whisper.transcribe(samples(sound), path_or_hf_repo=self.model)
        except (OSError, ValueError, RuntimeError) as error:
            raise ModelError(f"{self.model} cannot be used: {error}") from error
        return str(heard["text"])


def samples(sound: bytes) -> np.ndarray:
    """Return a WAV file's sound as Whisper takes it.

    Returns:
        float32, shape [samples], between -1 and 1, one channel, 16,000 a second.

    Raises:
        InputError: The samples have another width than 8, 16, 24 or 32 bits.
    """
    import numpy as np

    with wave.open(io.BytesIO(sound)) as file:
        width, channels, rate = file.getsampwidth(), file.getnchannels(), file.getframerate()
        raw = file.readframes(file.getnframes())
    if width == 3:  # as the upper bytes of 32 bits
        wide = np.zeros((len(raw) // 3, 4), np.uint8)
        wide[:, 1:] = np.frombuffer(raw, np.uint8)[: 3 * len(wide)].reshape(-1, 3)
        raw, width = wide.tobytes(), 4
    kinds = {1: ("u1", 128.0, 128.0), 2: ("<i2", 0.0, 2.0**15), 4: ("<i4", 0.0, 2.0**31)}
    if width not in kinds:
        raise InputError(f"the samples have {8 * width} bits; 8, 16, 24 and 32 are read")
    kind, middle, top = kinds[width]
    values = (np.frombuffer(raw, dtype=kind).astype(np.float64) - middle) / top
    mono = values.reshape(-1, channels).mean(axis=1)
    if rate != SAMPLE_RATE:
        wanted = np.arange(int(len(mono) * SAMPLE_RATE / rate)) * (rate / SAMPLE_RATE)
        mono = np.interp(wanted, np.arange(len(mono)), mono)
    return np.asarray(mono, dtype=np.float32)
