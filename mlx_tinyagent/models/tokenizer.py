"""Text to token ids and back, the bytes behind every token, and the chat frame.

Reads ``tokenizer.json`` with the ``tokenizers`` library alone: no transformers,
no MLX, nothing added to the text on the way. Prompts are not composed here.
"""

from __future__ import annotations

import functools
import re
import threading
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlx_tinyagent.errors import ModelError
from mlx_tinyagent.models.folder import read_json

if TYPE_CHECKING:
    import llguidance
    import tokenizers

_SPACE = "\u2581"  # how sentencepiece vocabularies write a space
_BYTE_TOKEN = re.compile(r"<0x([0-9A-Fa-f]{2})>")
_SYSTEM, _USER, _ANSWER = "SYSTEM-7c1e5b", "USER-7c1e5b", "ANSWER-7c1e5b"  # in no template


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatFrame:
    """The fixed text a model's chat template puts around what is said.

    A prompt is ``system_open + system + user_open + user + assistant_open``;
    the model answers and ends with ``end``.

    Args:
        system_open: Before the system's content.
        user_open: Between the system's content and the user's.
        assistant_open: Between the user's content and the answer.
        end: After the answer, as the template closes a turn; its first token
            is the one that ends generation.
    """

    system_open: str
    user_open: str
    assistant_open: str
    end: str


class Tokenizer:
    """A model's tokenizer; safe to share between threads.

    Args:
        folder: Model folder with ``tokenizer.json``; the configuration files
            beside it name end tokens and the chat template.
        n_vocab: Width of the model's logits, which may exceed the vocabulary.

    Raises:
        ModelError: A file is missing or damaged, or the vocabulary is wider
            than the logits.
    """

    def __init__(self, folder: Path, *, n_vocab: int | None = None) -> None:
        self.folder = folder
        self._lock = threading.Lock()
        self._inner_lock = threading.Lock()  # encode switches a setting of ``_inner``
        self._inner = _read_tokenizer(folder / "tokenizer.json")
        self._config = _optional_json(folder / "tokenizer_config.json")
        size = self._inner.get_vocab_size(with_added_tokens=True)
        self.vocab_size: int = size if n_vocab is None else n_vocab
        if size > self.vocab_size:
            raise ModelError(
                f"{folder}: the tokenizer has {size} tokens, the model scores {self.vocab_size}"
            )
        self._tables: dict[int, list[bytes]] = {}
        self._guide: llguidance.LLTokenizer | None = None

    def encode(self, text: str, *, special: bool = True) -> list[int]:
        """Return the token ids of a text; nothing is put before or after it.

        Args:
            text: Any text.
            special: Whether text such as ``<|im_end|>`` becomes the special
                token of that name. Pass False for text from outside, which
                must not be able to close a turn.
        """
        with self._inner_lock:
            self._inner.encode_special_tokens = not special  # a copy would be 130 ms to load
            ids: list[int] = self._inner.encode(text, add_special_tokens=False).ids
        return ids

    def decode(self, ids: Iterable[int]) -> str:
        """Return the exact text of token ids, special tokens as written.

        Bytes that do not form a character (a sequence cut in the middle of
        one) come out as U+FFFD.
        """
        with self._inner_lock:
            text: str = self._inner.decode(list(ids), skip_special_tokens=False)
        return text

    def token_bytes(self, token: int) -> bytes:
        """Return the bytes a token stands for; empty for ids beyond the vocabulary.

        A special token stands for its name, such as ``b"<|im_end|>"``.

        Raises:
            ModelError: The id is outside the model's logits.
        """
        if not 0 <= token < self.vocab_size:
            raise ModelError(f"token {token} is outside 0 to {self.vocab_size - 1}")
        return self.byte_table[token]

    @functools.cached_property
    def byte_table(self) -> list[bytes]:
        """The bytes of every token, indexed by id; length ``vocab_size``."""
        unmap = _byte_level_chars() if self._is_byte_level() else None
        added = {
            index: token.content for index, token in self._inner.get_added_tokens_decoder().items()
        }
        table = [b""] * self.vocab_size
        for token, index in self._inner.get_vocab(with_added_tokens=True).items():
            if index in added:
                table[index] = added[index].encode()
            elif unmap is not None:
                table[index] = bytes(unmap[char] for char in token)
            elif match := _BYTE_TOKEN.fullmatch(token):
                table[index] = bytes([int(match[1], 16)])
            else:
                table[index] = token.replace(_SPACE, " ").encode()
        return table

    @functools.cached_property
    def eos_ids(self) -> frozenset[int]:
        """The tokens that end an answer, from every file that names one."""
        named: set[int] = set()
        for name in ("generation_config.json", "config.json"):
            value = _optional_json(self.folder / name).get("eos_token_id")
            named.update(value if isinstance(value, list) else [value] if value is not None else [])
        for text in (_content(self._config.get("eos_token")), self.chat_frame().end):
            if text and (ids := self.encode(text)):
                named.add(ids[0])
        return frozenset(token for token in named if 0 <= token < self.vocab_size)

    @property
    def special_ids(self) -> frozenset[int]:
        """Tokens that carry structure and never text."""
        return frozenset(
            index
            for index, token in self._inner.get_added_tokens_decoder().items()
            if token.special
        )

    def chat_frame(self) -> ChatFrame:
        """Return what the chat template puts around a system text and a request.

        The template is rendered with marker contents and split at them.
        Thinking is switched off where the template knows the switch. Without
        a template, or where it allows no such split, blank lines separate.
        """
        return self._frame

    @functools.cached_property
    def _frame(self) -> ChatFrame:
        bos, eos = (_content(self._config.get(f"{name}_token")) for name in ("bos", "eos"))
        template = _template(self.folder, self._config)
        frame = _split_template(template, bos=bos, eos=eos) if template else None
        return frame or ChatFrame(
            system_open=bos, user_open="\n\n", assistant_open="\n\n", end=eos or "\n\n"
        )

    def llguidance_tokenizer(self) -> llguidance.LLTokenizer:
        """Return the tokenizer as llguidance wants it, built once.

        Its vocabulary is as wide as the model's logits, so masks fit them.
        """
        import llguidance

        with self._lock:
            if self._guide is None:
                with self._inner_lock:
                    self._inner.encode_special_tokens = False
                    described = self._inner.to_str()
                self._guide = llguidance.LLTokenizer(
                    described,
                    n_vocab=self.vocab_size,
                    eos_token=sorted(self.eos_ids),
                    slices=[],  # no faster masks under these grammars, and 100 ms to prepare
                )
            return self._guide

    def _is_byte_level(self) -> bool:
        return '"ByteLevel"' in repr_json(self._inner.decoder)


def repr_json(component: Any) -> str:
    """Return the JSON text of a component of the ``tokenizers`` library; empty for None."""
    return "" if component is None else component.__getstate__().decode()


def _read_tokenizer(path: Path) -> tokenizers.Tokenizer:
    import tokenizers

    if not path.exists():
        raise ModelError(
            f"{path.parent} has no tokenizer.json; convert its tokenizer to that format"
        )
    try:
        inner = tokenizers.Tokenizer.from_file(str(path))
    except Exception as error:  # the library raises bare Exception for damaged files
        raise ModelError(f"{path} is not a usable tokenizer ({error})") from error
    inner.no_padding()
    inner.no_truncation()
    return inner


def _optional_json(path: Path) -> dict[str, Any]:
    return read_json(path) if path.exists() else {}


def _content(token: Any) -> str:
    """Return the text of a token that a configuration gives as text or as an object."""
    if isinstance(token, dict):
        token = token.get("content")
    return token if isinstance(token, str) else ""


@functools.cache
def _byte_level_chars() -> dict[str, int]:
    """Return byte-level BPE's characters and the bytes they stand for.

    Printable bytes stand for themselves; the other 68 are shifted to code
    points from 256 on, in order (GPT-2, ``bytes_to_unicode``).
    """
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    chars = {chr(byte): byte for byte in printable}
    shifted = [byte for byte in range(256) if byte not in set(printable)]
    return chars | {chr(256 + index): byte for index, byte in enumerate(shifted)}


def _template(folder: Path, config: dict[str, Any]) -> str | None:
    """Return the chat template: a file of its own, or inside the configuration."""
    file = folder / "chat_template.jinja"
    if file.exists():
        return file.read_text(encoding="utf-8")
    template = config.get("chat_template")
    if isinstance(template, list):  # several named ones; the default serves
        template = next((t.get("template") for t in template if t.get("name") == "default"), None)
    return template if isinstance(template, str) else None


def _split_template(template: str, *, bos: str, eos: str) -> ChatFrame | None:
    """Render a template around markers and cut it there; None if it cannot be cut so."""
    system = {"role": "system", "content": _SYSTEM}
    user = {"role": "user", "content": _USER}
    answer = {"role": "assistant", "content": _ANSWER}
    tokens = {"bos_token": bos, "eos_token": eos}
    opened = _render(template, [system, user], add_generation_prompt=True, **tokens)
    closed = _render(template, [system, user, answer], add_generation_prompt=False, **tokens)
    marks = (_SYSTEM, _USER)
    if opened is None or closed is None or any(opened.count(mark) != 1 for mark in marks):
        return None
    if opened.index(_SYSTEM) > opened.index(_USER) or closed.count(_ANSWER) != 1:
        return None
    system_open, rest = opened.split(_SYSTEM)
    user_open, assistant_open = rest.split(_USER)
    end = closed.split(_ANSWER)[1]
    return ChatFrame(
        system_open=system_open,
        user_open=user_open,
        assistant_open=assistant_open,
        end=end or eos,
    )


def _render(template: str, messages: list[dict[str, str]], **values: Any) -> str | None:
    """Render a chat template in jinja's sandbox, as transformers does; None if it refuses.

    ``strftime_now`` stays undefined on purpose: templates that know a date
    then print their fixed one, and prompts stay equal from day to day.
    """
    import json

    import jinja2
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    def refuse(message: str) -> None:
        raise jinja2.TemplateError(message)

    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"]
    )
    environment.filters["tojson"] = lambda value, **_: json.dumps(value, ensure_ascii=False)
    environment.globals["raise_exception"] = refuse
    try:
        return environment.from_string(template).render(
            messages=messages, tools=None, enable_thinking=False, **values
        )
    except (jinja2.TemplateError, TypeError, ValueError, AttributeError):
        return None
