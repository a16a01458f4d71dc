"""SentencePiece Unigram tokenizers, as DeBERTa uses them.

Reads ``tokenizer.json``, or builds the same from ``spm.model`` without the
sentencepiece package. The order of the normalizer's steps decides about
parity with SentencePiece: character map first, then runs of spaces, then the
ends. Newer transformers rebuild this tokenizer without the character map, so
``AutoTokenizer`` is not used.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mlx_tinyagent.errors import InputError, ModelError
from mlx_tinyagent.files import atomic_write

if TYPE_CHECKING:
    from tokenizers import Tokenizer
    from tokenizers.normalizers import Normalizer
    from tokenizers.processors import PostProcessor

TOKENIZER_FILE = "tokenizer.json"
SPM_FILE = "spm.model"

CLS, SEP, PAD, UNK, MASK = "[CLS]", "[SEP]", "[PAD]", "[UNK]", "[MASK]"

# Score of pieces that text must not become: below any sum of scores, so that a
# user who types "[SEP]" gets brackets and letters, as in SentencePiece.
_NEVER = -1e6

# Piece types of sentencepiece_model.proto.
_NORMAL, _UNKNOWN, _CONTROL, _USER_DEFINED, _UNUSED, _BYTE = range(1, 7)
_UNIGRAM = 1


class UnigramTokenizer:
    """Text -> ``[CLS] pieces [SEP]``.

    Args:
        tokenizer: A Unigram tokenizer that knows ``[CLS]``, ``[SEP]``,
            ``[PAD]`` and ``[UNK]``.

    Raises:
        ModelError: It is no Unigram tokenizer, or a special token is missing.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        from tokenizers.models import Unigram

        if not isinstance(tokenizer.model, Unigram):
            kind = type(tokenizer.model).__name__
            raise ModelError(f"the tokenizer's model is {kind}; Unigram is expected")
        tokenizer.no_truncation()
        tokenizer.no_padding()
        tokenizer.encode_special_tokens = True  # "[SEP]" in a request is text
        self._tokenizer = tokenizer
        self.cls_id = self._special(CLS)
        self.sep_id = self._special(SEP)
        self.pad_id = self._special(PAD)
        self.unk_id = self._special(UNK)
        self._specials = frozenset((self.cls_id, self.sep_id, self.pad_id))

    @classmethod
    def load(cls, folder: Path) -> UnigramTokenizer:
        """Load ``tokenizer.json``, else build it from ``spm.model``.

        Args:
            folder: A model's folder.

        Raises:
            ModelError: Neither file is there, or the file is damaged or foreign.
        """
        if (folder / TOKENIZER_FILE).is_file():
            return cls.from_json(folder / TOKENIZER_FILE)
        if (folder / SPM_FILE).is_file():
            return cls.from_spm(folder / SPM_FILE)
        raise ModelError(f"{folder}: has neither {TOKENIZER_FILE} nor {SPM_FILE}")

    @classmethod
    def from_json(cls, path: Path) -> UnigramTokenizer:
        """Load a ``tokenizer.json``.

        Raises:
            ModelError: The file is missing, damaged or not of this kind.
        """
        from tokenizers import Tokenizer

        try:
            tokenizer = Tokenizer.from_str(path.read_text(encoding="utf-8"))
        except Exception as error:  # tokenizers raises bare Exception
            raise ModelError(f"{path}: cannot be read as a tokenizer: {error}") from error
        return _located(path, tokenizer)

    @classmethod
    def from_spm(cls, path: Path) -> UnigramTokenizer:
        """Build the tokenizer of a SentencePiece model.

        Raises:
            ModelError: The file is missing or damaged, or its model is not a
                plain Unigram one.
        """
        try:
            model = parse_spm(path.read_bytes())
            tokenizer = _build(model)
        except OSError as error:
            raise ModelError(f"{path}: cannot be read: {error}") from error
        except ModelError as error:
            raise ModelError(f"{path}: {error}") from error
        return _located(path, tokenizer)

    @classmethod
    def train(cls, texts: Iterable[str], *, vocab_size: int) -> UnigramTokenizer:
        """Learn a vocabulary; text is read in Unicode's NFKC form.

        The characters of an ASCII keyboard are always pieces. Equal texts give
        equal files.

        Args:
            texts: The corpus, in an order that does not change between runs.
            vocab_size: Most ids, the five special tokens included; 200 or more.

        Raises:
            InputError: The texts hold too little to learn pieces from.
        """
        from tokenizers import Regex, Tokenizer, normalizers
        from tokenizers.models import Unigram
        from tokenizers.trainers import UnigramTrainer

        learner = Tokenizer(Unigram())
        steps = [normalizers.NFKC(), normalizers.Replace(Regex(r"\s"), " ")]
        _set_spaces(learner, steps)
        trainer = UnigramTrainer(
            vocab_size=vocab_size,
            special_tokens=[PAD, CLS, SEP, UNK, MASK],
            initial_alphabet=[chr(code) for code in range(ord("!"), ord("~") + 1)],
            unk_token=UNK,
            show_progress=False,
        )
        try:
            learner.train_from_iterator(texts, trainer)
        except Exception as error:  # tokenizers raises bare Exception
            raise InputError(f"no vocabulary can be learned from these texts: {error}") from error
        learned = json.loads(learner.to_str())
        vocabulary = learned["model"]["vocab"]
        if len(vocabulary) <= 5 or vocabulary[5][1] is None:
            raise InputError("no vocabulary can be learned: the texts hold no characters")
        learned["model"]["vocab"] = _canonical(vocabulary)
        tokenizer = Tokenizer.from_str(json.dumps(learned))
        tokenizer.post_processor = _template(tokenizer)
        return cls(tokenizer)

    @property
    def vocab_size(self) -> int:
        """Number of ids, added tokens included."""
        return self._tokenizer.get_vocab_size(with_added_tokens=True)

    def encode(self, text: str, *, max_length: int = 512) -> list[int]:
        """Return ``[CLS] pieces [SEP]``.

        Args:
            text: Anything; lone surrogates become ``?``.
            max_length: Most ids to return; pieces at the end are dropped first.

        Raises:
            InputError: ``max_length`` leaves no room for the two special tokens.
        """
        return self.encode_batch([text], max_length=max_length)[0]

    def encode_batch(self, texts: Sequence[str], *, max_length: int = 512) -> list[list[int]]:
        """Return one row of ids per text; see ``encode``."""
        if max_length < 2:
            raise InputError(f"max_length is {max_length}; [CLS] and [SEP] alone need 2")
        clean = [text.encode("utf-8", "replace").decode("utf-8") for text in texts]
        encoded = self._tokenizer.encode_batch(clean, add_special_tokens=False)
        return [
            [self.cls_id, *map(self._as_text, row.ids[: max_length - 2]), self.sep_id]
            for row in encoded
        ]

    def pieces(self, ids: Sequence[int]) -> list[str]:
        """Return the pieces behind ids.

        Raises:
            InputError: An id that does not exist.
        """
        found = [self._tokenizer.id_to_token(one) if one >= 0 else None for one in ids]
        if None in found:
            bad = ids[found.index(None)]
            raise InputError(f"id {bad} does not exist; 0 to {self.vocab_size - 1} do")
        return [piece for piece in found if piece is not None]

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of ids, special tokens left out."""
        return self._tokenizer.decode(list(ids), skip_special_tokens=True)

    def save(self, folder: Path) -> None:
        """Write ``tokenizer.json`` and a ``tokenizer_config.json`` beside it.

        The latter names the class that takes ``tokenizer.json`` as it is.

        Raises:
            StoreError: The folder cannot be written.
        """
        config = {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "cls_token": CLS,
            "sep_token": SEP,
            "pad_token": PAD,
            "unk_token": UNK,
        }
        if self._tokenizer.token_to_id(MASK) is not None:
            config["mask_token"] = MASK
        atomic_write(folder / TOKENIZER_FILE, self._tokenizer.to_str(pretty=False))
        atomic_write(folder / "tokenizer_config.json", json.dumps(config, indent=2) + "\n")

    def _special(self, token: str) -> int:
        found: int | None = self._tokenizer.token_to_id(token)
        if found is None:
            raise ModelError(f"the tokenizer has no {token}")
        return found

    def _as_text(self, one: int) -> int:
        """Return the id of a piece; a special one inside a text is unknown."""
        return self.unk_id if one in self._specials else one


@dataclass(frozen=True, slots=True, kw_only=True)
class SpmModel:
    """What a SentencePiece model file says.

    Attributes:
        pieces: Text, score and type of every piece, in the order of ids.
        unk_id: Id of the unknown piece.
        charsmap: Compiled character map of the normalizer; empty for none.
    """

    pieces: tuple[tuple[str, float, int], ...]
    unk_id: int
    charsmap: bytes


def parse_spm(data: bytes) -> SpmModel:
    """Read a SentencePiece Unigram model.

    Args:
        data: Content of the file, a serialized ``ModelProto``.

    Raises:
        ModelError: The data is damaged, or the model differs in kind from
            what ``tokenizers`` can reproduce.

    Source:
        ``sentencepiece_model.proto`` of google/sentencepiece.
    """
    try:
        fields = list(_fields(data))
        pieces = tuple(_piece(value) for number, value in fields if number == 1)
        trainer = dict(_fields(_message(fields, 2)))
        normalizer = dict(_fields(_message(fields, 3)))
    except (ValueError, IndexError, KeyError, struct.error) as error:
        raise ModelError(f"cannot be read as a SentencePiece model: {error}") from error
    if not (pieces and trainer and normalizer):
        raise ModelError(
            f"holds {len(pieces)} pieces, {len(trainer)} training and {len(normalizer)} "
            "normalizer settings; a whole SentencePiece model has all of them"
        )
    _check_plain(trainer, normalizer, pieces)
    unknown = [index for index, (_, _, kind) in enumerate(pieces) if kind == _UNKNOWN]
    if len(unknown) != 1:
        raise ModelError(f"holds {len(unknown)} unknown pieces; 1 is expected")
    charsmap = normalizer.get(2, b"")
    return SpmModel(
        pieces=pieces,
        unk_id=unknown[0],
        charsmap=charsmap if isinstance(charsmap, bytes) else b"",
    )


def _located(path: Path, tokenizer: Tokenizer) -> UnigramTokenizer:
    """Wrap a tokenizer; its errors name the file."""
    try:
        return UnigramTokenizer(tokenizer)
    except ModelError as error:
        raise ModelError(f"{path}: {error}") from error


def _canonical(vocabulary: list[tuple[str, float]]) -> list[tuple[str, float]]:
    """Return a learned vocabulary without the traces of thread timing.

    Sums of scores differ in their last bits between runs, and rare characters
    share the lowest score but for steps of 0.0001 in random order.
    """
    specials, pieces = vocabulary[:5], vocabulary[5:]
    lowest = min(score for _, score in pieces)
    highest_step = lowest + 1e-4 * sum(len(text) == 1 for text, _ in pieces)
    even = [
        (text, round(lowest if len(text) == 1 and score < highest_step else score, 6))
        for text, score in pieces
    ]
    even.sort(key=lambda piece: (-piece[1], piece[0]))
    return [*((text, _NEVER) for text, _ in specials), *even]


def _build(model: SpmModel) -> Tokenizer:
    """Return the tokenizer that reads text as the SentencePiece model does."""
    from tokenizers import AddedToken, Tokenizer, normalizers
    from tokenizers.models import Unigram

    hidden = (_UNKNOWN, _CONTROL, _UNUSED)
    vocabulary = [(text, _NEVER if kind in hidden else score) for text, score, kind in model.pieces]
    tokenizer = Tokenizer(Unigram(vocabulary, unk_id=model.unk_id, byte_fallback=False))
    steps = [normalizers.Precompiled(model.charsmap)] if model.charsmap else []
    _set_spaces(tokenizer, steps)
    tokenizer.add_special_tokens(
        [
            AddedToken(text, normalized=False, special=True)
            for text, _, kind in model.pieces
            if kind in (_UNKNOWN, _CONTROL)
        ]
    )
    tokenizer.add_tokens(
        [
            AddedToken(text, normalized=False)
            for text, _, kind in model.pieces
            if kind == _USER_DEFINED and text != MASK
        ]
    )
    tokenizer.add_special_tokens([AddedToken(MASK, normalized=False, special=True)])
    tokenizer.post_processor = _template(tokenizer)
    return tokenizer


def _set_spaces(tokenizer: Tokenizer, steps: Sequence[Normalizer]) -> None:
    """Make spaces part of pieces, after ``steps`` have rewritten the characters."""
    from tokenizers import Regex, decoders, normalizers, pre_tokenizers

    tokenizer.normalizer = normalizers.Sequence(
        [
            *steps,
            normalizers.Replace(Regex(" {2,}"), " "),
            normalizers.Replace(Regex(r"\A | \z"), ""),  # Strip() takes other white space too
        ]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="always")
    tokenizer.decoder = decoders.Metaspace(replacement="▁", prepend_scheme="always")


def _template(tokenizer: Tokenizer) -> PostProcessor:
    from tokenizers.processors import TemplateProcessing

    ids = [(name, tokenizer.token_to_id(name)) for name in (CLS, SEP)]
    missing = [name for name, found in ids if found is None]
    if missing:
        raise ModelError(f"the model has no {missing[0]}")
    return TemplateProcessing(
        single=f"{CLS}:0 $A:0 {SEP}:0",
        pair=f"{CLS}:0 $A:0 {SEP}:0 $B:1 {SEP}:1",
        special_tokens=ids,
    )


def _check_plain(
    trainer: dict[int, int | bytes],
    normalizer: dict[int, int | bytes],
    pieces: Sequence[tuple[str, float, int]],
) -> None:
    """Refuse settings that ``tokenizers`` has no equal of."""
    expected = (
        (trainer, 3, "model_type", _UNIGRAM),
        (trainer, 24, "treat_whitespace_as_suffix", 0),
        (trainer, 35, "byte_fallback", 0),
        (normalizer, 3, "add_dummy_prefix", 1),
        (normalizer, 4, "remove_extra_whitespaces", 1),
        (normalizer, 5, "escape_whitespaces", 1),
    )
    for message, number, name, value in expected:  # the expected values are the defaults
        found = message.get(number, value)
        if found != value:
            raise ModelError(f"{name} is {found!r}; only {value} can be reproduced")
    if any(kind == _BYTE for _, _, kind in pieces):
        raise ModelError("holds byte pieces; a model without byte fallback is expected")


def _piece(value: int | bytes) -> tuple[str, float, int]:
    """Return text, score and type of a serialized ``SentencePiece``."""
    fields = dict(_fields(_bytes(value)))
    text, score, kind = fields[1], fields.get(2, b"\0\0\0\0"), fields.get(3, _NORMAL)
    if not isinstance(kind, int):
        raise ValueError("a piece's type is no number")
    return _bytes(text).decode("utf-8"), struct.unpack("<f", _bytes(score))[0], kind


def _message(fields: Sequence[tuple[int, int | bytes]], number: int) -> bytes:
    """Return the last sub-message of this number; empty where there is none."""
    found = [value for key, value in fields if key == number]
    return _bytes(found[-1]) if found else b""


def _bytes(value: int | bytes) -> bytes:
    if isinstance(value, int):
        raise ValueError("a number stands where bytes are expected")
    return value


def _fields(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Yield number and value of every field of a protobuf message.

    Raises:
        ValueError: The data is no message.
    """
    at = 0
    while at < len(data):
        tag, at = _varint(data, at)
        number, wire = tag >> 3, tag & 7
        if wire == 0:
            value, at = _varint(data, at)
            yield number, value
            continue
        if wire == 2:
            size, at = _varint(data, at)
        elif wire in (1, 5):
            size = 8 if wire == 1 else 4
        else:
            raise ValueError(f"wire type {wire} at byte {at}")
        if at + size > len(data):
            raise ValueError(f"a field of {size} bytes at byte {at} passes the end")
        yield number, data[at : at + size]
        at += size


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """Return the number at ``at`` and where it ends."""
    value = 0
    for shift in range(0, 70, 7):
        byte = data[at]  # IndexError: cut short
        value |= (byte & 0x7F) << shift
        at += 1
        if byte < 0x80:
            return value, at
    raise ValueError(f"a number longer than 10 bytes ends at byte {at}")
