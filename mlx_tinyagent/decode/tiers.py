"""How the part of a prompt before its tail gets into a cache.

exact   segments one after the other, shared between prompts that begin alike;
        equals no cache at all, computed in the same chunks
blocks  the header, and each tool computed once after the header and never
        again, side by side at shared positions; any subset in any order
cold    everything computed every time, for models whose caches cannot be cut
"""

from __future__ import annotations

import warnings
from collections import OrderedDict
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol

from mlx_tinyagent.decode.kv import SegmentKV, cut, fill, rotated, side_by_side
from mlx_tinyagent.decode.store import KVStore
from mlx_tinyagent.decode.tree import SegmentTree
from mlx_tinyagent.errors import UsageError
from mlx_tinyagent.models.forward import ropes, serve

if TYPE_CHECKING:
    from mlx_tinyagent.models.language import LanguageModel
    from mlx_tinyagent.prompt.render import Segment

TierName = Literal["exact", "blocks", "cold"]
TIER_KEY = "tier"  # in an adapter's configuration: the tier it was trained for
BLOCK_ROOM = 128  # positions between header and tail; longer tools take a multiple


class TierWarning(UserWarning):
    """A model cannot be served by the tier that is the default; another one serves it."""


@dataclass(frozen=True, slots=True)
class Opened:
    """A cache that holds everything before the tail.

    Attributes:
        cache: One per layer.
        computed: Tokens that went through the model.
        passes: Forward passes that took.
        touched: Bytes of KV that were put together.
    """

    cache: list[Any]
    computed: int
    passes: int
    touched: int


class Tier(Protocol):
    """Opens prefixes."""

    name: TierName

    def open(self, segments: Sequence[Segment], ids: Sequence[Sequence[int]]) -> Opened:
        """Return a cache that holds these segments; ``ids`` are their tokens."""
        ...

    def positions(self, ids: Sequence[Sequence[int]]) -> int:
        """Return the RoPE position of the tail: what these segments take of the context."""
        ...


def make_tier(
    name: TierName, model: LanguageModel, *, store: KVStore | None, budget: int, repair: int = 0
) -> Tier:
    """Return a tier for a model.

    Args:
        name: Which.
        model: The model.
        store: Where segments survive between processes.
        budget: Bytes of KV to keep in memory.
        repair: For blocks: tokens at the start of each block to compute anew in place.

    Raises:
        UsageError: Blocks are asked for on a model without full attention.
    """
    if model.kind != "full":
        if name == "blocks":
            raise UsageError(
                f"{model.name} has {model.kind} layers, which blocks cannot serve; "
                "it is served cold"
            )
        if name != "cold":
            warnings.warn(
                f"{model.name} has {model.kind} layers: nothing of its prompts is kept, each is "
                "computed in full (cold tier)",
                TierWarning,
                stacklevel=3,
            )
        return ColdTier(model)
    if name == "blocks":
        return BlockTier(model, store=store, budget=budget, repair=repair)
    return ColdTier(model) if name == "cold" else ExactTier(model, store=store, budget=budget)


class ColdTier:
    """Computes everything every time, segment by segment."""

    name: TierName = "cold"

    def __init__(self, model: LanguageModel) -> None:
        self._model = model

    def open(self, segments: Sequence[Segment], ids: Sequence[Sequence[int]]) -> Opened:
        """Return a cache that holds these segments."""
        cache = self._model.new_cache()
        for tokens in ids:
            compute_prefix(self._model, cache, tokens)
        return Opened(cache, sum(map(len, ids)), len(ids), 0)

    def positions(self, ids: Sequence[Sequence[int]]) -> int:
        """Return the RoPE position of the tail."""
        return sum(map(len, ids))


class ExactTier:
    """Shares what prompts have in common from their beginning on."""

    name: TierName = "exact"

    def __init__(self, model: LanguageModel, *, store: KVStore | None, budget: int) -> None:
        self._model = model
        self._store = store
        self.tree = SegmentTree(budget)

    def open(self, segments: Sequence[Segment], ids: Sequence[Sequence[int]]) -> Opened:
        """Return a cache that holds these segments."""
        cache = self._model.new_cache()
        path = [segment.digest for segment in segments]
        known = self._known(path, ids)
        fill(cache, known)
        offset = sum(kv.tokens for kv in known)
        computed = 0
        for index in range(len(known), len(segments)):
            end = offset + len(ids[index])
            compute_prefix(self._model, cache, ids[index])
            kv = cut(cache, offset, end)
            self.tree.insert(path[: index + 1], kv)
            if index == 0 and self._store is not None:
                self._store.save(self._store.key(path[:1], ids[0]), kv)
            computed += len(ids[index])
            offset = end
        touched = sum(kv.nbytes for kv in known)
        return Opened(cache, computed, len(segments) - len(known), touched)

    def positions(self, ids: Sequence[Sequence[int]]) -> int:
        """Return the RoPE position of the tail."""
        return sum(map(len, ids))

    def _known(self, path: Sequence[str], ids: Sequence[Sequence[int]]) -> list[SegmentKV]:
        """Return the longest known beginning, from memory or, for the header, from disk."""
        known = self.tree.match(path)
        if not known and path and self._store is not None:
            header = self._store.load(self._store.key(path[:1], ids[0]))
            if header is not None and header.tokens == len(ids[0]):
                self.tree.insert(path[:1], header)
                known = [header]
        return known


class BlockTier:
    """Keeps the header and one block per tool; a prompt is a gather of blocks."""

    name: TierName = "blocks"

    def __init__(
        self, model: LanguageModel, *, store: KVStore | None, budget: int, repair: int = 0
    ) -> None:
        self._model = model
        self._store = store
        self._budget = budget
        self._repair = repair
        self._kept: OrderedDict[str, SegmentKV] = OrderedDict()
        self._nbytes = 0

    def open(self, segments: Sequence[Segment], ids: Sequence[Sequence[int]]) -> Opened:
        """Return a cache that holds these segments, the first being the header."""
        costs: list[int] = []
        with self._weights(segments, ids):
            header = self._get(segments[0], ids[0], None, costs)
            blocks = [
                self._get(segment, tokens, (segments[0], ids[0], header), costs)
                for segment, tokens in zip(segments[1:], ids[1:], strict=True)
            ]
            touched = sum(kv.nbytes for kv in (header, *blocks))
            if self._repair:
                cache: list[Any] = self._repaired(header, blocks, ids[1:], costs)
            else:
                position = tail_position(header.tokens, [block.tokens for block in blocks])
                cache = list(side_by_side([header, *blocks], position=position))
        return Opened(cache, sum(costs), len(costs), touched)

    def positions(self, ids: Sequence[Sequence[int]]) -> int:
        """Return the RoPE position of the tail; blocks side by side share theirs."""
        if self._repair:
            return sum(map(len, ids))
        return tail_position(len(ids[0]), [len(tokens) for tokens in ids[1:]])

    def build(self, segments: Sequence[Segment], ids: Sequence[Sequence[int]]) -> int:
        """Compute and store what is missing; returns the number of blocks computed."""
        costs: list[int] = []
        with self._weights(segments, ids):
            header = self._get(segments[0], ids[0], None, costs)
            for segment, tokens in zip(segments[1:], ids[1:], strict=True):
                self._get(segment, tokens, (segments[0], ids[0], header), costs)
        return len(costs)

    def place(self, segments: Sequence[Segment], ids: Sequence[Sequence[int]]) -> None:
        """For benchmarks: store blocks of zeros, of the size that computed ones have.

        Args:
            segments: The header, which must be known, then tools.
            ids: Their tokens.
        """
        if self._store is None:
            raise ValueError("stand-in blocks need a store")
        header = self._get(segments[0], ids[0], None, [])
        for segment, tokens in zip(segments[1:], ids[1:], strict=True):
            key = self._store.key([segments[0].digest, segment.digest], [*ids[0], *tokens])
            self._store.save(key, header.zeros(len(tokens)).halved())

    def _weights(
        self, segments: Sequence[Segment], ids: Sequence[Sequence[int]]
    ) -> AbstractContextManager[None]:
        """Put the base model's weights in place once for all that is to be computed, if any is."""
        if self._repair:
            return self._model.prefix_weights()
        head, first = segments[0].digest, list(ids[0])
        paths = [([head], first)] + [
            ([head, segment.digest], [*first, *tokens])
            for segment, tokens in zip(segments[1:], ids[1:], strict=True)
        ]
        for path, tokens in paths:
            kept = "/".join(path) in self._kept
            if not kept and (
                self._store is None or not self._store.has(self._store.key(path, tokens))
            ):
                return self._model.prefix_weights()
        return nullcontext()

    def _get(
        self,
        segment: Segment,
        tokens: Sequence[int],
        after: tuple[Segment, Sequence[int], SegmentKV] | None,
        costs: list[int],
    ) -> SegmentKV:
        """Return a segment's KV from memory, from disk, or computed after the header."""
        path = [segment.digest] if after is None else [after[0].digest, segment.digest]
        context = [] if after is None else list(after[1])
        key = "/".join(path)
        if key in self._kept:
            self._kept.move_to_end(key)
            return self._kept[key]
        name = self._store.key(path, [*context, *tokens]) if self._store is not None else ""
        kv = self._store.load(name) if self._store is not None else None
        if kv is None or kv.tokens != len(tokens):
            cache = self._model.new_cache()
            fill(cache, [after[2]] if after is not None else [])
            compute_prefix(self._model, cache, tokens)
            costs.append(len(tokens))
            kv = cut(cache, len(context), len(context) + len(tokens))
            # Blocks are kept in 16 bits, on disk and in memory alike, so that a
            # block is the same whether it was just computed or read back.
            kv = kv if after is None else kv.halved()
            if self._store is not None:
                self._store.save(name, kv)
        self._keep(key, kv)
        return kv

    def _keep(self, key: str, kv: SegmentKV) -> None:
        self._kept[key] = kv
        self._nbytes += kv.nbytes
        while self._nbytes > self._budget and len(self._kept) > 1:
            _, dropped = self._kept.popitem(last=False)
            self._nbytes -= dropped.nbytes

    def _repaired(
        self,
        header: SegmentKV,
        blocks: Sequence[SegmentKV],
        ids: Sequence[Sequence[int]],
        costs: list[int],
    ) -> list[Any]:
        """Put blocks one after the other, moved, with their first tokens computed in place."""
        turning = ropes(self._model.model)
        cache = side_by_side([header], position=header.tokens)
        for block, tokens in zip(blocks, ids, strict=True):
            start = cache[0].offset
            fresh = min(self._repair, len(tokens))
            compute_prefix(self._model, cache, tokens[:fresh])
            costs.append(fresh)
            moved = rotated(block, turning, start - header.tokens)
            for index, layer in enumerate(cache):
                keys = moved.keys[index][..., fresh:, :].astype(layer.keys.dtype)
                values = moved.values[index][..., fresh:, :].astype(layer.values.dtype)
                if keys.shape[2]:
                    layer.update_and_fetch(keys, values)
        return list(cache)


def tail_position(header: int, blocks: Sequence[int]) -> int:
    """Return the RoPE position where the tail begins: the same for all usual tool sets.

    Args:
        header: Tokens of the header.
        blocks: Tokens of each block.
    """
    longest = max(blocks, default=0)
    return header + max(1, -(-longest // BLOCK_ROOM)) * BLOCK_ROOM


def default_tier(model: LanguageModel) -> TierName:
    """Return the tier that a model's adapter was trained for.

    One that acts after the blocks is for blocks. One that acts on all tokens is for
    whole prompts unless it says otherwise; the blocks it makes are then its own.
    """
    blocks = model.after_blocks or model.adapter_config.get(TIER_KEY) == "blocks"
    return "blocks" if blocks and model.kind == "full" else "exact"


def compute_prefix(model: LanguageModel, cache: Sequence[Any], ids: Sequence[int]) -> None:
    """Run tokens before the tail: an adapter that acts after the blocks stays out of them."""
    with model.prefix_weights():
        compute(model, cache, ids)


def compute(model: LanguageModel, cache: Sequence[Any], ids: Sequence[int]) -> None:
    """Run tokens through the body for the sake of the cache."""
    import mlx.core as mx

    hidden = serve(model.model, mx.array(list(ids))[None], list(cache))
    mx.eval(hidden, [layer.state for layer in cache])
