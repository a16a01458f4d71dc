"""Rewording requests: what is accepted, what is kept, what a stopped run loses."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from mlx_tinyagent.datasets.paraphrase import (
    MARK,
    ParaphraseReport,
    copied,
    paraphrase,
    refusal,
    tidy,
)
from mlx_tinyagent.datasets.record import Call, Example
from mlx_tinyagent.errors import InputError
from mlx_tinyagent.tools.catalog import TINYAGENT16

SMS = Example(
    id="1",
    query="text Noor Haddad that I am 10 minutes late",
    now="2025-03-14T09:30:00",
    tools=("get_phone_number", "send_sms"),
    plan=(
        Call(id=1, tool="get_phone_number", args=("Noor Haddad",)),
        Call(id=2, tool="send_sms", args=(["$1"], "I am 10 minutes late")),
    ),
    source="test",
    licence="Apache-2.0",
)
REFUSAL = Example(
    id="2", query="sing a song", tools=(), source="test", licence="Apache-2.0", kind="none_far"
)


@dataclass
class Scripted:
    """Answers by a function and counts."""

    answer: Callable[[str], str]
    asked: list[str] = field(default_factory=list)

    def rewrite(self, query: str) -> str:
        """Answer."""
        self.asked.append(query)
        return self.answer(query)


def run(
    rows: list[Example], rewriter: Scripted, folder: Path, share: float = 1.0
) -> tuple[list[Example], ParaphraseReport]:
    """Rewrite rows and return them with the report."""
    report = ParaphraseReport()
    found = paraphrase(
        rows,
        rewriter,
        TINYAGENT16,
        share=share,
        seed=0,
        answers=folder / "out.answers",
        report=report,
    )
    return list(found), report


def test_what_was_copied_is_the_words_of_arguments() -> None:
    """References are no words; a value that the request does not have was not copied."""
    assert copied(SMS) == ("Noor Haddad", "I am 10 minutes late")


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        ("please let Noor Haddad know by text: I am 10 minutes late", ""),
        ("PLEASE TEXT NOOR HADDAD: i am 10 minutes late", ""),  # case does not count
        ("please text Noor: I am 10 minutes late", "a copied value is gone"),
        ("please text Noor Haddad: I am 15 minutes late", "other numbers"),
        ("Text Noor Haddad that I am 10 minutes late!", "the same words"),
        ("", "empty or too long"),
        ("text Noor Haddad I am 10 minutes late " + "very " * 60, "empty or too long"),
        ("pay $ to Noor Haddad, I am 10 minutes late", "something was added"),
    ],
)
def test_a_wording_must_keep_what_the_plan_points_at(words: str, reason: str) -> None:
    """Each rule with the smallest example that breaks it."""
    assert refusal(SMS, words, TINYAGENT16) == reason


def test_rows_keep_order_plan_and_number(tmp_path: Path) -> None:
    """Refusals are not touched; an accepted row has new words, the old plan and a mark."""
    rewriter = Scripted(lambda _: 'Request: "tell Noor Haddad by text: I am 10 minutes late"')
    (first, second), report = run([SMS, REFUSAL], rewriter, tmp_path)
    assert first.query == "tell Noor Haddad by text: I am 10 minutes late"
    assert (first.plan, first.id, first.marks) == (SMS.plan, SMS.id, (MARK,))
    assert second == REFUSAL
    assert (report.rewritten, report.untried, rewriter.asked) == (1, 1, [SMS.query])


def test_a_wording_that_breaks_a_rule_leaves_the_row_as_it_was(tmp_path: Path) -> None:
    """It is counted with its reason."""
    (row,), report = run([SMS], Scripted(lambda _: "no"), tmp_path)
    assert row == SMS
    assert dict(report.kept) == {"other numbers": 1}


def test_a_stopped_run_asks_nothing_twice(tmp_path: Path) -> None:
    """Answers are kept line by line; a line cut in the middle is asked again."""
    first = Scripted(lambda query: f"hey {query}")
    run([SMS], first, tmp_path)
    answers = tmp_path / "out.answers"
    again = Scripted(lambda query: f"hey {query}")
    run([SMS], again, tmp_path)
    assert again.asked == []
    answers.write_bytes(answers.read_bytes()[:-5])
    run([SMS], again, tmp_path)
    assert again.asked == [SMS.query]


def test_a_foreign_answers_file_is_refused(tmp_path: Path) -> None:
    """With file and line."""
    (tmp_path / "out.answers").write_text('{"a": 1}\n')
    with pytest.raises(InputError, match=r"out\.answers:1: no answer of a paraphrase run"):
        run([SMS], Scripted(str), tmp_path)


def test_the_share_chooses_by_seed(tmp_path: Path) -> None:
    """Of 200 equal rows about the share is tried, the same ones every time."""
    rows = [dataclasses.replace(SMS, id=str(n)) for n in range(200)]
    _, report = run(rows, Scripted(str), tmp_path, share=0.3)
    tried = sum(report.kept.values())
    assert 40 <= tried <= 80
    assert tried + report.untried == 200


@pytest.mark.parametrize(
    ("said", "text"),
    [
        ("  hello\nthere  ", "hello there"),
        ("“hello”", "hello"),
        ('"a" and "b"', '"a" and "b"'),
        ("Paraphrase: hi\n\nI kept all names.", "hi"),
    ],
)
def test_an_answer_is_reduced_to_the_request(said: str, text: str) -> None:
    """Labels, quotes around the whole and explanations go."""
    assert tidy(said) == text
