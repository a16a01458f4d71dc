"""What holds of the date resolver for any text and any moment."""

from __future__ import annotations

import time
from datetime import datetime, timedelta
from itertools import pairwise

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mlx_tinyagent.act.dates import covering_span, describe, find, resolve

NOW = datetime(2024, 5, 15, 9)
MOMENTS = st.datetimes(datetime(1950, 1, 1), datetime(2150, 1, 1)).map(
    lambda d: d.replace(microsecond=0)
)
VOCABULARY = """
at on in the from to between and of next last this a an half past quarter for until - , . : / @ am
pm 1 2 3 12 15 29 30 31 2024 2025 first 2nd third twenty friday monday wed sun may march january
february today tomorrow tonight morning evening night noon midnight day days week weeks month year
hour hours minutes ago now later before after end weekend christmas easter q1 ' " meeting with Bob
9999 99999999 decades
"""
WORDS = st.sampled_from(VOCABULARY.split())
# No deadline: the machine may be busy. The same examples every time.
STEADY = settings(deadline=None, derandomize=True)
PHRASES = st.lists(WORDS, max_size=14).map(" ".join)


@STEADY
@given(MOMENTS, MOMENTS)
def test_iso_text_is_read_back(moment, now):
    """``isoformat`` with either separator resolves to the moment itself, whatever now is."""
    for text in (moment.isoformat(), moment.isoformat(" "), f"on {moment.isoformat()}."):
        found = resolve(text, now)
        assert found is not None
        assert (found.kind, found.start, found.alternatives) == ("datetime", moment, ())

    day = resolve(moment.date().isoformat(), now)
    assert day is not None
    assert (day.kind, day.start.date()) == ("date", moment.date())


@STEADY
@given(MOMENTS, MOMENTS)
def test_described_moments_are_read_back(moment, now):
    """The text shown to the user means the moment it was made from."""
    text = describe(moment, now)
    found = resolve(text.split(", ", 1)[1] if text[0].islower() else text, now)

    assert found is not None
    assert found.start == moment


@STEADY
@given(st.text(), MOMENTS)
@example("\u0660\u0661:\u0663\u0660 \u00b2 \u0130 9" * 3, NOW)
@example("9" * 5000, NOW)
@example("12/31/9999 at 11pm for 3 hours", NOW)
@example("friday from 10pm to 2am 12/31/9999", NOW)
def test_any_text_is_answered(text, now):
    """No exception, spans inside the text, results in order."""
    found = find(text, now)
    resolve(text, now)

    assert [text[slice(*r.span)] for r in found] == [r.text for r in found]
    assert all(a.span[1] <= b.span[0] for a, b in pairwise(found))


@settings(STEADY, max_examples=400)
@given(PHRASES, st.datetimes())
def test_any_jumble_of_date_words_is_answered(text, now):
    """No exception even at the ends of the calendar; what has an end ends after its start."""
    for found in (*find(text, now), resolve(text, now)):
        assert found is None or found.end is None or found.end >= found.start


@STEADY
@given(PHRASES, MOMENTS)
def test_white_space_and_case_mean_nothing(text, now):
    """Upper case, tabs and doubled blanks change neither start, end nor kind."""
    plain = resolve(text, now)
    changed = resolve("  " + text.upper().replace(" ", " \t\n ") + " ", now)

    assert (plain is None) == (changed is None)
    if plain and changed:
        assert (plain.kind, plain.start, plain.end) == (changed.kind, changed.start, changed.end)


@STEADY
@given(PHRASES)
def test_the_wall_clock_is_never_read(text):
    """A clock that moves between two readings changes nothing: only ``now`` counts."""
    with pytest.MonkeyPatch.context() as patch:
        first = resolve(text, NOW)
        patch.setattr(time, "time", lambda: 4e9)
        patch.setattr(time, "localtime", lambda *_: time.gmtime(4_000_000_000))
        assert resolve(text, NOW) == first


@STEADY
@given(st.integers(0, 6), st.integers(0, 5000))
def test_a_bare_weekday_is_one_to_seven_days_ahead(weekday, days):
    """From any day, the next such day, never today."""
    now = NOW + timedelta(days=days)
    name = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")[weekday]
    found = resolve(name, now)

    assert found is not None
    assert found.start.weekday() == weekday
    assert 1 <= (found.start.date() - now.date()).days <= 7


@STEADY
@given(st.integers(1, 12), st.integers(0, 59), st.sampled_from(("am", "pm")), MOMENTS)
def test_a_time_is_the_next_such_time(hour, minute, half, now):
    """Within 24 hours, not before now, with the clock that was named."""
    found = resolve(f"{hour}:{minute:02}{half}", now)

    assert found is not None
    assert (found.start.hour, found.start.minute) == (hour % 12 + 12 * (half == "pm"), minute)
    assert timedelta(0) <= found.start - now < timedelta(days=1)


@STEADY
@given(PHRASES)
def test_the_covering_piece_lies_in_the_text(text):
    """The piece is a substring and is empty only where nothing is resolved."""
    piece = covering_span(text, NOW)

    assert (piece is None) == (resolve(text, NOW) is None)
    assert piece is None or piece in text


@pytest.mark.parametrize(
    "piece",
    [
        "5 to ", "3 ", "1/", "9:", "friday ", "the ", "one ", "2 days after ", "next ", "a half ",
        "2 hours and ", "between 3 and ", "half past ", '"tomorrow" ', "' ", "week of ", "end of ",
        "two weeks from ", "at ", "2h", "x", " ", "\u3000", "the meeting went on in the room ",
        "half 6 ", "friday week ", "a week ", "the 3 at ", "3rd from ", "fri 7.15 ",
    ],
)  # fmt: skip
def test_hostile_text_takes_no_time(piece):
    """100,000 characters of nothing but beginnings of dates are answered at once."""
    text = piece * (100_000 // len(piece))
    started = time.process_time()  # of this process alone: the machine may be busy
    resolve(text, NOW)

    assert time.process_time() - started < 2
