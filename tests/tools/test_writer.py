"""The plain writer: everything it writes comes from what it was given."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlx_tinyagent.tools.backend import Writer
from mlx_tinyagent.tools.local.world import world
from mlx_tinyagent.tools.match import fold
from mlx_tinyagent.tools.writer import SUMMARY_SENTENCES, PlainWriter

WRITER: Writer = PlainWriter()


def body(request: str, *, subject: str = "", context: str = "") -> str:
    """Return what stands between greeting and closing."""
    text = WRITER.mail(request=request, subject=subject, context=context, greeting="Dana")
    opening, *middle, closing = text.split("\n\n")
    assert (opening, closing) == ("Hi Dana,", "Best regards")
    return "\n\n".join(middle)


@pytest.mark.parametrize(
    ("request_", "said"),
    [
        ("Email Dana about the budget review and attach Budget.xlsx", "About the budget review."),
        (
            "Send an email to Dana telling him that I will be late on Friday and create a "
            "reminder to call him",
            "I will be late on Friday.",
        ),
        ("Reply saying that Thursday works for me", "That Thursday works for me."),
        ("Reply to this, saying thanks a lot!", "Thanks a lot."),
        ("email Dana about the budget and tell her i can't come", "I can't come."),
        ("email Dana about the budget and say we need more", "We need more."),
        ("Email Dana asking her if 12:30 is fine, then open the map", "If 12:30 is fine."),
        ("Email Dana and ask her to send the report by Monday", "To send the report by Monday."),
        ("Let Dana know the forms are ready. Open the notes.", "The forms are ready."),
        ("Write to Dana regarding the agenda, and set a reminder", "Regarding the agenda."),
        ('Mail Dana with the text "see you at 5"', "See you at 5."),
        ("Write to Dana", ""),
    ],
)
def test_a_mail_says_what_the_request_says(request_: str, said: str) -> None:
    """Without context the body is a span of the request, up to the next command."""
    assert body(request_) == said


def test_context_goes_before_the_request() -> None:
    """A context is taken word for word."""
    assert body("Email Dana about lunch", context="Line 1\n\nLine 2 ") == "Line 1\n\nLine 2"


def test_a_subject_is_the_last_resort() -> None:
    """With nothing else to say, the subject is said; it is not repeated as content."""
    assert body("Write to Dana", subject="Budget") == "Budget."
    assert body("Email Dana about Budget", subject="Budget") == "Budget."


def test_nobody_is_greeted_by_a_made_up_name() -> None:
    """An unknown name gives a plain greeting."""
    text = WRITER.mail(request="", subject="", context="Hi", greeting="")
    assert text.startswith("Hello,")


def test_a_note_is_its_content() -> None:
    """The content is kept; without it the request's own words, without those nothing."""
    assert WRITER.note(request="x", name="A", content=" - one\n- two\n") == "- one\n- two"
    assert (
        WRITER.note(request='Note A with the content "buy tea"', name="A", content="") == "Buy tea."
    )
    assert WRITER.note(request="Create a note called A", name="A", content="") == ""


@settings(max_examples=100, deadline=None, derandomize=True)
@given(request_=st.text(max_size=200), subject=st.text(max_size=30), context=st.text(max_size=60))
def test_no_word_is_invented(request_: str, subject: str, context: str) -> None:
    """Every word of a body is a word of what was given."""
    text = body(request_, subject=subject, context=context)
    given_words = set(f"{fold(request_)} {fold(subject)} {fold(context)}".split())
    assert set(fold(text).split()) <= given_words


@pytest.mark.parametrize(
    "item", [i for i in world()["files"] if i["path"].endswith(".pdf")], ids=lambda i: i["path"]
)
def test_a_summary_is_a_few_of_the_documents_sentences(item: dict[str, list[str]]) -> None:
    """Whole sentences, in order, without headings, and much shorter than the document."""
    text = "\n".join(item["text"])
    summary = WRITER.summary(text=text)
    plain = " ".join(text.split())
    sentences = re.split(r"(?<=\.)\s+(?=[A-Z])", summary)
    places = [plain.find(sentence) for sentence in sentences]
    assert -1 not in places
    assert places == sorted(places)
    assert 3 <= len(sentences) <= SUMMARY_SENTENCES
    assert item["text"][0] not in summary
    assert len(summary) < len(plain) * 0.8


def test_the_central_sentences_win() -> None:
    """A sentence that shares nothing with the others is left out."""
    theme = [f"The harbor bridge opens at {hour} for tall ships on the river." for hour in range(6)]
    odd = "Purple elephants juggle quietly under seventeen umbrellas."
    assert odd not in WRITER.summary(text=" ".join([*theme[:3], odd, *theme[3:]]))


@pytest.mark.parametrize(
    ("text", "summary"),
    [
        ("", ""),
        (" \n\n", ""),
        ("One line", "One line"),
        ("Dr. Lee met Mr. Ito. They spoke.", "Dr. Lee met Mr. Ito. They spoke."),
        ("第一句。第二句。", "第一句。 第二句。"),
        ("- a\n- b", "- a - b"),
    ],
)
def test_short_documents_are_kept(text: str, summary: str) -> None:
    """Up to five sentences are the whole summary; layout blanks do not count."""
    assert WRITER.summary(text=text) == summary


@pytest.mark.parametrize(
    "text", ["and " * 20_000, "say " * 20_000, '"' * 80_000, "ask a a " * 9_000]
)
def test_long_requests_take_no_time(text: str) -> None:
    """Hostile lengths end; a timeout of the test run would tell."""
    assert len(WRITER.mail(request=text, subject="", context="", greeting="")) < 5_000
    assert len(WRITER.summary(text=text)) <= len(text)
