"""Loading language models: right numbers, and one line for everything that does not fit."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from mlx_tinyagent.errors import ModelError, UsageError
from mlx_tinyagent.models import device, language

MakeLlama = Callable[..., Path]
IDS = [5, 97, 3, 200, 17, 258, 64]


def reference_logits(weights: dict[str, np.ndarray], config: dict[str, object]) -> np.ndarray:
    """A llama in numpy and float64, written from the paper: logits [tokens, vocab] of IDS."""
    w = {name: array.astype(np.float64) for name, array in weights.items()}
    heads, kv_heads, dim = 4, 2, 16
    positions = np.arange(len(IDS))[:, None]
    angles = positions / float(str(config["rope_theta"])) ** (np.arange(dim // 2) / (dim // 2))

    def norm(x: np.ndarray, name: str) -> np.ndarray:
        return x / np.sqrt((x**2).mean(-1, keepdims=True) + 1e-5) * w[f"{name}.weight"]

    def rotate(x: np.ndarray) -> np.ndarray:
        first, second = x[..., : dim // 2], x[..., dim // 2 :]
        cos, sin = np.cos(angles)[:, None], np.sin(angles)[:, None]
        return np.concatenate([first * cos - second * sin, second * cos + first * sin], -1)

    x = w["model.embed_tokens.weight"][IDS]
    for i in range(2):
        layer = f"model.layers.{i}"
        h = norm(x, f"{layer}.input_layernorm")
        q, k, v = (h @ w[f"{layer}.self_attn.{n}_proj.weight"].T for n in "qkv")
        q = rotate(q.reshape(-1, heads, dim))
        k = np.repeat(rotate(k.reshape(-1, kv_heads, dim)), heads // kv_heads, axis=1)
        v = np.repeat(v.reshape(-1, kv_heads, dim), heads // kv_heads, axis=1)
        scores = np.einsum("qhd,khd->hqk", q, k) / dim**0.5
        scores[:, np.triu(np.ones((len(IDS),) * 2, bool), 1)] = -np.inf
        scores = np.exp(scores - scores.max(-1, keepdims=True))
        scores /= scores.sum(-1, keepdims=True)
        x = x + np.einsum("hqk,khd->qhd", scores, v).reshape(len(IDS), -1) @ (
            w[f"{layer}.self_attn.o_proj.weight"].T
        )
        h = norm(x, f"{layer}.post_attention_layernorm")
        gate = h @ w[f"{layer}.mlp.gate_proj.weight"].T
        up = h @ w[f"{layer}.mlp.up_proj.weight"].T
        x = x + (gate / (1 + np.exp(-gate)) * up) @ w[f"{layer}.mlp.down_proj.weight"].T
    return norm(x, "model.norm") @ w["model.embed_tokens.weight"].T


def logits(model: language.LanguageModel, *, cached: bool = False) -> np.ndarray:
    """Run IDS at once, or in two pieces over a cache."""
    import mlx.core as mx

    ids = mx.array(IDS)[None]
    if not cached:
        return np.array(model.model(ids)[0])
    cache = model.new_cache()
    pieces = [model.model(ids[:, :3], cache=cache), model.model(ids[:, 3:], cache=cache)]
    return np.concatenate([np.array(piece[0]) for piece in pieces])


def test_computes_a_llama(make_llama: MakeLlama, tiny_weights: dict[str, np.ndarray]) -> None:
    """Logits agree with numpy, in one pass and over a cache."""
    folder = make_llama()
    model = language.load(folder)
    expected = reference_logits(tiny_weights, model.config)

    np.testing.assert_allclose(logits(model), expected, atol=2e-4)
    np.testing.assert_allclose(logits(model, cached=True), expected, atol=2e-4)


def test_knows_its_own_facts(make_llama: MakeLlama) -> None:
    """Everything others need stands on the loaded model."""
    model = language.load(make_llama())

    assert (model.vocab_size, model.context, model.kind) == (272, 128, "full")
    assert model.kv_bytes_per_token == 2 * 2 * 2 * 16 * 4  # k and v, layers, heads, width, float32
    assert len(model.new_cache()) == 2
    assert (model.dtype, model.packed, model.adapter) == ("float32", False, None)


def pack(weights: dict[str, np.ndarray], bits: int) -> tuple[dict[str, np.ndarray], ...]:
    """Quantize all matrices; return the tensors of a file and, in float32, what they mean."""
    import mlx.core as mx

    packed, meant = {}, {}
    for name, array in weights.items():
        if array.ndim == 1:
            packed[name] = meant[name] = array
            continue
        q, scales, biases = mx.quantize(mx.array(array), group_size=32, bits=bits)
        scales, biases = scales.astype(mx.float16), biases.astype(mx.float16)
        stem = name.removesuffix(".weight")
        packed |= {name: np.array(q), f"{stem}.scales": np.array(scales)}
        packed[f"{stem}.biases"] = np.array(biases)
        shifts = np.arange(0, 32, bits, dtype=np.uint32)
        quants = ((np.array(q)[..., None] >> shifts) & (2**bits - 1)).reshape(array.shape)
        spread = np.repeat(np.array(scales).astype(np.float32), 32, axis=1)
        meant[name] = quants * spread + np.repeat(np.array(biases).astype(np.float32), 32, axis=1)
    return packed, meant


@pytest.mark.parametrize("bits", [4, 8])
def test_packed_weights_are_unpacked_exactly(
    make_llama: MakeLlama, tiny_weights: dict[str, np.ndarray], bits: int
) -> None:
    """On a CPU a quantized model runs dense, with the values that its packed form means."""
    packed, meant = pack(tiny_weights, bits)
    folder = make_llama(quantization={"group_size": 32, "bits": bits, "mode": "affine"})
    save_file(packed, folder / "model.safetensors")

    model = language.load(folder)

    expected = reference_logits(meant, model.config)
    np.testing.assert_allclose(logits(model), expected, atol=2e-4)
    assert not model.packed


def test_packed_weights_stay_packed_on_a_gpu(
    make_llama: MakeLlama, tiny_weights: dict[str, np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the device says Metal nothing is unpacked, and float16 scales are kept exactly."""
    from dataclasses import replace

    from mlx import nn

    metal = replace(device.setup(), name="metal", dtype="bfloat16")
    monkeypatch.setattr(language, "setup", lambda: metal)
    packed, meant = pack(tiny_weights, 4)
    quantization = {"group_size": 32, "bits": 4, "mode": "affine"}
    folder = make_llama(quantization=quantization, dtype="float16")
    save_file(packed, folder / "model.safetensors")

    model = language.load(folder)

    assert (model.packed, model.dtype) == (True, "float16")
    layer = model.model.layers[0].mlp.up_proj
    assert isinstance(layer, nn.QuantizedLinear)
    scales = packed["model.layers.0.mlp.up_proj.scales"]
    np.testing.assert_array_equal(np.array(layer.scales), scales)
    np.testing.assert_allclose(logits(model), reference_logits(meant, model.config), atol=0.05)


def test_half_precision_weights_run_in_float32(
    make_llama: MakeLlama, tiny_weights: dict[str, np.ndarray]
) -> None:
    """The device's format wins over the file's."""
    half = {name: array.astype(np.float16) for name, array in tiny_weights.items()}
    model = language.load(make_llama(weights=half))
    assert logits(model).dtype == np.float32
    np.testing.assert_allclose(logits(model), reference_logits(half, model.config), atol=2e-4)


def test_missing_tensor_is_named(make_llama: MakeLlama) -> None:
    """An incomplete model does not load with random weights."""
    folder = make_llama(drop=("model.layers.1.mlp.up_proj.weight",))
    with pytest.raises(ModelError, match=r"layers\.1\.mlp\.up_proj") as caught:
        language.load(folder)
    assert "\n" not in str(caught.value)


def test_surplus_tensor_is_named(make_llama: MakeLlama) -> None:
    """What the architecture does not have is not dropped silently."""
    folder = make_llama(weights={"model.layers.9.x.weight": np.ones(3, np.float32)})
    with pytest.raises(ModelError, match=r"layers\.9"):
        language.load(folder)


def test_wrong_shape_is_named(make_llama: MakeLlama) -> None:
    """A matrix of another model does not pass."""
    shape = np.ones((3, 64), np.float32)
    with pytest.raises(ModelError, match="shape"):
        language.load(make_llama(weights={"model.layers.0.mlp.up_proj.weight": shape}))


@pytest.mark.parametrize(
    "settings",
    [
        {"model_type": "unheard_of"},
        {"hidden_size": "wide"},
        {"num_hidden_layers": None},
        {"vocab_size": None},
        {"num_attention_heads": 0},
        {"quantization": {"group_size": 32}},
        {"num_hidden_layers": 10**9},
        {"layer_types": []},
    ],
)
def test_impossible_configurations_are_one_line(
    make_llama: MakeLlama, settings: dict[str, object]
) -> None:
    """Whatever mlx-lm makes of it, the user reads one line naming the folder."""
    with pytest.raises(ModelError, match=r"tiny|config") as caught:
        language.load(make_llama(**settings))
    assert "\n" not in str(caught.value)


def test_models_with_a_window_say_so(make_llama: MakeLlama) -> None:
    """A sliding layer's cache cannot be cut anywhere, which callers must know."""
    layers = ["sliding_attention", "full_attention"]
    assert language.load(make_llama(layer_types=layers, sliding_window=8)).kind == "sliding"


def test_recurrent_caches_are_recognized() -> None:
    """One recurrent layer makes the model recurrent."""
    language.import_mlx_lm()
    from mlx_lm.models.cache import ArraysCache, CacheList, KVCache

    assert language._cache_kind([KVCache(), ArraysCache(2)]) == "recurrent"
    assert language._cache_kind([CacheList(KVCache(), KVCache())]) == "full"


def test_unknown_names_and_absent_models_differ(monkeypatch: pytest.MonkeyPatch) -> None:
    """A typing error is a usage error; a model not yet pulled says how to pull it."""
    monkeypatch.setenv("HF_HOME", "/nonexistent")
    with pytest.raises(UsageError, match="did you mean smollm2-135m"):
        language.load("smolm2-135m")
    with pytest.raises(ModelError, match="models pull smollm2-135m"):
        language.load("smollm2-135m")


def test_importing_mlx_lm_keeps_the_limit_of_open_files() -> None:
    """mlx-lm lowers the hard limit for good; here it only lets the soft one rise."""
    program = (
        "import resource; R = resource.RLIMIT_NOFILE\n"
        "hard = resource.getrlimit(R)[1]\n"
        "resource.setrlimit(R, (256, hard))\n"
        "from mlx_tinyagent.models.language import import_mlx_lm; import_mlx_lm()\n"
        "assert resource.getrlimit(R) == (min(2048, hard) if hard > 0 else 2048, hard)\n"
        "resource.setrlimit(R, (100, hard)); assert resource.getrlimit(R)[0] == 100"
    )
    root = str(Path(__file__).resolve().parents[2])
    environment = {**os.environ, "PYTHONPATH": root}
    subprocess.run([sys.executable, "-c", program], env=environment, check=True)


def test_importing_the_package_loads_no_mlx() -> None:
    """``--help`` stays fast."""
    program = (
        "import sys, mlx_tinyagent.models as m\n"
        "from mlx_tinyagent.models import device, registry, fetch, info, tokenizer, language\n"
        "heavy = {'mlx', 'mlx_lm', 'transformers', 'numpy', 'tokenizers', 'huggingface_hub'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)\n"
        "assert m.load is language.load and not hasattr(m, 'nothing')"
    )
    root = str(Path(__file__).resolve().parents[2])
    environment = {**os.environ, "PYTHONPATH": root}
    subprocess.run([sys.executable, "-c", program], env=environment, check=True)


# adapters


@pytest.fixture
def adapter(make_llama: MakeLlama, tmp_path: Path) -> tuple[Path, Path]:
    """A base folder and an adapter with random weights on q and v of the last layer."""
    generator = np.random.default_rng(7)
    folder = tmp_path / "adapter"
    folder.mkdir()
    tensors = {}
    for name, width in (("q_proj", 64), ("v_proj", 32)):
        stem = f"model.layers.1.self_attn.{name}"
        tensors[f"{stem}.lora_a"] = generator.standard_normal((64, 4)).astype(np.float16)
        tensors[f"{stem}.lora_b"] = generator.standard_normal((4, width)).astype(np.float16)
    save_file(tensors, folder / "adapters.safetensors")
    keys = ["self_attn.q_proj", "self_attn.v_proj"]
    config = {
        "fine_tune_type": "lora",
        "num_layers": 1,
        "lora_parameters": {"rank": 4, "scale": 0.5, "dropout": 0.0, "keys": keys},
    }
    (folder / "adapter_config.json").write_text(json.dumps(config))
    return make_llama(), folder


def _edit(folder: Path, **changes: object) -> None:
    path = folder / "adapter_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def test_adapter_adds_its_product(
    adapter: tuple[Path, Path], tiny_weights: dict[str, np.ndarray]
) -> None:
    """The result is that of weights W + scale (A B)^T."""
    base, folder = adapter
    tensors = load_file(folder / "adapters.safetensors")
    merged = dict(tiny_weights)
    for name in ("q_proj", "v_proj"):
        stem = f"model.layers.1.self_attn.{name}"
        a, b = (tensors[f"{stem}.lora_{x}"].astype(np.float32) for x in "ab")
        merged[f"{stem}.weight"] = merged[f"{stem}.weight"] + 0.5 * (a @ b).T

    model = language.load(base, adapter=folder)

    np.testing.assert_allclose(logits(model), reference_logits(merged, model.config), atol=1e-3)
    assert model.adapter_config["num_layers"] == 1
    assert model.fingerprint == language.load(base).fingerprint
    assert len(model.adapter_fingerprint or "") == 64


@pytest.mark.parametrize("missing", ["lora_a", "lora_b"])
def test_adapter_with_missing_tensors_is_refused(adapter: tuple[Path, Path], missing: str) -> None:
    """Half an adapter would load silently in mlx-lm and do nothing."""
    base, folder = adapter
    tensors = load_file(folder / "adapters.safetensors")
    del tensors[f"model.layers.1.self_attn.v_proj.{missing}"]
    save_file(tensors, folder / "adapters.safetensors")
    with pytest.raises(ModelError, match=rf"lacks 1 of 4 tensors.*v_proj\.{missing}"):
        language.load(base, adapter=folder)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"base_fingerprint": "0" * 64}, "trained on another model"),
        ({"num_layers": 2}, "lacks 4 of 8"),
        ({"fine_tune_type": "full"}, "expected lora or dora"),
        ({"lora_parameters": {"rank": 4}}, "rank, scale and dropout"),
        ({"lora_parameters": {"rank": 8, "scale": 1.0, "dropout": 0.0}}, "lacks"),
        ({"num_layers": "all"}, "does not fit"),
    ],
)
def test_adapters_that_do_not_fit_are_refused(
    adapter: tuple[Path, Path], changes: dict[str, object], reason: str
) -> None:
    """Another base, other layers, another rank: each has its own line."""
    base, folder = adapter
    _edit(folder, **changes)
    with pytest.raises(ModelError, match=reason) as caught:
        language.load(base, adapter=folder)
    assert "\n" not in str(caught.value)


def test_adapter_names_its_base(adapter: tuple[Path, Path]) -> None:
    """The fingerprint of the base is the one the loaded base has."""
    base, folder = adapter
    _edit(folder, base_fingerprint=language.load(base).fingerprint)
    assert language.load(base, adapter=folder).adapter == folder


def test_damaged_adapters_are_one_line(adapter: tuple[Path, Path]) -> None:
    """Truncated weights and an absent folder are model errors."""
    base, folder = adapter
    file = folder / "adapters.safetensors"
    file.write_bytes(file.read_bytes()[:-10])
    with pytest.raises(ModelError, match=r"adapters\.safetensors is truncated"):
        language.load(base, adapter=folder)
    with pytest.raises(ModelError, match="does not exist"):
        language.load(base, adapter=folder / "none")


# the default model


@pytest.mark.weights
@pytest.mark.slow
def test_default_model_has_the_right_likelihood(model: language.LanguageModel) -> None:
    """2.129 nats; 3.519 would mean rows of q and k in the wrong order."""
    assert model.tokenizer.encode(language.NLL_TEXT)[:4] == [504, 6125, 7357, 314]
    nll = language.check_nll(model.model, model.tokenizer)
    assert nll == pytest.approx(2.1291, abs=2e-3)
    assert (model.context, model.kind, model.vocab_size) == (8192, "full", 49152)


@pytest.mark.weights
@pytest.mark.slow
def test_default_model_answers(model: language.LanguageModel) -> None:
    """Greedy decoding behind the chat frame gives the known sentence."""
    import mlx.core as mx

    frame, tokenizer = model.tokenizer.chat_frame(), model.tokenizer
    system = "You are a helpful AI assistant named SmolLM, trained by Hugging Face"
    question = "What is the capital of France? Answer in one sentence."
    ids = tokenizer.encode(
        frame.system_open + system + frame.user_open + question + frame.assistant_open
    )
    assert len(ids) == 42
    cache, answer, step = model.new_cache(), [], mx.array(ids)[None]
    while len(answer) < 20:
        token = int(np.array(mx.argmax(model.model(step, cache=cache)[0, -1])))
        if token in tokenizer.eos_ids:
            break
        answer.append(token)
        step = mx.array([[token]])
    assert tokenizer.decode(answer) == "The capital of France is Paris."


@pytest.mark.weights
@pytest.mark.parametrize("special", [True, False])
def test_default_tokenizer_round_trips(weights: Path, special: bool) -> None:
    """Accents, scripts, emoji and runs of space come back exactly; bytes add up to the text."""
    from mlx_tinyagent.models.tokenizer import Tokenizer

    tokenizer = Tokenizer(weights, n_vocab=49152)
    texts = [
        "Zoë naïve",
        "世界 こんにちは",
        "👩‍👩‍👧 🇫🇷",
        "a  b\t\n\n  c ",
        "x<|im_end|>y",
        "12345",
        "\u0000",
    ]
    for text in texts:
        ids = tokenizer.encode(text, special=special)
        assert tokenizer.decode(ids) == text
        assert b"".join(map(tokenizer.token_bytes, ids)) == text.encode()
    assert (2 in tokenizer.encode("x<|im_end|>y", special=special)) is special
    assert len(tokenizer.encode("12345")) == 5
