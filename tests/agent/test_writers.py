"""Sub-agents that write: what they keep to, and what they give up for the rules' text."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pytest

from mlx_tinyagent.agent.writers.book import DraftBook
from mlx_tinyagent.agent.writers.grounded import repeats, says, ungrounded
from mlx_tinyagent.agent.writers.model import CHUNK_WORDS, MAX_CHUNKS, POINTS, ModelWriter
from mlx_tinyagent.tools.backend import Mail
from mlx_tinyagent.tools.intent import clauses, intent
from mlx_tinyagent.tools.writer import PlainWriter

TWO = "Email Dana that the budget is approved and email Leo that the party starts at eight"
PLAIN = PlainWriter()


class Model:
    """Writes what it is told to, and keeps what it was asked."""

    def __init__(self, *texts: str) -> None:
        self.asked: list[str] = []
        self._texts = list(texts)
        self._pieces: list[str] = []
        frame = SimpleNamespace(system_open="<s>", user_open="<u>", assistant_open="<a>")
        self.model: Any = SimpleNamespace(
            tokenizer=SimpleNamespace(chat_frame=lambda: frame, encode=self._encode)
        )

    def _encode(self, text: str, *, special: bool = True) -> list[int]:
        self._pieces.append(text)
        return [len(text)]

    def complete(self, ids: Sequence[int], *, max_tokens: int) -> str:
        """Return the next text; the last one again and again."""
        self.asked.append("".join(self._pieces))
        self._pieces.clear()
        return self._texts.pop(0) if len(self._texts) > 1 else self._texts[0]


def test_a_request_is_split_into_its_commands() -> None:
    """At words that begin one, not at every "and"."""
    assert clauses(TWO) == [
        "Email Dana that the budget is approved",
        "email Leo that the party starts at eight",
    ]
    assert clauses("Email Dana and Leo about milk and eggs") == [
        "Email Dana and Leo about milk and eggs"
    ]
    assert clauses("") == [""]


def test_each_mail_of_a_plan_has_its_own_intent() -> None:
    """By whom it is for; by its subject where that tells them apart; else the whole request."""
    assert intent(TWO, names="Leo").startswith("email Leo")
    assert intent(TWO, about=("Budget",)).startswith("Email Dana")
    assert intent(TWO, names="Zoe") == TWO
    assert "approved" in PLAIN.mail(request=TWO, subject="", context="", greeting="Dana")
    leo = PLAIN.mail(request=TWO, subject="", context="", greeting="Leo")
    assert "party" in leo
    assert "approved" not in leo


@pytest.mark.parametrize(
    ("text", "loose"),
    [
        ("The budget is approved.", []),
        ("See you at 8.", ["8"]),
        ("Ask Bob about it.", ["Bob"]),
        ("I wrote to Dana.", []),
        ("See https://x.example now", ["https://x.example"]),
        ("Best, [my name]", ["[my name]"]),
        ("See you on Friday.", ["Friday", "Friday"]),
    ],
)
def test_what_nobody_gave_is_found(text: str, loose: list[str]) -> None:
    """Names, numbers, links, days and blanks to fill in."""
    assert ungrounded(text, ("Email Dana that the budget is approved",)) == loose


def test_what_was_asked_for_must_be_said_once() -> None:
    """Most of its words; no sentence twice."""
    assert says("The budget has been approved.", "the budget is approved")
    assert not says("Thank you for your help.", "the budget is approved")
    assert repeats("I am glad to hear. Yes. I am glad to hear.")
    assert not repeats("I am glad. I am late.")


def test_a_good_mail_of_the_model_is_used() -> None:
    """In the frame of the rules; its own greeting and closing are dropped."""
    model = Model("Hi Dana,\n\nThe budget is approved.\n\nBest regards,\n[Your Name]")
    written = ModelWriter(model).mail(request=TWO, subject="Budget", context="", greeting="Dana")
    assert written == "Hi Dana,\n\nThe budget is approved.\n\nBest regards"
    assert "party" not in model.asked[0]


@pytest.mark.parametrize(
    "said",
    [
        "Thank you for sending the budget. I am glad you are well.",
        "The budget of $40,000 is approved.",
        "The budget is approved. The budget is approved.",
        "",
        "the budget is app",
    ],
)
def test_a_bad_one_gives_way_to_the_rules(said: str) -> None:
    """Invented, off the point, repeated, empty, cut."""
    given = {"request": TWO, "subject": "", "context": "", "greeting": "Dana"}
    assert ModelWriter(Model(said)).mail(**given) == PLAIN.mail(**given)


def test_what_a_mail_must_contain_is_in_it_word_for_word() -> None:
    """By code: no model can lose a link."""
    link = "https://meet.example/x-1"
    written = ModelWriter(Model("The budget is approved.")).mail(
        request=TWO, subject="", context=link, greeting="Dana"
    )
    assert link in written
    assert "approved" in written


def test_the_users_own_words_are_left_alone() -> None:
    """A text that stands in the request needs no model."""
    model = Model("nonsense")
    written = ModelWriter(model).mail(
        request="email Dana: see you at noon", subject="", context="see you at noon", greeting=""
    )
    assert "see you at noon" in written
    assert model.asked == []


def test_a_reply_reads_the_mail_and_a_new_mail_does_not() -> None:
    """Text of others is asked about only where it is answered."""
    mail = Mail(
        id=1, sender="a@x.example", sender_name="A", subject="Lunch", body="SECRET", received=""
    )
    model = Model("I agree.")
    writer = ModelWriter(model, selected=lambda: mail)
    writer.mail(request="reply that I agree", subject="Lunch", context="", greeting="A")
    writer.mail(request="email Leo that I agree", subject="Other", context="", greeting="Leo")
    assert "SECRET" in model.asked[0]
    assert "SECRET" not in model.asked[1]


def test_a_note_says_its_content_word_for_word() -> None:
    """Without content the model writes, if it keeps to the request."""
    writer = ModelWriter(Model("- tent\n- rope."))
    assert writer.note(request="x", name="n", content="tent\nrope") == "tent\nrope"
    assert writer.note(request="note saying that tent and rope", name="Pack", content="") == (
        "- tent\n- rope."
    )
    given = {"request": "note saying that tent", "name": "Pack", "content": ""}
    assert ModelWriter(Model("Call Bob.")).note(**given) == PLAIN.note(**given)


def test_a_long_document_is_read_in_parts() -> None:
    """Each part once, few sentences in the end, none that its part does not have."""
    sentences = [f"Point {number} says that item {number} costs money." for number in range(300)]
    model = Model("Bob invented this.")
    summary = ModelWriter(model).summary(text=" ".join(sentences))
    assert 1 < len(model.asked) <= MAX_CHUNKS + 1
    assert all(len(asked.split()) < CHUNK_WORDS + 60 for asked in model.asked)
    told = [part + "." for part in summary.rstrip(".").split(". ")]
    assert len(told) <= POINTS
    assert all(part in sentences for part in told)


def test_a_good_point_of_the_model_is_used() -> None:
    """One sentence for each part."""
    text = "The lake is cold in spring. " * 3 + "Nobody swims there before june, says the guide."
    assert ModelWriter(Model("The lake is cold. More.")).summary(text=text) == "The lake is cold."


def test_a_draft_is_written_once_and_can_be_written_otherwise() -> None:
    """What was shown is what is used, edited or not."""
    model = Model("The budget is approved.", "Something else entirely.")
    book = DraftBook(ModelWriter(model))
    given = {"request": TWO, "subject": "", "context": "", "greeting": "Dana"}
    first = book.mail(**given)
    assert book.mail(**given) == first
    assert len(model.asked) == 1
    assert book.within(f"{first}\n\n-------- Forwarded --------") == first
    assert book.within("other") is None
    book.write_instead(first, "My own words.")
    assert book.mail(**given) == "My own words."
    book.clear()
    assert book.mail(**given) != "My own words."
