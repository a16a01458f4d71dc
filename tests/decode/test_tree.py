"""The segment tree: sharing, recency, the byte budget, depth."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

from mlx_tinyagent.decode.tree import SegmentTree
from mlx_tinyagent.prompt.render import HEADER
from mlx_tinyagent.tools.catalog import TINYAGENT16


@dataclass(frozen=True, eq=False)
class Sized:
    """Stands for a segment's KV; the tree only asks for its bytes."""

    nbytes: int
    name: str = ""


def tree_of(budget: int) -> SegmentTree:
    """Return an empty tree."""
    return SegmentTree(budget)


def put(tree: SegmentTree, path: Sequence[str], size: int = 10) -> None:
    """Insert every segment of a path that is not known, as a tier does."""
    known = len(tree.match(path))
    for index in range(known, len(path)):
        tree.insert(path[: index + 1], Sized(size, "".join(path[: index + 1])))  # type: ignore[arg-type]


def known(tree: SegmentTree, path: Sequence[str]) -> str:
    """Return the last segment of the longest known beginning."""
    found = tree.match(path)
    return found[-1].name if found else ""  # type: ignore[attr-defined]


def kept_bytes(tree: SegmentTree) -> int:
    """Add up the bytes by walking over the tree."""
    return sum(parent.children[digest].kv.nbytes for parent, digest in tree._edges())  # type: ignore[union-attr]


def test_a_path_is_found_as_far_as_it_is_known() -> None:
    """Segments come back in order; what stands elsewhere in the tree does not count."""
    tree = tree_of(1000)
    put(tree, "hab")
    put(tree, "hcb")
    assert known(tree, "habz") == "hab"
    assert known(tree, "hb") == "h"
    assert known(tree, "b") == ""
    assert known(tree, "") == ""
    assert len(tree) == 5
    assert [kv.name for kv in tree.match("hcb")] == ["h", "hc", "hcb"]  # type: ignore[attr-defined]


SIZES = {tool.name: len(tool.text()) for tool in TINYAGENT16}
ORDER = [tool.name for tool in TINYAGENT16.in_prompt_order()]


def distinct_subsets(count: int) -> list[list[str]]:
    """Return different sets of three to six tools in prompt order, after the header."""
    chance = random.Random(0)
    found: dict[tuple[str, ...], list[str]] = {}
    while len(found) < count:
        chosen = set(chance.sample(ORDER, chance.randrange(3, 7)))
        path = ["header", *(name for name in ORDER if name in chosen)]
        found[tuple(path)] = path
    return list(found.values())


def share(paths: Sequence[Sequence[str]]) -> float:
    """Return the tree's bytes by those of one full copy per request; checks them on the way."""
    sizes = {"header": len(HEADER), **SIZES}
    tree = tree_of(1 << 60)
    for path in paths:
        for index in range(len(tree.match(path)), len(path)):
            tree.insert(path[: index + 1], Sized(sizes[path[index]]))  # type: ignore[arg-type]
    beginnings = {tuple(path[: i + 1]) for path in paths for i in range(len(path))}
    assert len(tree) == len(beginnings)
    assert tree.nbytes == kept_bytes(tree) == sum(sizes[known[-1]] for known in beginnings)
    return tree.nbytes / sum(sizes[name] for path in paths for name in path)


def test_500_different_tool_sets_take_a_fifth_of_full_copies() -> None:
    """Nothing repeats but beginnings, and each is kept once."""
    assert share(distinct_subsets(500)) <= 0.2


def test_500_requests_take_a_tenth_of_full_copies() -> None:
    """Where tool sets repeat as words do: the k-th most usual one every k-th time."""
    subsets = distinct_subsets(500)
    usual = [1 / rank for rank in range(1, 501)]
    assert share(random.Random(0).choices(subsets, usual, k=500)) <= 0.1


def test_the_least_recently_used_leaf_goes_first() -> None:
    """Inner nodes stay while anything stands on them; a match refreshes recency."""
    tree = tree_of(50)
    for path in ("ha", "hb", "hc", "hd"):
        put(tree, path)
    assert tree.nbytes == 50
    tree.match("ha")
    put(tree, "he")
    assert leaves(tree) == {"ha", "hc", "hd", "he"}
    tree.match("hcx")  # a beginning of what is asked for counts as well
    put(tree, "hf")
    assert leaves(tree) == {"ha", "hc", "he", "hf"}
    put(tree, "hg")
    assert leaves(tree) == {"hc", "he", "hf", "hg"}
    assert tree.nbytes == kept_bytes(tree) == 50


def leaves(tree: SegmentTree) -> set[str]:
    """Return the names of all leaves, without touching their recency."""
    nodes = [parent.children[digest] for parent, digest in tree._edges()]
    return {node.kv.name for node in nodes if not node.children}  # type: ignore[union-attr]


def test_a_chain_is_evicted_from_its_end() -> None:
    """A node whose children are gone is a leaf like any other."""
    tree = tree_of(60)
    put(tree, "hxyz")
    put(tree, "hab")
    assert known(tree, "hxyz") == "hxyz"
    put(tree, "hxyzw", 10)
    assert known(tree, "hab") in ("h", "ha")
    assert tree.nbytes == kept_bytes(tree) <= 60
    assert known(tree, "hxyzw") == "hxyzw"


def test_more_than_the_budget_is_not_kept() -> None:
    """Not even one segment that is larger on its own; nothing of it is left."""
    tree = tree_of(5)
    put(tree, "hab")
    assert (len(tree), tree.nbytes) == (0, 0)
    tree = tree_of(0)
    put(tree, "h")
    assert (len(tree), tree.nbytes) == (0, 0)


def test_a_segment_without_its_beginning_is_ignored() -> None:
    """It could never be found, so it takes no bytes."""
    tree = tree_of(100)
    tree.insert("abc", Sized(10))  # type: ignore[arg-type]
    assert (len(tree), tree.nbytes) == (0, 0)


def test_inserting_twice_keeps_the_first() -> None:
    """The bytes are counted once."""
    tree = tree_of(100)
    put(tree, "h")
    first = tree.match("h")[0]
    tree.insert("h", Sized(30))  # type: ignore[arg-type]
    assert tree.match("h")[0] is first
    assert tree.nbytes == 10
    tree.clear()
    assert (len(tree), tree.nbytes, tree.match("h")) == (0, 0, [])


def test_a_thousand_tools_deep() -> None:
    """No recursion: a path of 1,001 segments is kept, found and evicted."""
    tree = tree_of(10_000_000)
    path = [f"t{i}" for i in range(1001)]
    put(tree, path)
    assert len(tree.match(path)) == 1001
    assert len(tree) == 1001
    tree.budget = 100
    put(tree, ["other"])
    assert tree.nbytes == kept_bytes(tree) <= 100


def test_any_order_of_requests_keeps_the_books() -> None:
    """After each of 2,000 random requests: bytes add up, the budget holds, no orphans."""
    chance = random.Random(1)
    tree = tree_of(400)
    for _ in range(2000):
        path = ["h", *sorted(chance.sample("abcdefgh", chance.randrange(1, 6)))]
        put(tree, path, chance.randrange(1, 40))
        assert tree.nbytes == kept_bytes(tree) <= 400
        found = tree.match(path)
        assert all(kv is not None for kv in found)
