"""Name matching: one clear winner, several candidates, or nothing."""

from __future__ import annotations

import time
import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlx_tinyagent.tools.match import CUTOFF, MARGIN, WHOLE, candidates, fold, score

PROPERTY = settings(derandomize=True, database=None, deadline=None, max_examples=200)


def names(query: str, *known: str) -> list[str]:
    """Match a query against names."""
    return [item for _, item in candidates(query, known, lambda name: (name,))]


@pytest.mark.parametrize(
    ("text", "folded"),
    [
        ("Dana Lee", "dana lee"),
        ("  DANA\t\u00a0lee\n", "dana lee"),
        ("Zoë Müller-Łuk", "zoe muller luk"),
        ("O'Brien, Ph.D.", "obrien ph d"),
        ("O\u2019Brien", "obrien"),
        ("budget_2024 (final).pdf", "budget 2024 final pdf"),
        ("Straße", "strasse"),
        ("İstanbul", "istanbul"),
        ("\u210c\u212fllo", "hello"),  # compatibility letters whose plain forms are upper case
        ("\uff2a\uff4f\uff48\uff4e", "john"),  # full width
        ("\U0001d400nn", "ann"),
        ("ﬁle", "file"),
        ("na\u00efve nai\u0308ve", "naive naive"),
        ("Ёлка", "елка"),
        ("\u0623\u062d\u0645\u062f", "\u0627\u062d\u0645\u062f"),  # hamza
        (
            "\u0639\u0644\u06cc\u200c\u0631\u0636\u0627",
            "\u0639\u0644\u06cc\u0631\u0636\u0627",
        ),  # non-joiner
        ("שָׁלוֹם", "שלום"),
        ("राम", "राम"),  # vowel signs are marks, but part of the name
        ("!?…", ""),
        ("", ""),
        ("\U0001f600", ""),
    ],
)
def test_fold_keeps_letters_and_digits_and_drops_the_rest(text: str, folded: str) -> None:
    """Case, accents, punctuation and blanks do not tell names apart."""
    assert fold(text) == unicodedata.normalize("NFKD", folded)


@pytest.mark.parametrize(
    ("one", "other"), [("か", "が"), ("राम", "मारा"), ("하나", "한아"), ("क", "क़")]
)
def test_letters_of_other_scripts_stay_apart(one: str, other: str) -> None:
    """Voiced kana, vowel signs, syllables and nukta make other names."""
    assert fold(one) != fold(other)
    assert names(one, other) == []


@PROPERTY
@given(st.text())
def test_folding_twice_changes_nothing(text: str) -> None:
    """A folded text is in folded form, whatever the script."""
    once = fold(text)
    assert fold(once) == once
    assert once == " ".join(once.split())


@PROPERTY
@given(st.text("abcdé Ł1-", max_size=12), st.text("abcdé Ł1-", max_size=12))
def test_scores_lie_between_0_and_1_and_1_means_the_same_letters(query: str, name: str) -> None:
    """Only the same letters score 1, however split; what folds to nothing scores 0."""
    value = score(query, name)
    assert 0 <= value <= 1
    wanted, known = (fold(text).replace(" ", "") for text in (query, name))
    assert (value == 1) == (wanted == known != "")
    assert (value == 0) or (wanted and known)


@pytest.mark.parametrize(
    ("query", "name", "value"),
    [
        ("Dana Lee", "dana lee", 1.0),
        ("ProjectPlan.pdf", "Project Plan.pdf", 1.0),
        ("Dana", "Dana Lee", WHOLE),
        ("Lee, Dana", "Dana Lee", WHOLE),
        ("Sofie", "Sophie", 8 / 11),
        ("Katherine", "Catherine", 16 / 18),
        ("", "Dana", 0.0),
        ("Dana", "", 0.0),
        ("...", "...", 0.0),
    ],
)
def test_known_scores(query: str, name: str, value: float) -> None:
    """Same words, all words found, near spellings (twice the common letters over all)."""
    assert score(query, name) == pytest.approx(value)


def test_a_near_spelling_never_reaches_a_word_match() -> None:
    """However long the name, one wrong letter stays below all words found."""
    assert CUTOFF < score("x" + "a" * 150, "y" + "a" * 150) < WHOLE


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("Dana Lee", ["Dana Lee"]),
        ("dana", ["Dana Lee", "Dana Kim"]),
        ("Kim", ["Dana Kim"]),
        ("Katherine Li", ["Catherine Li"]),
        ("Bob", []),
        ("Lee Kim", []),
        ("D", []),
        ("an", []),
        ("", []),
        ("Dana Lee Smith", []),
    ],
)
def test_one_winner_several_or_none(query: str, found: list[str]) -> None:
    """Part of a word is no match, an unknown further word is none, namesakes come together."""
    assert names(query, "Dana Lee", "Catherine Li", "Dana Kim", "Anders") == found


def test_the_best_come_first_and_equals_keep_their_order() -> None:
    """Sorting is by score alone, so the result does not depend on chance."""
    known = ["Katherina", "Ann Lee", "Catharina", "Katharine S", "Anders"]
    found = candidates("Katharina", known, lambda name: (name,))
    assert [item for _, item in found] == ["Katherina", "Catharina", "Katharine S"]
    assert [item for _, item in candidates("Katharina", known[::-1], lambda n: (n,))] == [
        *("Katharine S", "Catharina", "Katherina"),
    ]
    values = [value for value, _ in found]
    assert values == sorted(values, reverse=True)
    assert min(values) >= max(CUTOFF, values[0] - MARGIN)


def test_a_name_that_is_meant_exactly_wins_over_longer_ones() -> None:
    """A contact who is called Ann is no namesake of Ann Lee."""
    assert names("ann", "Ann Lee", "Ann", "Ann Kim") == ["Ann"]


def test_the_best_of_several_names_counts_and_no_name_never_matches() -> None:
    """Nicknames and addresses are names too."""
    people = {"Dana Lee": ("Dana Lee", "Dee"), "Nobody": ()}
    assert candidates("dee", people, lambda key: people[key]) == [(1.0, "Dana Lee")]


def test_a_long_query_against_many_names_is_answered_soon() -> None:
    """The search stops at the first word that matches nothing."""
    query = " ".join(f"w{number}" for number in range(1_500))
    known = [f"Person Number {number}" for number in range(200)]
    start = time.perf_counter()
    assert names(query, *known) == []
    assert time.perf_counter() - start < 5
