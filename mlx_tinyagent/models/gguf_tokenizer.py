"""Rebuilding ``tokenizer.json`` from the vocabulary inside a GGUF file.

Two kinds occur in llama models: byte-level BPE (``gpt2``) and the
sentencepiece kind (``llama``). A pre-tokenizer that is not known exactly is
refused, because a wrong one changes tokens silently.

Source: llama.cpp (llama-vocab.cpp: pre-tokenizers; token types), transformers
(convert_slow_tokenizer.py: merges of a sentencepiece vocabulary).
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlx_tinyagent.errors import ModelError
from mlx_tinyagent.models.gguf_file import Header

if TYPE_CHECKING:
    from tokenizers import Tokenizer

_NORMAL, _CONTROL, _USER_DEFINED = 1, 3, 4
_SPACE = "\u2581"  # how sentencepiece writes a space


def build_tokenizer(path: Path, header: Header, *, rows: int) -> tuple[str, dict[str, Any]]:
    """Build the tokenizer a GGUF file describes.

    Args:
        path: The file, for messages.
        header: Its header.
        rows: Rows of the embedding, one per token.

    Returns:
        The text of ``tokenizer.json`` and the content of
        ``tokenizer_config.json``, chat template included.

    Raises:
        ModelError: The vocabulary is missing, inconsistent or of a kind that
            is not known.
    """
    tokens = _strings(path, header, "tokens")
    types = header.metadata.get("tokenizer.ggml.token_type", [_NORMAL] * len(tokens))
    if len(tokens) != rows or len(types) != rows or len(set(tokens)) != rows:
        raise ModelError(
            f"{path}: {len(set(tokens))} different tokens and {len(types)} types for {rows} rows"
        )
    kind = header.metadata.get("tokenizer.ggml.model")
    if kind == "gpt2":
        tokenizer = _byte_level(path, header, tokens)
    elif kind == "llama":
        tokenizer = _sentencepiece(path, header, tokens)
    else:
        raise ModelError(f"{path}: the tokenizer {kind!r} is not known; expected gpt2 or llama")
    _add_special(tokenizer, tokens, types)
    return tokenizer.to_str(), _config(path, header, tokens)


def _byte_level(path: Path, header: Header, tokens: list[str]) -> Tokenizer:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    pre = header.metadata.get("tokenizer.ggml.pre")
    before: Any
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    if pre == "smollm":
        before = pre_tokenizers.Sequence(
            [pre_tokenizers.Digits(individual_digits=True), byte_level]
        )
    elif pre == "gpt-2":
        before = byte_level
    else:
        raise ModelError(
            f"{path}: the pre-tokenizer {pre!r} is not known; expected smollm or gpt-2"
        )
    vocab = {token: index for index, token in enumerate(tokens)}
    merges = [_split_merge(path, merge, vocab) for merge in _strings(path, header, "merges")]
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=merges))
    tokenizer.pre_tokenizer = before
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def _sentencepiece(path: Path, header: Header, tokens: list[str]) -> Tokenizer:
    from tokenizers import Tokenizer, decoders, models, normalizers

    scores = header.metadata.get("tokenizer.ggml.scores")
    if not isinstance(scores, list) or len(scores) != len(tokens):
        raise ModelError(f"{path}: a sentencepiece vocabulary needs one score per token")
    vocab = {token: index for index, token in enumerate(tokens)}
    unknown = _token(path, header, "unknown", tokens)
    model = models.BPE(
        vocab=vocab,
        merges=_merges_from_scores(tokens, scores, vocab),
        unk_token=unknown,
        fuse_unk=True,
        byte_fallback=True,
    )
    tokenizer = Tokenizer(model)
    steps: list[Any] = [normalizers.Replace(" ", _SPACE)]
    ends: list[Any] = [decoders.Replace(_SPACE, " "), decoders.ByteFallback(), decoders.Fuse()]
    if header.metadata.get("tokenizer.ggml.add_space_prefix", True):
        steps.insert(0, normalizers.Prepend(_SPACE))
        ends.append(decoders.Strip(" ", 1, 0))
    tokenizer.normalizer = normalizers.Sequence(steps)
    tokenizer.decoder = decoders.Sequence(ends)
    return tokenizer


def _merges_from_scores(
    tokens: list[str], scores: list[float], vocab: dict[str, int]
) -> list[tuple[str, str]]:
    """Return the merges that a scored vocabulary implies, best first."""
    merges = []
    for token, score in zip(tokens, scores, strict=True):
        splits = [(token[:cut], token[cut:]) for cut in range(1, len(token))]
        known = [pair for pair in splits if pair[0] in vocab and pair[1] in vocab]
        known.sort(key=lambda pair: (vocab[pair[0]], vocab[pair[1]]))
        merges += [(score, left, right) for left, right in known]
    merges.sort(key=lambda merge: (merge[0], len(merge[1]), len(merge[2])), reverse=True)
    return [(left, right) for _, left, right in merges]


def _add_special(tokenizer: Tokenizer, tokens: list[str], types: list[int]) -> None:
    from tokenizers import AddedToken

    for wanted, special in ((_CONTROL, True), (_USER_DEFINED, False)):
        added = [
            AddedToken(token, special=special, normalized=False)
            for token, kind in zip(tokens, types, strict=True)
            if kind == wanted
        ]
        if special:
            tokenizer.add_special_tokens(added)
        else:
            tokenizer.add_tokens(added)


def _config(path: Path, header: Header, tokens: list[str]) -> dict[str, Any]:
    config: dict[str, Any] = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "clean_up_tokenization_spaces": False,
        "model_max_length": header.metadata.get("llama.context_length"),
    }
    names = {"bos": "bos", "eos": "eos", "padding": "pad", "unknown": "unk"}
    for key, name in names.items():
        if (token := _token(path, header, key, tokens)) is not None:
            config[f"{name}_token"] = token
    if isinstance(template := header.metadata.get("tokenizer.chat_template"), str):
        config["chat_template"] = template
    return config


def _token(path: Path, header: Header, key: str, tokens: list[str]) -> str | None:
    index = header.metadata.get(f"tokenizer.ggml.{key}_token_id")
    if index is None:
        return None
    if not isinstance(index, int) or not 0 <= index < len(tokens):
        raise ModelError(f"{path}: the {key} token is {index!r}, expected 0 to {len(tokens) - 1}")
    return tokens[index]


def _split_merge(path: Path, merge: str, vocab: dict[str, int]) -> tuple[str, str]:
    left, _, right = merge.partition(" ")
    if left not in vocab or right not in vocab or left + right not in vocab:
        raise ModelError(f"{path}: the merge {merge!r} joins what the vocabulary lacks")
    return left, right


def _strings(path: Path, header: Header, key: str) -> list[str]:
    value = header.metadata.get(f"tokenizer.ggml.{key}")
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise ModelError(f"{path}: tokenizer.ggml.{key} is missing or no list of strings")
    return value
