"""Duplicates, leaks and splits against brute force."""

from __future__ import annotations

from pathlib import Path
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlx_tinyagent.datasets.dedupe import (
    duplicates,
    fingerprint,
    jaccard,
    normalized,
    overlaps,
    unique,
    words,
)
from mlx_tinyagent.datasets.record import Example, write_examples
from mlx_tinyagent.datasets.split import leaks, split
from mlx_tinyagent.errors import InputError, UsageError
from mlx_tinyagent.prompt.render import Turn

TEXTS = st.lists(st.lists(st.sampled_from("abcdefgh"), max_size=7).map(" ".join), max_size=12)


def example(number: int, query: str) -> Example:
    """Make a refusal."""
    return Example(id=str(number), query=query, tools=(), source="s", licence="l", kind="none_far")


def test_normalizing_folds_case_accents_and_punctuation() -> None:
    """What people type differently is the same request."""
    assert normalized("  Text CHLOÉ: “hi”!  ") == normalized("text chloe hi")


def test_a_fingerprint_counts_the_history() -> None:
    """The same words after another turn are another request."""
    plain = example(1, "and Bob")
    later = Example(
        id="2", query="and bob", tools=(), history=(Turn(query="text Al"),), source="s",
        licence="l", kind="none_far",
    )  # fmt: skip
    assert fingerprint(plain) == fingerprint(example(3, "And bob!"))
    assert fingerprint(plain) != fingerprint(later)
    assert [e.id for e in unique([plain, example(3, "And bob!"), later])] == ["1", "2"]


@given(TEXTS, TEXTS, st.sampled_from([0.3, 0.5, 0.8, 1.0]))
def test_overlaps_find_what_comparing_all_pairs_finds(
    first: list[str], second: list[str], threshold: float
) -> None:
    """The index loses no pair (texts without words match nothing)."""
    found = {pair.second: pair.score for pair in overlaps(first, second, threshold=threshold)}
    for number, text in enumerate(second):
        scores = [jaccard(words(other), words(text)) for other in first if words(other)]
        best = max(scores, default=0.0)
        expected = best if words(text) and best >= threshold else None
        assert found.get(number) == expected


@given(TEXTS, st.sampled_from([0.5, 0.8]))
def test_duplicates_find_what_comparing_all_pairs_finds(texts: list[str], threshold: float) -> None:
    """Each text with a similar one before it is found, and no other."""
    found = {pair.second for pair in duplicates(texts, threshold=threshold)}
    expected = {
        n
        for n, text in enumerate(texts)
        if words(text)
        and any(jaccard(words(o), words(text)) >= threshold for o in texts[:n] if words(o))
    }
    assert found == expected


def test_a_split_parts_no_similar_requests() -> None:
    """Rows that say nearly the same are on one side, and every row is on one."""
    rng = Random(0)
    names = "ana bo cy dee eli fay gus hal ida jon kim lou".split()
    rows = [
        example(n, f"send {rng.choice(names)} the {rng.choice(names)} file about topic{n // 3}")
        for n in range(300)
    ]
    sides = split(rows, valid=0.2, test=0.2, seed=1)
    assert sorted(int(e.id) for side in sides.values() for e in side) == list(range(300))
    assert all(len(side) > 10 for side in sides.values())
    for first, second in (("train", "test"), ("train", "valid"), ("valid", "test")):
        pair = ([e.query for e in sides[name]] for name in (first, second))
        assert list(overlaps(*pair)) == []
    again = split(rows[:200], valid=0.2, test=0.2, seed=1)
    side_of = {e.id: name for name, side in sides.items() for e in side}
    moved = [e.id for name, side in again.items() for e in side if side_of[e.id] != name]
    assert len(moved) < 30


def test_senseless_shares_and_empty_files_are_refused() -> None:
    """Shares below 0 or of 1 and more, and nothing to split."""
    with pytest.raises(UsageError):
        split([example(1, "x")], valid=0.6, test=0.4, seed=0)
    with pytest.raises(InputError):
        split([], valid=0.1, test=0.1, seed=0)


def test_leaks_between_files_and_folders_are_found(tmp_path: Path) -> None:
    """A folder stands for its files; a file is not compared with itself."""
    write_examples(tmp_path / "a/one.jsonl", [example(1, "text Dana I am late"), example(2, "hi")])
    write_examples(tmp_path / "b/two.jsonl", [example(7, "text dana: I am late!")])
    found = leaks([tmp_path / "b"], [tmp_path / "a", tmp_path / "b"])
    assert [(leak.id, leak.other_id, leak.score) for leak in found] == [("7", "1", 1.0)]
    with pytest.raises(InputError, match="no such file"):
        leaks([tmp_path / "c"], [tmp_path / "a"])


@pytest.mark.slow
@pytest.mark.timeout(60)
def test_thirty_thousand_rows_take_seconds() -> None:
    """The index keeps candidate lists short; a copied text is found among them all."""
    rng = Random(1)
    weights = [1 / (rank + 2) for rank in range(8000)]
    lengths = [rng.randint(4, 14) for _ in range(30_000)]
    texts = [" ".join(f"w{w}" for w in rng.choices(range(8000), weights, k=k)) for k in lengths]
    texts[29_999] = texts[7]
    found = list(overlaps(texts[:15_000], texts[15_000:]))
    assert found[-1].second == 14_999
    assert found[-1].score == 1.0
