"""A language model's forward pass in two halves: body, then head.

The head is as large as several layers and is wanted at few positions, so
decoding and training call the halves apart.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mlx_tinyagent.errors import ModelError
from mlx_tinyagent.models import kernels

if TYPE_CHECKING:
    import mlx.core as mx
    from mlx import nn


def hidden_states(model: nn.Module, ids: mx.array, cache: list[Any] | None) -> mx.array:
    """Run the body.

    Args:
        model: mlx-lm's module.
        ids: Token ids [batch, tokens].
        cache: One cache per layer, advanced in place; None for none.

    Returns:
        Hidden states after the last norm [batch, tokens, hidden].

    Raises:
        ModelError: The model is not built as body and head.
    """
    body = getattr(model, "model", None)
    if body is None:
        raise ModelError(
            f"{type(model).__name__} has no body apart from its head; full-attention models of "
            "the Llama, Qwen and Mistral families have"
        )
    states: mx.array = body(ids, cache=cache)
    return states


def serve(model: nn.Module, ids: mx.array, cache: list[Any] | None) -> mx.array:
    """Run the body as ``hidden_states`` does, with the kernels for serving.

    What is served goes through here, prefix, plan and oracle alike, so that all
    of it rounds the same way. No gradient passes through it.
    """
    with kernels.serving(model):
        return hidden_states(model, ids, cache)


def logits(model: nn.Module, hidden: mx.array) -> mx.array:
    """Run the head on hidden states [..., hidden]; returns logits [..., vocab]."""
    inner: Any = model
    scores: mx.array = (
        inner.lm_head(hidden)
        if getattr(model, "lm_head", None) is not None
        else inner.model.embed_tokens.as_linear(hidden)
    )
    return scores


def logits_of(model: nn.Module, hidden: mx.array, ids: mx.array) -> mx.array:
    """Run the head for some tokens of the vocabulary only.

    Args:
        model: mlx-lm's module.
        hidden: Hidden states [rows, hidden].
        ids: Token ids [count].

    Returns:
        Logits [rows, count]; the whole head is run and then gathered where its
        weight is packed or carries more than a weight.
    """
    inner: Any = model
    head = getattr(model, "lm_head", None)
    head = inner.model.embed_tokens if head is None else head
    if type(head).__name__ in ("Embedding", "Linear") and "bias" not in head:
        narrow: mx.array = hidden @ head.weight[ids].T
        return narrow
    return logits(model, hidden)[..., ids]


def ropes(model: nn.Module) -> list[Any]:
    """Return the rotary embedding of every layer.

    Raises:
        ModelError: The layers have none where it is expected.
    """
    inner: Any = model
    try:
        return [layer.self_attn.rope for layer in inner.model.layers]
    except AttributeError as error:
        raise ModelError(f"{type(model).__name__} has no rotary embedding per layer") from error
