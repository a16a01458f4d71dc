"""Importing GGUF files: the folder computes exactly what the file says."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from mlx_tinyagent.errors import InputError, ModelError, StoreError
from mlx_tinyagent.models import gguf
from mlx_tinyagent.models.gguf import import_gguf
from mlx_tinyagent.models.gguf_file import Header
from mlx_tinyagent.models.gguf_tokenizer import build_tokenizer
from mlx_tinyagent.models.tokenizer import Tokenizer

MakeGguf = Callable[..., Path]


def _convert(path: Path, folder: Path) -> dict[str, np.ndarray]:
    """Convert in this process, as the child does, and read the tensors back."""
    folder.mkdir()
    gguf._convert(path, folder)
    return load_file(folder / "model.safetensors")


def test_float_weights_come_back_as_they_were(
    make_gguf: MakeGguf, tmp_path: Path, tiny_weights: dict[str, np.ndarray]
) -> None:
    """Names are mapped and the interleaved rows of q and k put back."""
    found = _convert(make_gguf(kind="F32"), tmp_path / "out")

    assert found.keys() == tiny_weights.keys()
    for name, array in tiny_weights.items():
        np.testing.assert_array_equal(found[name], array, err_msg=name)


@pytest.mark.parametrize("kind", ["Q4_0", "Q4_1", "Q8_0"])
def test_packed_weights_equal_mlx_own_reader(
    make_gguf: MakeGguf, tmp_path: Path, kind: str
) -> None:
    """MLX's GGUF reader unpacks the same bits; only q and k have their rows moved."""
    import mlx.core as mx

    path = make_gguf(kind=kind)
    found = _convert(path, tmp_path / "out")
    oracle = {name: np.array(array) for name, array in mx.load(str(path)).items()}

    names = {"ffn_down": "mlp.down_proj", "attn_v": "self_attn.v_proj"}
    for short, name in names.items():
        for leaf in ("weight", "scales", "biases"):
            ours = found[f"model.layers.1.{name}.{leaf}"]
            np.testing.assert_array_equal(ours, oracle[f"blk.1.{short}.{leaf}"])
    for leaf in ("weight", "scales", "biases"):
        ours = found[f"model.layers.0.self_attn.k_proj.{leaf}"]
        rows = oracle[f"blk.0.attn_k.{leaf}"].reshape(2, 8, 2, -1).swapaxes(1, 2)
        np.testing.assert_array_equal(ours, rows.reshape(ours.shape))


def test_config_states_dimensions_and_bits_per_tensor(make_gguf: MakeGguf, tmp_path: Path) -> None:
    """Dimensions come from the metadata, quantization from the types."""
    _convert(make_gguf(kind="Q8_0"), tmp_path / "out")

    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert config["quantization"] == {"group_size": 32, "bits": 8, "mode": "affine"}
    assert (config["num_key_value_heads"], config["head_dim"]) == (2, 16)
    assert config["rms_norm_eps"] == 1e-5
    assert config["tie_word_embeddings"] is True


def test_import_makes_a_loadable_folder(make_gguf: MakeGguf, tmp_path: Path) -> None:
    """The whole way through the child: files, marker, tokenizer."""
    out = import_gguf(make_gguf(kind="Q4_0"), tmp_path / "models" / "tiny")

    marker = json.loads((out / "mlx_tinyagent.json").read_text())
    assert marker["source"]["name"] == "tiny.gguf"
    assert len(marker["fingerprint"]) == len(marker["source"]["sha256"]) == 64
    assert [file.name for file in out.parent.iterdir()] == ["tiny"]
    tokenizer = Tokenizer(out, n_vocab=272)
    assert tokenizer.encode("unu<|im_end|>") == [260, 258]
    assert tokenizer.eos_ids == {258}


def test_a_failed_import_leaves_the_former_one(make_gguf: MakeGguf, tmp_path: Path) -> None:
    """A damaged file gives one line, and nothing half-made is left."""
    good = make_gguf(kind="Q4_0")
    out = import_gguf(good, tmp_path / "models" / "tiny")
    before = (out / "model.safetensors").read_bytes()
    good.write_bytes(good.read_bytes()[:-4000])

    with pytest.raises(ModelError, match=r"tiny\.gguf.*truncated") as caught:
        import_gguf(good, out)

    assert "\n" not in str(caught.value)
    assert (out / "model.safetensors").read_bytes() == before
    assert [file.name for file in out.parent.iterdir()] == ["tiny"]


def test_foreign_folders_are_not_overwritten(make_gguf: MakeGguf, tmp_path: Path) -> None:
    """Only a folder with the import's marker is replaced."""
    out = tmp_path / "mine"
    out.mkdir()
    (out / "thesis.txt").write_text("years of work")
    with pytest.raises(InputError, match="not an imported model"):
        import_gguf(make_gguf(), out)
    assert (out / "thesis.txt").exists()


def test_a_reader_that_dies_is_one_model_error(
    make_gguf: MakeGguf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A child stopped by the kernel does not take its parent along."""
    from mlx_tinyagent.models.child import Outcome

    monkeypatch.setattr(gguf, "run_module", lambda *_: Outcome(code=-9, stdout="", stderr=""))
    with pytest.raises(ModelError, match="stopped by SIGKILL"):
        import_gguf(make_gguf(), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_folder_that_cannot_be_made_is_one_line(make_gguf: MakeGguf, tmp_path: Path) -> None:
    """A file where a folder should be is named."""
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="file: a file of this name is in the way"):
        import_gguf(make_gguf(), tmp_path / "file" / "model")


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"general__architecture": "qwen2"}, "'qwen2' model"),
        ({"llama__attention__head_count_kv": 3}, "not a layout"),
        ({"llama__attention__head_count": 0}, "expected 1 to 4096"),
        ({"llama__rope__scaling__type": "yarn"}, "rope scaling 'yarn'"),
        ({"llama__feed_forward_length": 64}, "has the shape"),
        ({"llama__block_count": 3}, r"lacks the tensor blk\.2"),
        ({"tokenizer__ggml__pre": "chatglm"}, "pre-tokenizer 'chatglm'"),
        ({"tokenizer__ggml__model": "bert"}, "tokenizer 'bert'"),
        ({"tokenizer__ggml__merges": ["u q"]}, "merge 'u q'"),
        ({"tokenizer__ggml__tokens": ["a", "b"]}, "2 different tokens"),
        ({"tokenizer__ggml__eos_token_id": 999}, "eos token is 999"),
    ],
)
def test_what_cannot_be_imported_is_named(
    make_gguf: MakeGguf, tmp_path: Path, changes: dict[str, object], reason: str
) -> None:
    """Consistent files of other models, and inconsistent ones, are refused before weights move."""
    with pytest.raises(ModelError, match=reason):
        _convert(make_gguf(**changes), tmp_path / "out")


def test_surplus_tensors_are_refused(make_gguf: MakeGguf, tmp_path: Path) -> None:
    """A tensor that would be ignored could change the result."""
    extra = {"rope_freqs.weight": np.ones(8, np.float32)}
    with pytest.raises(ModelError, match=r"rope_freqs\.weight"):
        _convert(make_gguf(extra=extra), tmp_path / "out")


def test_sentencepiece_vocabularies_become_merges(tmp_path: Path) -> None:
    """Scores decide the merges; unknown characters fall back to bytes; spaces are exact."""
    from tokenizers import Tokenizer as Inner

    pieces = ["<unk>", "<s>", "</s>", *[f"<0x{byte:02X}>" for byte in range(256)]]
    pieces += ["\u2581", "a", "b", "\u2581a", "ab", "\u2581ab"]
    types = [2, 3, 3, *[6] * 256, *[1] * 6]
    scores = [0.0] * 259 + [-10.0, -11.0, -12.0, -2.0, -1.0, -3.0]
    metadata = {
        "tokenizer.ggml.model": "llama",
        "tokenizer.ggml.tokens": pieces,
        "tokenizer.ggml.token_type": types,
        "tokenizer.ggml.scores": scores,
        "tokenizer.ggml.unknown_token_id": 0,
        "tokenizer.ggml.eos_token_id": 2,
    }
    header = Header(metadata=metadata, tensors={})
    text, config = build_tokenizer(Path("sp.gguf"), header, rows=len(pieces))

    inner = Inner.from_str(text)
    assert inner.encode("ab", add_special_tokens=False).tokens == ["\u2581ab"]
    assert inner.encode("aab", add_special_tokens=False).tokens == ["\u2581a", "ab"]
    ids = inner.encode("ab é</s>", add_special_tokens=False).ids
    assert inner.decode(ids, skip_special_tokens=False) == "ab é</s>"
    assert ids[-1] == 2
    assert config["eos_token"] == "</s>"


@pytest.mark.parametrize("length", [3, 5000])
def test_import_survives_garbage_after_a_good_magic(tmp_path: Path, length: int) -> None:
    """Random bytes behind the magic are refused in the child, in one line."""
    path = tmp_path / "junk.gguf"
    noise = np.random.default_rng(length).bytes(length)
    path.write_bytes(b"GGUF" + struct.pack("<I", 3) + noise)
    with pytest.raises(ModelError) as caught:
        import_gguf(path, tmp_path / "out")
    assert "\n" not in str(caught.value)
