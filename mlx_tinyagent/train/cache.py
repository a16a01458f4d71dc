"""What comes before the computed tokens, as a cache that gradients can pass."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mlx_tinyagent.decode.kv import SegmentKV, cut
from mlx_tinyagent.decode.tiers import BlockTier, ExactTier, tail_position

if TYPE_CHECKING:
    import mlx.core as mx

    from mlx_tinyagent.models.language import LanguageModel
    from mlx_tinyagent.train.parts import Part, Parts

EXACT_BUDGET = 1 << 28  # bytes of sequences kept, for rows that begin alike


class PrefixCache:
    """One layer's fixed prefix, which every forward pass continues anew.

    Unlike a cache for decoding it does not grow, so a gradient can pass
    through what it returns.

    Args:
        keys: Keys of the prefix [batch, kv_heads, tokens, head_dim], after RoPE; None
            for no prefix.
        values: Its values.
        offset: RoPE position of the first token after it.
        mask: True where a new token may look [batch, 1, new, tokens + new];
            None for all of the prefix and causally among the new ones.

    Attributes:
        fresh: Keys and values of the last pass without the prefix, for
            attention that computes the two apart.
    """

    fresh: tuple[mx.array, mx.array] | None = None

    def __init__(
        self,
        keys: mx.array | None,
        values: mx.array | None,
        *,
        offset: int,
        mask: mx.array | None = None,
    ) -> None:
        self.keys, self.values, self.offset, self.mask = keys, values, offset, mask

    def update_and_fetch(self, keys: mx.array, values: mx.array) -> tuple[mx.array, mx.array]:
        """Return the prefix followed by the new tokens."""
        import mlx.core as mx

        if self.keys is None or self.values is None:
            self.keys, self.values = keys[..., :0, :], values[..., :0, :]
        self.fresh = keys, values
        return (  # not computed where nobody reads it
            mx.concatenate([self.keys, keys], axis=2),
            mx.concatenate([self.values, values], axis=2),
        )

    def make_mask(
        self, count: int, return_array: bool = False, window_size: int | None = None
    ) -> Any:
        """Return the attention mask for ``count`` new tokens."""
        return "causal" if self.mask is None else self.mask


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Blocks:
    """Header and tool blocks, exactly as they are served.

    Attributes:
        header: KV of the header.
        tools: KV of each tool's block, by name, in prompt order.
    """

    header: SegmentKV
    tools: Mapping[str, SegmentKV]

    def caches(self, offered: Sequence[Sequence[str]], *, new: int) -> list[PrefixCache]:
        """Gather what each row of a batch is offered.

        Args:
            offered: Tool names per row.
            new: Tokens that will be computed per row, padding included.

        Returns:
            One cache per layer. Rows with fewer prefix tokens are filled up,
            and what fills them is masked.

        Raises:
            ValueError: The rows' tails begin at different positions.
        """
        import mlx.core as mx

        rows = [[self.header, *self._chosen(names)] for names in offered]
        positions = {
            tail_position(self.header.tokens, [kv.tokens for kv in row[1:]]) for row in rows
        }
        if len(positions) != 1:
            raise ValueError(f"tails at {sorted(positions)} cannot share a batch")
        lengths = [sum(kv.tokens for kv in row) for row in rows]
        width = max(lengths)
        mask = None
        if len(rows) > 1:
            seen = mx.arange(width)[None] < mx.array(lengths)[:, None]
            causal = mx.tril(mx.ones((new, new), dtype=mx.bool_))
            mask = mx.concatenate(
                [
                    mx.broadcast_to(seen[:, None, None, :], (len(rows), 1, new, width)),
                    mx.broadcast_to(causal, (len(rows), 1, new, new)),
                ],
                axis=-1,
            )
        caches = []
        for layer in range(len(self.header.keys)):
            keys = [_joined([kv.keys[layer] for kv in row], width) for row in rows]
            values = [_joined([kv.values[layer] for kv in row], width) for row in rows]
            caches.append(
                PrefixCache(
                    mx.concatenate(keys), mx.concatenate(values), offset=min(positions), mask=mask
                )
            )
        return caches

    def position(self, names: Sequence[str]) -> int:
        """Return where the tail of a row begins that is offered these tools."""
        return tail_position(self.header.tokens, [kv.tokens for kv in self._chosen(names)])

    def _chosen(self, names: Sequence[str]) -> list[SegmentKV]:
        wanted = set(names)
        return [kv for name, kv in self.tools.items() if name in wanted]


def _joined(parts: list[mx.array], width: int) -> mx.array:
    import mlx.core as mx

    first = parts[0]
    missing = width - sum(part.shape[2] for part in parts)
    if missing:
        batch, heads, _, size = first.shape
        parts = [*parts, mx.zeros((batch, heads, missing, size), first.dtype)]
    return mx.concatenate([part.astype(first.dtype) for part in parts], axis=2)


class Exact:
    """Header and tools as one sequence, computed as the exact tier serves them.

    Args:
        model: The model as it serves: with an adapter that is active after the prefix only.
        parts: Header and blocks.
    """

    def __init__(self, model: LanguageModel, parts: Parts) -> None:
        self._tier = ExactTier(model, store=None, budget=EXACT_BUDGET)
        self._parts = parts

    def caches(self, offered: Sequence[Sequence[str]], *, new: int) -> list[PrefixCache]:
        """Compute what one row is offered.

        Args:
            offered: Tool names of the row; sequences differ in length, so there is one only.
            new: Tokens that will be computed after it.

        Returns:
            One cache per layer.
        """
        (names,) = offered
        parts = list(self._parts.of(names))
        opened = self._tier.open([part.segment for part in parts], [part.ids for part in parts])
        kv = cut(opened.cache, 0, sum(len(part.ids) for part in parts))
        return [
            PrefixCache(keys, values, offset=kv.tokens)
            for keys, values in zip(kv.keys, kv.values, strict=True)
        ]


def build_blocks(model: LanguageModel, parts: Parts) -> Blocks:
    """Compute header and blocks with the tier that serves them.

    Args:
        model: The base model, without an adapter's layers or with an adapter
            that is active after the blocks only.
        parts: Header and blocks.
    """
    tier = BlockTier(model, store=None, budget=1 << 62)
    header = parts.header
    length = len(header.ids)

    def block(part: Part) -> SegmentKV:
        opened = tier.open([header.segment, part.segment], [header.ids, part.ids])
        # the tier rounded it to 16 bits, so nothing is lost
        return cut(opened.cache, length, length + len(part.ids)).halved()

    first = cut(tier.open([header.segment], [header.ids]).cache, 0, length)
    return Blocks(header=first, tools={name: block(part) for name, part in parts.tools.items()})
