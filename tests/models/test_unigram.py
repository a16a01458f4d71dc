"""The Unigram tokenizer reads text as SentencePiece does, from either file."""

from __future__ import annotations

import json
import random
import struct
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer
from tokenizers.models import BPE

from mlx_tinyagent.errors import InputError, ModelError
from mlx_tinyagent.models.unigram import UnigramTokenizer, parse_spm

CORPUS = [
    "Send a text to Dana saying I am running late.",
    "Create a calendar event called Budget review tomorrow at 3pm with Dana and Lee.",
    "Open the note Shopping list and append milk, eggs and bread.",
    "Find directions from the office to the airport.",
    "Reply to the e-mail from Lee: thanks, the file is attached!",
    "Remind me to call the office on Friday; what is the phone number of Dana?",
    "[x] {brackets} <and> 0123456789 ABCDEFGHIJKLMNOPQRSTUVWXYZ",
]
ODD = [
    *(
        "ﬁ",
        "ﬂ",
        "\uff21",
        "\uff11",
        "½",
        "…",
        "™",
        "é",
        "e\u0301",
        "İ",
        "ß",
        "“",
        "ﷺ",
        "日本",
        "한",
        "😀",
    ),
    *("\u00a0", "\u3000", "\u200b", "\u2028", "\u0085", "\ufeff", "\u00ad", "\t", "\n", "\r"),
    *(" ", "  ", "   ", "\x00", "\x07", "[SEP]", "[CLS]", "[UNK]", "[PAD]", "[MASK]", "...", "-"),
]


def train_spm(folder: Path, **options: Any) -> Any:
    """Train a SentencePiece model with DeBERTa's special pieces and return its processor."""
    sentencepiece = pytest.importorskip("sentencepiece", reason="the oracle is not installed")
    corpus = folder / "corpus.txt"
    corpus.write_text("\n".join(CORPUS * 3), encoding="utf-8")
    defaults = {
        "model_type": "unigram",
        "vocab_size": 150,
        "hard_vocab_limit": False,
        "character_coverage": 1.0,
        "normalization_rule_name": "nmt_nfkc",
        "pad_id": 0,
        "bos_id": 1,
        "eos_id": 2,
        "unk_id": 3,
        "pad_piece": "[PAD]",
        "bos_piece": "[CLS]",
        "eos_piece": "[SEP]",
        "unk_piece": "[UNK]",
        "minloglevel": 2,
    }
    sentencepiece.SentencePieceTrainer.train(
        input=str(corpus), model_prefix=str(folder / "spm"), **{**defaults, **options}
    )
    return sentencepiece.SentencePieceProcessor(model_file=str(folder / "spm.model"))


def odd_texts(count: int) -> list[str]:
    """Return sentences with ligatures, odd spaces and control characters strewn in."""
    draw = random.Random(0)
    texts = []
    for _ in range(count):
        parts = list(draw.choice(CORPUS)[:40])
        for _ in range(draw.randint(0, 6)):
            parts.insert(draw.randint(0, len(parts)), draw.choice(ODD))
        texts.append("".join(parts))
        texts.append("".join(draw.choices(ODD, k=draw.randint(0, 8))))
    return texts


@pytest.mark.parametrize("rule", ["nmt_nfkc", "nfkc", "nmt_nfkc_cf", "identity"])
def test_equals_sentencepiece(rule: str, tmp_path: Path) -> None:
    """On 1,000 odd texts, from ``spm.model`` and from the ``tokenizer.json`` made of it."""
    oracle = train_spm(tmp_path, normalization_rule_name=rule)
    built = UnigramTokenizer.load(tmp_path)
    built.save(tmp_path / "written")
    read = UnigramTokenizer.load(tmp_path / "written")

    texts = odd_texts(500)
    wanted = [[1, *oracle.encode(text), 2] for text in texts]

    assert built.encode_batch(texts) == wanted
    assert read.encode_batch(texts) == wanted


def test_ids_are_debertas(tmp_path: Path) -> None:
    """[PAD] 0, [CLS] 1, [SEP] 2, [UNK] 3, and [MASK] behind the pieces."""
    train_spm(tmp_path)
    tokenizer = UnigramTokenizer.load(tmp_path)

    pieces = parse_spm((tmp_path / "spm.model").read_bytes()).pieces
    assert (tokenizer.pad_id, tokenizer.cls_id, tokenizer.sep_id, tokenizer.unk_id) == (0, 1, 2, 3)
    assert tokenizer.pieces([len(pieces)]) == ["[MASK]"]
    assert tokenizer.vocab_size == len(pieces) + 1


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"model_type": "bpe"}, "model_type is 2"),
        ({"byte_fallback": True, "vocab_size": 400}, "byte_fallback is 1"),
        ({"add_dummy_prefix": False}, "add_dummy_prefix is 0"),
        ({"remove_extra_whitespaces": False}, "remove_extra_whitespaces is 0"),
        ({"treat_whitespace_as_suffix": True}, "treat_whitespace_as_suffix is 1"),
        ({"bos_piece": "<s>"}, r"has no \[CLS\]"),
    ],
)
def test_other_kinds_of_model_are_refused(
    options: dict[str, Any], reason: str, tmp_path: Path
) -> None:
    """What ``tokenizers`` would read differently is no guess."""
    train_spm(tmp_path, **options)

    with pytest.raises(ModelError, match=reason) as caught:
        UnigramTokenizer.load(tmp_path)

    assert "spm.model" in str(caught.value)


def test_damaged_models_are_refused(tmp_path: Path) -> None:
    """Cut at every 97th byte, or noise: one readable error, no other exception."""
    train_spm(tmp_path)
    whole = (tmp_path / "spm.model").read_bytes()
    damaged = [whole[:cut] for cut in range(0, 2000, 97)] + [b"\xff" * 50, b"\x07" * 20]

    for data in damaged:
        (tmp_path / "spm.model").write_bytes(data)
        with pytest.raises(ModelError, match=r"spm\.model"):
            UnigramTokenizer.load(tmp_path)


def test_a_hand_made_model_is_parsed() -> None:
    """Bytes written after ``sentencepiece_model.proto``, defaults left out."""

    def piece(text: str, score: float, kind: int | None = None) -> bytes:
        raw = text.encode()
        body = b"\x0a" + bytes([len(raw)]) + raw + b"\x15" + struct.pack("<f", score)
        body += b"" if kind is None else b"\x18" + bytes([kind])
        return b"\x0a" + bytes([len(body)]) + body

    data = piece("[UNK]", 0.0, 2) + piece("[CLS]", 0.0, 3) + piece("▁a", -1.5)
    data += b"\x12\x02\x18\x01"  # trainer_spec: model_type 1
    data += b"\x1a\x05\x12\x03abc"  # normalizer_spec: precompiled_charsmap

    model = parse_spm(data)

    assert model.pieces == (("[UNK]", 0.0, 2), ("[CLS]", 0.0, 3), ("▁a", -1.5, 1))
    assert (model.unk_id, model.charsmap) == (0, b"abc")


# --- A vocabulary of one's own ------------------------------------------------------------


@pytest.fixture(scope="module")
def own() -> UnigramTokenizer:
    """A tokenizer trained on the corpus."""
    return UnigramTokenizer.train(CORPUS * 5, vocab_size=300)


def test_learned_vocabulary_keeps_special_ids(own: UnigramTokenizer) -> None:
    """Ids 0 to 3, no more pieces than asked for, every ASCII character known."""
    keyboard = "".join(chr(code) for code in range(ord("!"), ord("~") + 1))

    assert (own.pad_id, own.cls_id, own.sep_id, own.unk_id) == (0, 1, 2, 3)
    assert own.vocab_size <= 300
    assert own.unk_id not in own.encode(keyboard)
    assert own.decode(own.encode(keyboard)) == keyboard


def test_learning_twice_gives_equal_files(tmp_path: Path) -> None:
    """Threads sum scores in any order; the file does not show it."""
    for name in ("first", "second"):
        UnigramTokenizer.train(CORPUS * 5, vocab_size=300).save(tmp_path / name)

    first, second = (tmp_path / name / "tokenizer.json" for name in ("first", "second"))
    assert first.read_bytes() == second.read_bytes()


def test_special_tokens_in_text_are_text(own: UnigramTokenizer, tmp_path: Path) -> None:
    """A request cannot close its own row, whichever file the tokenizer came from."""
    own.save(tmp_path)

    for tokenizer in (own, UnigramTokenizer.load(tmp_path)):
        ids = tokenizer.encode("a [SEP] b [CLS][PAD] c [MASK]")
        assert ids[0] == tokenizer.cls_id
        assert ids[-1] == tokenizer.sep_id
        assert not {0, 1, 2} & set(ids[1:-1])
        assert tokenizer.decode(ids) == "a [SEP] b [CLS][PAD] c [MASK]"


@pytest.mark.parametrize("text", ["", " ", "\n\t", "\u00a0\u3000"])
def test_empty_text_is_two_tokens(text: str, own: UnigramTokenizer) -> None:
    """[CLS] [SEP], never an empty row."""
    assert own.encode(text) == [own.cls_id, own.sep_id]


def test_any_string_can_be_encoded(own: UnigramTokenizer) -> None:
    """Other scripts, control characters, half a surrogate pair."""
    for text in ("日本語", "\x00\x07", "\ud83d", "🏳\ufe0f\u200d🌈", "é" * 10_000):
        assert len(own.encode(text)) > 2


def test_long_text_is_cut_at_its_end(own: UnigramTokenizer) -> None:
    """[CLS] and [SEP] stay; what remains is the beginning."""
    whole = own.encode("send a text " * 1000, max_length=10_000)

    assert own.encode("send a text " * 1000, max_length=16) == [*whole[:15], own.sep_id]
    assert own.encode("send a text", max_length=2) == [own.cls_id, own.sep_id]
    with pytest.raises(InputError, match="max_length is 1"):
        own.encode("send", max_length=1)


def test_unknown_ids_are_refused(own: UnigramTokenizer) -> None:
    """Below 0 and behind the last."""
    for bad in (-1, own.vocab_size):
        with pytest.raises(InputError, match=f"id {bad} does not exist"):
            own.pieces([1, bad])


def test_nothing_to_learn_is_refused() -> None:
    """No texts, and texts of nothing."""
    for texts in ([], ["", "  "]):
        with pytest.raises(InputError, match="no vocabulary can be learned"):
            UnigramTokenizer.train(texts, vocab_size=300)


def test_foreign_tokenizer_files_are_refused(tmp_path: Path, own: UnigramTokenizer) -> None:
    """Nothing there, no JSON, another model, a missing special token."""
    with pytest.raises(ModelError, match=r"has neither tokenizer\.json nor spm\.model"):
        UnigramTokenizer.load(tmp_path)
    path = tmp_path / "tokenizer.json"
    own.save(tmp_path)
    renamed = json.loads(path.read_text(encoding="utf-8"))
    renamed["added_tokens"] = []
    renamed["post_processor"] = None
    renamed["model"]["vocab"][2][0] = "</s>"
    for content, reason in (
        ("{", "cannot be read as a tokenizer"),
        (Tokenizer(BPE()).to_str(), "model is BPE; Unigram is expected"),
        (json.dumps(renamed), r"has no \[SEP\]"),
    ):
        path.write_text(content, encoding="utf-8")
        with pytest.raises(ModelError, match=reason):
            UnigramTokenizer.load(tmp_path)


@pytest.mark.slow
def test_transformers_reads_the_folder_alike(own: UnigramTokenizer, tmp_path: Path) -> None:
    """``AutoTokenizer`` takes the written file as it is, DeBERTa's configuration beside it."""
    from transformers import AutoTokenizer

    own.save(tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "deberta-v2"}', encoding="utf-8")
    text = "Send the ﬁle…\u00a0to  Dana"

    theirs = AutoTokenizer.from_pretrained(tmp_path)

    assert theirs(text)["input_ids"] == own.encode(text)
