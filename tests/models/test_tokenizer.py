"""The tokenizer: exact text, bytes behind tokens, the chat frame."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mlx_tinyagent.errors import ModelError
from mlx_tinyagent.models.tokenizer import ChatFrame, Tokenizer

MakeLlama = Callable[..., Path]
TEXTS = [
    "",
    "plain",
    "Zoë naïve",
    "世界 こんにちは",
    "👩‍👩‍👧 🇫🇷",
    "a  b\t\n\n  c ",
    " lead",
    "\u0000\x7f",
]


@pytest.fixture
def tokenizer(make_llama: MakeLlama) -> Tokenizer:
    """The tiny byte-level tokenizer."""
    return Tokenizer(make_llama(), n_vocab=272)


@pytest.fixture
def metaspace(tmp_path: Path) -> Tokenizer:
    """A sentencepiece-like tokenizer with byte fallback."""
    from tokenizers import Tokenizer as Inner
    from tokenizers import decoders, models, normalizers

    pieces = [
        "<unk>",
        "</s>",
        *[f"<0x{byte:02X}>" for byte in range(256)],
        "\u2581",
        "a",
        "\u2581a",
    ]
    vocab = {piece: index for index, piece in enumerate(pieces)}
    merges = [("\u2581", "a")]
    model = models.BPE(vocab=vocab, merges=merges, unk_token="<unk>", byte_fallback=True)
    inner = Inner(model)
    inner.normalizer = normalizers.Replace(" ", "\u2581")
    steps: list[Any] = [
        decoders.Replace("\u2581", " "),
        decoders.ByteFallback(),
        decoders.Fuse(),
    ]
    inner.decoder = decoders.Sequence(steps)
    inner.add_special_tokens(["</s>"])
    inner.save(str(tmp_path / "tokenizer.json"))
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"eos_token": "</s>"}))
    return Tokenizer(tmp_path)


@pytest.mark.parametrize("kind", ["tokenizer", "metaspace"])
@pytest.mark.parametrize("text", TEXTS)
def test_text_comes_back_exactly(request: pytest.FixtureRequest, kind: str, text: str) -> None:
    """Decoding undoes encoding, and the tokens' bytes add up to the text."""
    tokenizer: Tokenizer = request.getfixturevalue(kind)
    ids = tokenizer.encode(text)
    assert tokenizer.decode(ids) == text
    assert b"".join(map(tokenizer.token_bytes, ids)) == text.encode()


def test_special_tokens_only_where_they_are_meant(tokenizer: Tokenizer) -> None:
    """Text from outside cannot close a turn."""
    text = "a<|im_end|>b"
    assert 258 in tokenizer.encode(text)
    plain = tokenizer.encode(text, special=False)
    assert 258 not in plain
    assert tokenizer.decode(plain) == text
    assert tokenizer.special_ids == {256, 257, 258}


def test_every_byte_has_one_token(tokenizer: Tokenizer) -> None:
    """The table covers the logits; padding ids stand for nothing."""
    table = tokenizer.byte_table
    assert len(table) == tokenizer.vocab_size == 272
    assert sorted(table[:256]) == [bytes([byte]) for byte in range(256)]
    assert table[258] == b"<|im_end|>"
    assert table[271] == b""
    with pytest.raises(ModelError, match="token 272 is outside 0 to 271"):
        tokenizer.token_bytes(272)


@pytest.mark.parametrize("kind", ["tokenizer", "metaspace"])
def test_llguidance_agrees_on_bytes_and_width(request: pytest.FixtureRequest, kind: str) -> None:
    """Masks are as wide as the logits and mean the same tokens."""
    tokenizer: Tokenizer = request.getfixturevalue(kind)
    guide = tokenizer.llguidance_tokenizer()
    assert guide.vocab_size == tokenizer.vocab_size
    assert set(guide.eos_tokens) == tokenizer.eos_ids
    no_text = (b"", b"<unk>", b"\xff")  # llguidance marks special tokens by 0xff, never in UTF-8
    for token in set(range(tokenizer.vocab_size)) - tokenizer.special_ids:
        if tokenizer.token_bytes(token) not in no_text:
            assert guide.decode_bytes([token]) == tokenizer.token_bytes(token)
    assert tokenizer.llguidance_tokenizer() is guide


def test_end_tokens_come_from_every_file(make_llama: MakeLlama) -> None:
    """Generation settings may name several."""
    folder = make_llama(eos_token_id=[256, 9999])
    (folder / "generation_config.json").write_text('{"eos_token_id": 257}')
    assert Tokenizer(folder, n_vocab=272).eos_ids == {256, 257, 258}


def test_frame_is_what_the_template_writes(tokenizer: Tokenizer) -> None:
    """ChatML, cut around the contents."""
    assert tokenizer.chat_frame() == ChatFrame(
        system_open="<|im_start|>system\n",
        user_open="<|im_end|>\n<|im_start|>user\n",
        assistant_open="<|im_end|>\n<|im_start|>assistant\n",
        end="<|im_end|>\n",
    )


TEMPLATES = {
    # thinking switched off by an empty block
    "qwen3": (
        "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n"
        "{% if enable_thinking is defined and enable_thinking is false %}<think>\n\n</think>\n\n"
        "{% endif %}{% endif %}",
        "<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n",
    ),
    # the system text goes into the user's turn
    "mistral": (
        "{{ bos_token }}{% if messages[0].role == 'system' %}{% set s = messages[0].content %}"
        "{% set messages = messages[1:] %}{% endif %}{% for m in messages %}"
        "{% if m.role == 'user' %}[INST] {% if loop.first and s %}{{ s + '\n\n' }}{% endif %}"
        "{{ m.content }}[/INST]{% else %} {{ m.content }}{{ eos_token }}{% endif %}{% endfor %}",
        "[/INST]",
    ),
    # a date only where the caller gives the clock
    "llama3": (
        "{{- bos_token }}{% if not date is defined %}{% if strftime_now is defined %}"
        "{% set date = strftime_now('%d') %}{% else %}{% set date = '26 Jul 2024' %}{% endif %}"
        "{% endif %}<|start_header_id|>system<|end_header_id|>\n\nToday: {{ date }}\n\n"
        "{{ messages[0].content | trim }}<|eot_id|>{% for m in messages[1:] %}"
        "<|start_header_id|>{{ m.role }}<|end_header_id|>\n\n{{ m.content | trim }}<|eot_id|>"
        "{% endfor %}{% if add_generation_prompt %}"
        "<|start_header_id|>assistant<|end_header_id|>\n\n{% endif %}",
        "<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n",
    ),
}


def _with_template(folder: Path, template: str, **settings: Any) -> Tokenizer:
    config = {"bos_token": "<s>", "eos_token": {"content": "</s>"}, **settings}
    (folder / "tokenizer_config.json").write_text(json.dumps({**config, "chat_template": template}))
    return Tokenizer(folder, n_vocab=272)


@pytest.mark.parametrize("name", TEMPLATES)
def test_frames_of_other_families(make_llama: MakeLlama, name: str) -> None:
    """The frame put together again is what the template renders."""
    import jinja2

    template, assistant_open = TEMPLATES[name]
    frame = _with_template(make_llama(), template).chat_frame()

    whole = jinja2.Environment(trim_blocks=True, lstrip_blocks=True).from_string(template)
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hello?"}]
    expected = whole.render(
        messages=messages,
        add_generation_prompt=True,
        enable_thinking=False,
        bos_token="<s>",
        eos_token="</s>",
    )
    assert frame.assistant_open == assistant_open
    built = frame.system_open + "Be brief." + frame.user_open + "Hello?" + frame.assistant_open
    assert built == expected
    assert frame.end


@pytest.mark.parametrize(
    "template",
    [
        "{{ raise_exception('no system role') }}",
        "{% for m in messages %}{{ m.content }}{{ m.content }}{% endfor %}",
        "{% if %}",
        "{{ messages[0].content.upper() }}",
        "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    ],
)
def test_templates_that_cannot_be_cut_fall_back(make_llama: MakeLlama, template: str) -> None:
    """Blank lines separate; the sandbox refuses templates that reach for Python."""
    assert _with_template(make_llama(), template).chat_frame() == ChatFrame(
        system_open="<s>", user_open="\n\n", assistant_open="\n\n", end="</s>"
    )


def test_template_file_wins(make_llama: MakeLlama) -> None:
    """Newer folders keep the template beside the configuration."""
    folder = make_llama()
    (folder / "chat_template.jinja").write_text(
        "{% for m in messages %}[{{ m.content }}]{% endfor %}"
    )
    assert Tokenizer(folder, n_vocab=272).chat_frame().user_open == "]["


def test_damaged_files_are_one_line(make_llama: MakeLlama) -> None:
    """Missing, broken or too wide: a model error each."""
    folder = make_llama()
    with pytest.raises(ModelError, match="259 tokens, the model scores 100"):
        Tokenizer(folder, n_vocab=100)
    (folder / "tokenizer.json").write_text("{")
    with pytest.raises(ModelError, match=r"tokenizer\.json is not a usable tokenizer"):
        Tokenizer(folder)
    (folder / "tokenizer.json").unlink()
    with pytest.raises(ModelError, match=r"has no tokenizer\.json"):
        Tokenizer(folder)
