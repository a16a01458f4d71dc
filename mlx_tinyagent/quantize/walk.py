"""Passing all rows through a model block by block.

A block's weights are in memory only while every row passes it; what waits
between blocks are hidden states. Two layouts: *exact*, one segment after the
other, where rows share the header; and *blocks*, as an adapter that acts after
the tool blocks is served: every tool's block once, right after the header, and
a row is its tail and plan. (Serving keeps blocks in 16 bits; here they are in
32 unless asked otherwise, for every model alike.)
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from mlx_tinyagent.errors import UsageError
from mlx_tinyagent.models import kernels
from mlx_tinyagent.models.adapters import base_only
from mlx_tinyagent.models.info import head_dim, kv_bytes_per_token

if TYPE_CHECKING:
    import mlx.core as mx
    from mlx import nn

    from mlx_tinyagent.models.blockwise import Blockwise
    from mlx_tinyagent.quantize.rows import Rows

Progress = Callable[[int, int], None]  # blocks done, blocks in all
Visit = Callable[[int, "nn.Module"], None]


@dataclass(frozen=True, slots=True, eq=False)
class Context:
    """What a row's own tokens look back at, as mlx-lm's blocks want it: one layer's cache.

    Attributes:
        keys: Keys before the row [1, kv_heads, tokens, head_dim]; no tokens for none.
        values: Their values.
        offset: Position of the row's first token.
        fresh: Filled by a pass: the row's own keys and values.
    """

    keys: mx.array | None
    values: mx.array | None
    offset: int
    own: list[tuple[mx.array, mx.array]] = field(default_factory=list)

    @property
    def fresh(self) -> tuple[mx.array, mx.array] | None:
        """The row's own keys and values; None where there is nothing before them."""
        return self.own[-1] if self.keys is not None else None

    def update_and_fetch(self, keys: mx.array, values: mx.array) -> tuple[mx.array, mx.array]:
        """Return everything the row may look at."""
        import mlx.core as mx

        self.own.append((keys, values))
        if self.keys is None or self.values is None:
            return keys, values
        return (
            mx.concatenate([self.keys, keys], axis=2),
            mx.concatenate([self.values, values], axis=2),
        )


@dataclass(slots=True, eq=False)
class States:
    """Hidden states of everything, before or after a block.

    Attributes:
        header: [1, tokens, hidden].
        tools: The same per tool block; empty in the exact layout.
        rows: The same per row.
    """

    header: mx.array
    tools: dict[str, mx.array]
    rows: list[mx.array]


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """How the rows of a walk lie.

    Attributes:
        rows: The rows.
        blocks: Whether tool blocks stand side by side; else all segments are one text.
        kept: Bits in which keys and values of tool blocks are kept between requests: 32,
            16, or what MLX packs in groups (8, 6, 5, 4, 3, 2). The header's are not touched.
    """

    rows: Rows
    blocks: bool
    kept: int = 32

    def start(self, embed: Callable[[Any], mx.array]) -> States:
        """Return the embedded tokens."""
        import mlx.core as mx

        def look_up(ids: list[int] | tuple[int, ...]) -> mx.array:
            return embed(mx.array(list(ids))[None])

        rows = self.rows
        used = {name for row in rows.rows for name in row.tools}
        lines = []
        for row in rows.rows:
            tools = () if self.blocks else row.tools
            before = [token for name in tools for token in rows.blocks[name]]
            lines.append(look_up((*before, *row.tail, *row.plan[:-1])))
        states = States(
            header=look_up(rows.header),
            tools={name: look_up(ids) for name, ids in rows.blocks.items() if name in used}
            if self.blocks
            else {},
            rows=lines,
        )
        mx.eval(states.header, states.tools, states.rows)
        return states

    def planned(self, states: States) -> list[mx.array]:
        """Return per row the states before each of the plan's tokens [plan tokens, hidden]."""
        return [
            line[0, -len(row.plan) :] for line, row in zip(states.rows, self.rows.rows, strict=True)
        ]


def at_rest(part: mx.array, bits: int) -> mx.array:
    """Return keys or values as they come back from where they are kept.

    Args:
        part: [1, kv_heads, tokens, head_dim], float32.
        bits: 32, 16, or bits of affine numbers in groups along the head.

    Raises:
        UsageError: The head does not divide into groups of MLX.
    """
    import mlx.core as mx

    if bits >= 32:
        return part
    if bits == 16:
        return part.astype(mx.float16).astype(mx.float32)
    size = part.shape[-1]
    group = next((group for group in (64, 32) if size % group == 0), None)
    if group is None:
        raise UsageError(f"heads of {size} do not divide into groups of 32; keep 16 bits")
    half = part.astype(mx.float16)
    packed, scales, biases = mx.quantize(half, group_size=group, bits=bits)
    back = mx.dequantize(packed, scales, biases, group_size=group, bits=bits)
    return back.astype(mx.float32)


def rest_bytes(config: dict[str, Any], bits: int) -> float:
    """Return the bytes that one kept token takes.

    Args:
        config: The model's ``config.json``.
        bits: As for ``at_rest``.
    """
    size = head_dim(config)
    overhead = 0.0 if bits >= 16 else 32 / (64 if size % 64 == 0 else 32)
    return kv_bytes_per_token(config, bytes_per_value=1) * (bits + overhead) / 8


def advance(block: nn.Module, states: States, layout: Layout, *, adapted: bool = False) -> States:
    """Pass everything through one block.

    Args:
        block: The block.
        states: What goes in.
        layout: How rows lie.
        adapted: Whether the block has an adapter that must not touch what comes
            before the tails.
    """
    import mlx.core as mx

    run: Any = block
    with base_only(block) if adapted else contextlib.nullcontext():
        before = Context(None, None, 0)
        header = run(states.header, "causal", before)
        head_keys, head_values = before.own[0]
        mx.eval(header, head_keys, head_values)
        tools: dict[str, mx.array] = {}
        kept: dict[str, tuple[mx.array, mx.array]] = {}
        for name, tokens in states.tools.items():
            context = Context(head_keys, head_values, states.header.shape[1])
            tools[name] = run(tokens, "causal", context)
            keys, values = (at_rest(part, layout.kept) for part in context.own[0])
            kept[name] = keys, values
            mx.eval(tools[name], keys, values)
    lines = []
    for row, tokens in zip(layout.rows.rows, states.rows, strict=True):
        keys, values, offset = head_keys, head_values, states.header.shape[1]
        if layout.blocks:
            chosen = [kept[name] for name in row.tools]
            keys = mx.concatenate([keys, *(k for k, _ in chosen)], axis=2)
            values = mx.concatenate([values, *(v for _, v in chosen)], axis=2)
            offset = layout.rows.position(row)
        lines.append(run(tokens, "causal", Context(keys, values, offset)))
        mx.eval(lines[-1])
    return States(header=header, tools=tools, rows=lines)


def walk(
    model: Blockwise,
    layout: Layout,
    *,
    embed: nn.Module | None = None,
    before: Visit | None = None,
    after: Visit | None = None,
    progress: Progress | None = None,
    last: Callable[[mx.array], None] | None = None,
) -> States:
    """Pass all rows through a model and return the states after the last norm.

    Args:
        model: The model, not walked yet.
        layout: The rows.
        embed: An embedding in place of the model's own.
        before: Called with each block before the rows pass it.
        after: Called with it afterwards.
        progress: Told how far it is.
        last: Called with the states before the head of each row's plan.
    """
    import mlx.core as mx

    look_up: Any = embed if embed is not None else model.embedding()
    states = layout.start(look_up)
    with kernels.fast(model.module):
        for index in range(model.layers):
            block = model.take(index)
            if before is not None:
                before(index, block)
            states = advance(block, states, layout, adapted=model.after_blocks)
            if after is not None:
                after(index, block)
            del block
            if progress is not None:
                progress(index + 1, model.layers)
    norm: Any = model.norm()
    rows = [norm(line) for line in states.rows]
    mx.eval(rows)
    passed = States(header=states.header, tools=states.tools, rows=rows)
    if last is not None:
        for planned in layout.planned(passed):
            last(planned)
    return passed
