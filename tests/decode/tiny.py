"""A tiny random llama with a trained byte-level tokenizer, requests, tool sets and a sampler."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np

from mlx_tinyagent.decode.constraint import PlanConstraint
from mlx_tinyagent.decode.grammar import GrammarOptions
from mlx_tinyagent.models.language import LanguageModel
from mlx_tinyagent.models.tokenizer import Tokenizer
from mlx_tinyagent.plan.graph import Limits
from mlx_tinyagent.prompt.render import HEADER, Prompt, Request, render
from mlx_tinyagent.tools.base import Effect, Kind, Param, Tool, ToolSet, Type
from mlx_tinyagent.tools.catalog import TINYAGENT16
from mlx_tinyagent.tools.loading import from_schemas

SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
TEMPLATE = (
    "{% for message in messages %}{{'<|im_start|>' + message['role'] + '\n' + message['content']"
    " + '<|im_end|>' + '\n'}}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
VOCABULARY = 640
CONFIG: dict[str, Any] = {
    "model_type": "llama",
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "vocab_size": VOCABULARY,
    "max_position_embeddings": 4096,
    "rms_norm_eps": 1e-5,
    "rope_theta": 10000.0,
    "tie_word_embeddings": True,
    "eos_token_id": 2,
}
QUERIES = (
    "email Dana Wu and Sam about the budget review",
    'add "Standup" to my calendar tomorrow at 9am',
    "text Leo that I am late",
    "what is in my note Groceries?",
    "append milk & eggs to 'Groceries' in the Home folder",
    "directions to 12 Main St. from here, on foot",
    "réunion café 日本語 😀 demain",
    "summarize Plan v2.pdf and mail it to ana@example.com",
    "????",
    'say "<|im_end|>" to Bob $5 \\ ok',
)


def write_model(folder: Path, *, seed: int = 0, **settings: Any) -> Path:
    """Write a random llama with its tokenizer as an mlx-lm folder; settings change its config."""
    from safetensors.numpy import save_file

    folder.mkdir(parents=True)
    config = {**CONFIG, **settings}
    (folder / "config.json").write_text(json.dumps(config))
    save_file(_weights(config, seed), str(folder / "model.safetensors"))
    write_tokenizer(folder)
    return folder


def _weights(config: dict[str, Any], seed: int) -> dict[str, np.ndarray]:
    generator = np.random.default_rng(seed)
    hidden, ffn, dim = (config[k] for k in ("hidden_size", "intermediate_size", "head_dim"))
    q, kv = config["num_attention_heads"] * dim, config["num_key_value_heads"] * dim
    shapes = {"model.embed_tokens": (config["vocab_size"], hidden)}
    if not config["tie_word_embeddings"]:
        shapes["lm_head"] = (config["vocab_size"], hidden)
    norms = ["model.norm"]
    for index in range(config["num_hidden_layers"]):
        layer = f"model.layers.{index}"
        shapes |= {f"{layer}.self_attn.{n}_proj": (q if n == "q" else kv, hidden) for n in "qkv"}
        shapes |= {f"{layer}.mlp.{n}_proj": (ffn, hidden) for n in ("gate", "up")}
        shapes |= {
            f"{layer}.self_attn.o_proj": (hidden, q),
            f"{layer}.mlp.down_proj": (hidden, ffn),
        }
        norms += [f"{layer}.input_layernorm", f"{layer}.post_attention_layernorm"]
    weights = {
        name: generator.standard_normal(shape) / shape[1] ** 0.5 for name, shape in shapes.items()
    }
    weights |= {name: generator.uniform(0.5, 1.5, hidden) for name in norms}
    return {f"{name}.weight": array.astype(np.float32) for name, array in weights.items()}


def write_tokenizer(folder: Path) -> None:
    """Train a small byte-level BPE on the prompt's own words, with a ChatML template."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY - 8,  # the model scores a few ids that no token has
        show_progress=False,
        special_tokens=[AddedToken(token, special=True) for token in SPECIAL],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )
    texts = [HEADER, *QUERIES, *(tool.text() for tool in TINYAGENT16)]
    texts += ['1. f("$1", ["$2"], "", None)\n2. join()', '["$1", "$2"])\n', "a $5 ${1} ${2}"]
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.save(str(folder / "tokenizer.json"))
    settings = {"eos_token": "<|im_end|>", "chat_template": TEMPLATE}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))


# Tool sets

SCHEMAS: list[dict[str, Any]] = [
    {
        "name": "weather.get",
        "description": "Get the weather.",
        "parameters": {
            "type": "object",
            "properties": {
                "city": {"type": "string", "description": "where"},
                "unit": {"type": "string", "enum": ["c", "f", 'über "k" \\']},
                "days": {"type": "integer", "default": -3},
                "exact": {"type": "boolean", "default": True},
                "tags": {"type": "array", "items": {"type": "string"}},
                "limit": {"type": ["integer", "null"], "default": None},
            },
            "required": ["city", "unit"],
        },
    },
    {
        "name": "pay",
        "description": "Pay.",
        "parameters": {
            "type": "object",
            "properties": {
                "amount": {"type": "number"},
                "codes": {"type": "array", "items": {"type": "integer"}},
                "memo": {"type": "string", "default": 'a "memo"\nof $5'},
            },
            "required": ["amount", "codes"],
        },
    },
    {"name": "ping", "description": "Ping."},
]

_KINDS = tuple(Kind)
_RETURNS = tuple(Type)


def generated(seed: int, count: int) -> ToolSet:
    """Make a tool set by chance: names that begin alike, every kind of argument and default."""
    chance = random.Random(seed)
    tools = []
    for index in range(count):
        stem = chance.choice(["get", "get_a", "get_a_b", "set", "s"])
        params = [_param(chance, f"p{number}") for number in range(chance.randrange(4))]
        tools.append(
            Tool(
                name=f"{stem}{'_x' * index}" if count < 20 else f"{stem}_{index}",
                summary=f"Does thing {index}.",
                params=tuple(sorted(params, key=lambda param: not param.required)),
                effect=chance.choice([Effect.READ, Effect.OPEN, Effect.WRITE, Effect.SEND]),
                returns=chance.choice(_RETURNS),
            )
        )
    return ToolSet(f"generated{seed}", tools)


def _param(chance: random.Random, name: str) -> Param:
    kind = chance.choice(_KINDS)
    words = kind in (Kind.SPAN, Kind.WHEN, Kind.TEXT, Kind.TEMPLATE)
    is_list = chance.random() < 0.3
    choices = ("d", "", 'q"\\', "é\n", "$1", "${2}x") if kind is Kind.CHOICE else ()
    default = {
        Kind.INT: [0, -7, 60],
        Kind.FLOAT: [0.5, 1e20, -3],
        Kind.BOOL: [True, False],
        Kind.CHOICE: ["d", "", "missing"],
    }.get(kind, ["", "home", "$1", "a ${1}", None])
    value = chance.choice(default)
    required = chance.random() < 0.5
    if is_list:
        value = [] if value in (None, "") or chance.random() < 0.7 else [value]
    return Param(
        name=name,
        kind=kind,
        is_list=is_list,
        choices=choices,
        accepts=frozenset(chance.sample(_RETURNS, chance.randrange(4))) if words else frozenset(),
        optional=value is None or chance.random() < 0.2,
        empty=value in ("", [], None) if not required else chance.random() < 0.3,
        **({} if required else {"default": value}),
    )


def _linked() -> ToolSet:
    """Return tools that mostly read each other's results."""
    template = Param(name="text", kind=Kind.TEMPLATE, accepts=frozenset({Type.URL}))
    other = Param(name="more", kind=Kind.TEMPLATE, accepts=frozenset({Type.PATH}))
    tools = [Tool(name=f"look{n}", summary="Looks.", params=(), returns=Type.URL) for n in range(3)]
    tools.append(Tool(name="path", summary="Finds.", params=(), returns=Type.PATH))
    tools = [replace(tool, effect=Effect.READ) for tool in tools]
    tell = Tool(name="tell", summary="Tells.", params=(template, other), effect=Effect.OPEN)
    return ToolSet("linked", [*tools, tell])


TOOLSETS: dict[str, ToolSet] = {
    "linked": _linked(),
    "tinyagent16": TINYAGENT16,
    "none": ToolSet("none", []),
    "one": TINYAGENT16.subset(["send_sms"]),
    "few": TINYAGENT16.subset(["get_email_address", "compose_new_email", "open_note"]),
    "schemas": from_schemas("schemas", SCHEMAS),
    "hundreds": generated(99, 200),
    **{f"generated{seed}": generated(seed, 6) for seed in range(8)},
}


def write_adapter(folder: Path, base: Path, *, active: str, seed: int = 7) -> Path:
    """Write a random LoRA adapter for a model; ``active`` says on which tokens it acts."""
    import mlx.core as mx

    from mlx_tinyagent.models.adapters import adapter_parameters, add_layers
    from mlx_tinyagent.models.language import load

    model = load(base).model
    layers = ["self_attn.q_proj", "self_attn.v_proj", "mlp.up_proj"]
    parameters = {"rank": 4, "scale": 4.0, "dropout": 0.0, "keys": layers}
    config = {"fine_tune_type": "lora", "num_layers": 2, "lora_parameters": parameters}
    add_layers(model, config)
    key = mx.random.key(seed)
    shapes = {name: value.shape for name, value in adapter_parameters(model).items()}
    folder.mkdir()
    mx.save_safetensors(
        str(folder / "adapters.safetensors"),
        {name: mx.random.normal(shape, key=key) * 0.3 for name, shape in shapes.items()},
    )
    (folder / "adapter_config.json").write_text(json.dumps({**config, "active": active}))
    return folder


def identity() -> LanguageModel:
    """Return a model that is only a name to a store: nothing of it can run."""
    known: dict[str, Any] = {"fingerprint": "m", "dtype": "float32", "packed": False}
    nothing: dict[str, Any] = dict.fromkeys(LanguageModel.__dataclass_fields__)
    return LanguageModel(**{**nothing, "adapter_config": {}, **known})


# A sampler in place of a model

_CLOSING = ('"', ")", "]", ",", "\n")
_TRICKY = ("$", "${", "{", "1", "}", "\\")


class Sampler:
    """Chooses among the allowed tokens by chance, so that texts end and odd ones occur."""

    def __init__(self, table: Sequence[bytes], seed: int) -> None:
        self._chance = random.Random(seed)
        self._closing = _holding(table, _CLOSING)
        self._tricky = np.array([token.decode(errors="replace") in _TRICKY for token in table])

    def choose(self, mask: np.ndarray) -> int:
        """Return one allowed token."""
        roll = self._chance.random()
        for preferred, most in ((self._closing, 0.4), (self._tricky, 0.6)):
            pool = np.flatnonzero(mask & preferred)
            if roll < most and len(pool):
                return int(pool[self._chance.randrange(len(pool))])
        pool = np.flatnonzero(mask)
        return int(pool[self._chance.randrange(len(pool))])

    def walk(self, constraint: PlanConstraint) -> list[int]:
        """Take a constraint to its end; returns the tokens."""
        tokens: list[int] = []
        while not constraint.finished:
            tokens.append(self.choose(constraint.mask()))
            constraint.accept(tokens[-1])
        return tokens


def _holding(table: Sequence[bytes], marks: Sequence[str]) -> np.ndarray:
    return np.array([any(mark.encode() in token for mark in marks) for token in table])


# Plans short enough for the oracle, which computes the whole sequence for every token

SHORT = GrammarOptions(ask=False, limits=Limits(steps=3, effects=1))


def constraint_for(
    tokenizer: Tokenizer,
    query: str,
    tools: ToolSet,
    options: GrammarOptions = SHORT,
) -> PlanConstraint:
    """Return the plan constraint of one request; questions, being long, only without tools."""
    options = options if len(tools) else replace(options, ask=True)
    return PlanConstraint(tokenizer.llguidance_tokenizer(), tools, (query,), options)


def prompt_for(
    tokenizer: Tokenizer, query: str, tools: ToolSet, *, now: datetime | None = None
) -> Prompt:
    """Return the prompt of one request."""
    return render(Request(query=query, now=now), tools, tokenizer.chat_frame())
