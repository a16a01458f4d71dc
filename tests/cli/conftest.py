"""The command line, called in this process or run as a program."""

from __future__ import annotations

import importlib.util
import io
import os
import shutil
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import pytest

from mlx_tinyagent.config import Paths, paths

HERE = Path(__file__).resolve().parent


@dataclass(frozen=True)
class Outcome:
    """What a command left.

    Attributes:
        code: Exit code.
        out: Standard output.
        err: Standard error.
    """

    code: int
    out: str
    err: str

    @property
    def line(self) -> str:
        """The one line of an error, without the program's name."""
        assert self.err.count("\n") == 1, self.err
        assert "Traceback" not in self.err
        return self.err.strip().removeprefix("mlx-tinyagent: ")


@pytest.fixture
def cli(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., Outcome]:
    """A function that calls the command line in this process, as without a terminal."""
    from mlx_tinyagent.cli.main import main

    monkeypatch.setattr(warnings, "showwarning", warnings.showwarning)

    def call(*args: object, stdin: bytes = b"") -> Outcome:
        monkeypatch.setattr(sys, "argv", ["mlx-tinyagent", *map(str, args)])
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin)))
        with pytest.raises(SystemExit) as left:
            main()
        out, err = capsys.readouterr()
        assert isinstance(left.value.code, int)
        return Outcome(left.value.code, out, err)

    return call


@pytest.fixture
def program() -> Callable[..., Outcome]:
    """A function that runs the command line as a program of its own."""

    def run(
        *args: str | bytes, stdin: bytes = b"", env: dict[str, str] | None = None, **options: object
    ) -> Outcome:
        done = subprocess.run(
            [sys.executable, "-m", "mlx_tinyagent", *args],
            input=stdin,
            capture_output=True,
            timeout=120,
            env={**os.environ, **(env or {})},
            **options,  # type: ignore[call-overload]
        )
        return Outcome(
            done.returncode, done.stdout.decode(), done.stderr.decode(errors="backslashreplace")
        )

    return run


@pytest.fixture(scope="session")
def filled_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders of a user whose store holds the demo world; made once."""
    from mlx_tinyagent.tools.local import demo_data

    home = tmp_path_factory.mktemp("world")
    demo_data(Paths(config=home / "config", data=home / "data", cache=home / "cache"))
    return home


@pytest.fixture
def world(user_home: Path, filled_home: Path) -> Path:
    """The user's store, filled with the demo world; returns the store's file."""
    paths().data.mkdir(parents=True, mode=0o700)
    shutil.copy(filled_home / "data" / "store.sqlite", paths().data)
    return paths().data / "store.sqlite"


@pytest.fixture(scope="session")
def scripted_module() -> ModuleType:
    """The module of the scripted planner."""
    spec = importlib.util.spec_from_file_location("scripted", HERE / "scripted.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def plans(scripted_module: ModuleType) -> Iterator[dict[str, str]]:
    """Plans by request, which commands called in this process get in place of a model's."""
    written: dict[str, str] = {}
    with ExitStack() as stack:
        scripted_module.scripted(stack, written)
        yield written


@pytest.fixture
def tiny_model(tmp_path: Path) -> Path:
    """Folder of a random llama of two layers that reads and writes single bytes."""
    import json

    import numpy as np
    from safetensors.numpy import save_file
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

    folder = tmp_path / "tiny"
    folder.mkdir()
    size = {"vocab_size": 272, "hidden_size": 32, "intermediate_size": 48}
    config = {
        "model_type": "llama",
        **size,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "head_dim": 16,
        "max_position_embeddings": 16384,
        "rms_norm_eps": 1e-5,
        "rope_theta": 10000.0,
        "tie_word_embeddings": True,
        "eos_token_id": 258,
    }
    (folder / "config.json").write_text(json.dumps(config))
    generator = np.random.default_rng(0)
    shapes = {"model.embed_tokens": (272, 32), "model.norm": (32,)}
    for layer in ("model.layers.0", "model.layers.1"):
        shapes |= {
            f"{layer}.self_attn.q_proj": (32, 32),
            f"{layer}.self_attn.k_proj": (16, 32),
            f"{layer}.self_attn.v_proj": (16, 32),
            f"{layer}.self_attn.o_proj": (32, 32),
            f"{layer}.mlp.gate_proj": (48, 32),
            f"{layer}.mlp.up_proj": (48, 32),
            f"{layer}.mlp.down_proj": (32, 48),
            f"{layer}.input_layernorm": (32,),
            f"{layer}.post_attention_layernorm": (32,),
        }
    weights = {
        f"{name}.weight": generator.standard_normal(shape).astype(np.float32) / 6
        for name, shape in shapes.items()
    }
    save_file(weights, str(folder / "model.safetensors"))
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(
        models.BPE(vocab={char: number for number, char in enumerate(alphabet)}, merges=[])
    )
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    tokenizer.add_special_tokens([AddedToken(token, special=True) for token in special])
    tokenizer.save(str(folder / "tokenizer.json"))
    template = (
        "{% for m in messages %}{{'<|im_start|>' + m['role'] + '\n' + m['content']"
        " + '<|im_end|>' + '\n'}}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
    )
    settings = {"eos_token": "<|im_end|>", "chat_template": template}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    return folder
