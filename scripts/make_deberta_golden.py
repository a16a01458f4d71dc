"""Write ``tests/golden/deberta.npz``: what transformers' DebertaV2 computes.

    pip install -e '.[reference]'
    python scripts/make_deberta_golden.py

The file holds, for every configuration variant, inputs, hidden states, logits
and projected gradients of a tiny random model, computed by torch in float64,
and bucket tables computed by transformers in float32. Weights are not stored:
``draw`` makes them again from the raw bits of a PCG64 generator, whose stream
NumPy guarantees. The tests import this file for the cases and for ``reference``.
"""

from __future__ import annotations

import json
import sys
import zlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Arrays = dict[str, NDArray[Any]]

GOLDEN = Path(__file__).resolve().parents[1] / "tests" / "golden" / "deberta.npz"
LABELS = 5
SAMPLED = 20  # positions kept per row
BUCKETS = ((256, 512), (128, 512), (64, 256), (32, 128), (8, 32))

_TINY = {
    "vocab_size": 60,
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "num_labels": LABELS,
    "problem_type": "multi_label_classification",
}
_V3 = {
    **_TINY,
    "relative_attention": True,
    "position_buckets": 256,
    "max_relative_positions": -1,
    "max_position_embeddings": 512,
    "position_biased_input": False,
    "pos_att_type": "p2c|c2p",
    "share_att_key": True,
    "norm_rel_ebd": "layer_norm",
    "type_vocab_size": 0,
}
_SHORT = {**_V3, "position_buckets": 8, "max_position_embeddings": 32}


@dataclass(frozen=True)
class Case:
    """One configuration and the lengths of its batch."""

    name: str
    config: dict[str, Any]
    lengths: tuple[int, ...] = (5, 12, 9)
    token_types: bool = False

    @property
    def seed(self) -> int:
        """A number of the case's own."""
        return zlib.crc32(self.name.encode())


CASES = (
    Case("v3", _V3),
    Case("v3_long", {**_V3, "num_hidden_layers": 2, "num_attention_heads": 2}, (130, 560, 300)),
    Case("buckets_8_of_32", _SHORT, (40, 7, 33)),
    Case("raw_distances", {**_SHORT, "position_buckets": -1, "max_relative_positions": 16}, (24,)),
    Case("unshared_key", {**_SHORT, "share_att_key": False}),
    Case("unshared_c2p", {**_SHORT, "share_att_key": False, "pos_att_type": ["c2p"]}),
    Case("c2p", {**_SHORT, "pos_att_type": ["c2p"]}),
    Case("p2c", {**_SHORT, "pos_att_type": ["p2c"]}),
    Case("unnormalized_positions", {**_SHORT, "norm_rel_ebd": "none"}),
    Case("conv_gelu", {**_SHORT, "conv_kernel_size": 3, "conv_act": "gelu"}),
    Case("conv_default", {**_SHORT, "conv_kernel_size": 5, "conv_groups": 2}),
    Case(
        "absolute_and_types",
        {**_SHORT, "position_biased_input": True, "type_vocab_size": 2},
        token_types=True,
    ),
    Case("types_by_default", {**_SHORT, "type_vocab_size": 2}),
    Case("embedding_16", {**_SHORT, "embedding_size": 16}),
    Case("not_relative", {**_TINY, "max_position_embeddings": 32, "pos_att_type": "p2c|c2p"}),
    Case("not_relative_bare", {**_TINY, "max_position_embeddings": 32}),
    Case(
        "other_activations",
        {**_SHORT, "hidden_act": "gelu_new", "pooler_hidden_act": "tanh"},
    ),
)


def draw(name: str, shape: tuple[int, ...], seed: int) -> NDArray[np.float32]:
    """Return the weight of this name: uniform, normalizations around 1.

    Args:
        name: Name in the checkpoint.
        shape: Shape in the checkpoint.
        seed: The case's number.
    """
    bits = np.random.PCG64([seed, zlib.crc32(name.encode())]).random_raw(int(np.prod(shape)))
    unit = (bits >> np.uint64(11)) * 2.0**-53
    values = (unit.reshape(shape) - 0.5) * 0.6
    return (values + name.endswith("LayerNorm.weight")).astype(np.float32)


def inputs(case: Case) -> Arrays:
    """Return ids, mask, types and targets of a case, int32; no pad id among the tokens."""
    bits = np.random.PCG64(case.seed)
    shape = (len(case.lengths), max(case.lengths))
    size = shape[0] * shape[1]
    ids = 1 + (bits.random_raw(size) % np.uint64(case.config["vocab_size"] - 1)).reshape(shape)
    mask = np.arange(shape[1])[None] < np.array(case.lengths)[:, None]
    types = (bits.random_raw(size) % np.uint64(2)).reshape(shape) * mask
    targets = (bits.random_raw(shape[0] * LABELS) % np.uint64(2)).reshape(shape[0], LABELS)
    return {
        "ids": (ids * mask).astype(np.int32),
        "mask": mask.astype(np.int32),
        "types": types.astype(np.int32),
        "targets": targets.astype(np.int32),
    }


def sampled(length: int) -> NDArray[np.int64]:
    """Return the positions of a row whose states are kept, first and last included."""
    return np.unique(np.linspace(0, length - 1, SAMPLED).round().astype(np.int64))


def projected(name: str, gradient: NDArray[Any], seed: int) -> NDArray[np.float64]:
    """Return the norm of a gradient and its products with two fixed directions of norm 1."""
    flat = gradient.astype(np.float64).reshape(-1)
    directions = [draw(f"{name}.{part}", flat.shape, seed).astype(np.float64) for part in "ab"]
    products = [float(flat @ one) / float(np.linalg.norm(one)) for one in directions]
    return np.array([np.linalg.norm(flat), *products])


@dataclass(frozen=True)
class Reference:
    """What torch computed for a case.

    Attributes:
        config: Content of transformers' ``config.json``.
        weights: Checkpoint of the model, float32.
        states: Embeddings and every block's output, [batch, tokens, hidden] each.
        logits: [batch, labels].
        gradients: Name -> gradient of the mean binary cross-entropy.
    """

    config: dict[str, Any]
    weights: Arrays
    states: list[NDArray[Any]]
    logits: NDArray[Any]
    gradients: Arrays = field(default_factory=dict)


def reference(case: Case, *, double: bool = True) -> Reference:
    """Run transformers' model on torch.

    Args:
        case: What to run.
        double: Compute in float64, from the same float32 weights.
    """
    import torch
    from transformers import DebertaV2Config, DebertaV2ForSequenceClassification

    config = DebertaV2Config(**case.config, attn_implementation="eager")
    model = DebertaV2ForSequenceClassification(config).eval()
    weights = {
        name: draw(name, tuple(value.shape), case.seed)
        for name, value in model.state_dict().items()
    }
    model.load_state_dict({name: torch.tensor(value) for name, value in weights.items()})
    if double:
        model = model.double()
    given = {name: torch.tensor(value).long() for name, value in inputs(case).items()}
    output = model(
        input_ids=given["ids"],
        attention_mask=given["mask"],
        token_type_ids=given["types"] if case.token_types else None,
        labels=given["targets"].to(model.dtype),
        output_hidden_states=True,
    )
    output.loss.backward()
    return Reference(
        config=json.loads(config.to_json_string()),
        weights=weights,
        states=[state.detach().numpy() for state in output.hidden_states],
        logits=output.logits.detach().numpy(),
        gradients={
            name: value.grad.numpy()
            for name, value in model.named_parameters()
            if value.grad is not None
        },
    )


def golden() -> Arrays:
    """Return the content of the golden file."""
    import torch
    import transformers
    from transformers.models.deberta_v2.modeling_deberta_v2 import make_log_bucket_position

    made = {
        "by": "scripts/make_deberta_golden.py",
        "transformers": transformers.__version__,
        "torch": torch.__version__,
        "numpy": np.__version__,
        "computed_in": "float64; bucket tables in float32",
    }
    arrays: Arrays = {"provenance": np.array(json.dumps(made))}
    for buckets, limit in BUCKETS:
        table = make_log_bucket_position(torch.arange(-1200, 1201), buckets, limit)
        arrays[f"buckets/{buckets}/{limit}"] = table.to(torch.int16).numpy()
    for case in CASES:
        result = reference(case)
        arrays[f"{case.name}/config"] = np.array(json.dumps(result.config))
        arrays[f"{case.name}/logits"] = result.logits
        for row, length in enumerate(case.lengths):
            last = result.states[-1][row, sampled(length)]
            arrays[f"{case.name}/states/{row}"] = last.astype(np.float32)
        names = sorted(result.gradients)
        arrays[f"{case.name}/gradient_names"] = np.array(json.dumps(names))
        arrays[f"{case.name}/gradients"] = np.array(
            [projected(name, result.gradients[name], case.seed) for name in names]
        ).astype(np.float32)
    return arrays


def main() -> int:
    """Write the golden file and print its size."""
    GOLDEN.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(GOLDEN, **golden())
    print(f"{GOLDEN.name}: {GOLDEN.stat().st_size:,} bytes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
