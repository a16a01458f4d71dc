"""BM25: worked by hand, then on the tools."""

import json
import math
from pathlib import Path

import pytest

from mlx_tinyagent.errors import ConfigError
from mlx_tinyagent.retrieval.bm25 import BM25Config, BM25Index, BM25Retriever
from mlx_tinyagent.retrieval.words import stem, stems
from mlx_tinyagent.tools.catalog import TINYAGENT16

SHARED = Path(__file__).resolve().parents[2] / "../shared/data/tinyagent"


def test_scores_are_the_formula():
    """Three texts, worked by hand: idf ln(1 + (N - n + .5) / (n + .5)), length normed."""
    index = BM25Index({"a": "cat cat dog", "b": "dog", "c": "fish bird"}, k1=1.2, b=0.75)
    mean = 2.0
    cat = math.log(1 + 2.5 / 1.5) * 2 * 2.2 / (2 + 1.2 * (0.25 + 0.75 * 3 / mean))
    dog = math.log(1 + 1.5 / 2.5) * 1 * 2.2 / (1 + 1.2 * (0.25 + 0.75 * 3 / mean))
    lone = math.log(1 + 1.5 / 2.5) * 1 * 2.2 / (1 + 1.2 * (0.25 + 0.75 * 1 / mean))

    scores = index.scores("Dog, cat! Dog?")

    assert scores == {"a": pytest.approx(cat + dog), "b": pytest.approx(lone), "c": 0.0}


@pytest.mark.parametrize(
    ("query", "tool"),
    [
        ("remind me to water the plants", "create_reminder"),
        ("add milk to the end of my shopping note", "append_note_content"),
        ("reply to the selected e-mail", "reply_to_email"),
        ("directions to the airport", "maps_show_directions"),
        ("set up a zoom meeting", "get_zoom_meeting_link"),
    ],
)
def test_requests_find_their_tool_first(query, tool):
    """Plain wordings rank the tool that serves them at the top."""
    scores = BM25Retriever().select(query, TINYAGENT16).scores

    assert max(scores, key=lambda name: scores[name]) == tool


def test_only_the_best_are_kept_and_closed():
    """``top`` bounds what the scores choose; producers come on top."""
    found = BM25Retriever(BM25Config(top=1)).select("text message to people", TINYAGENT16)

    assert dict(found.reasons) == {"get_phone_number": "producer", "send_sms": "score"}


def test_weak_tools_fall_below_the_floor():
    """A floor of the best score itself keeps the best alone."""
    query = "open the note about reminders"
    loose = BM25Retriever(BM25Config(top=16, floor=0.0)).select(query, TINYAGENT16)
    tight = BM25Retriever(BM25Config(top=16, floor=1.0)).select(query, TINYAGENT16)

    assert set(tight.reasons) < set(loose.reasons)
    assert [name for name, why in tight.reasons.items() if why == "score"] == [
        max(tight.scores, key=lambda name: tight.scores[name])
    ]


@pytest.mark.parametrize("query", ["", "!!!", "qwertz", "the of and", "\x00", "给王芳"])
def test_no_word_in_common_keeps_all_and_abstains(query):
    """Words alone cannot tell a far miss from an unusual wording."""
    found = BM25Retriever().select(query, TINYAGENT16)

    assert found.abstain
    assert found.tools.names == TINYAGENT16.names


def test_the_same_request_gets_the_same_tools():
    """Deterministic, and independent of what was asked before."""
    first, second = BM25Retriever(), BM25Retriever()
    second.select("something else about notes", TINYAGENT16)
    second.select("mail", TINYAGENT16.subset(TINYAGENT16.names[:12]))

    query = "mail the report to Ann and text Bo"
    assert first.select(query, TINYAGENT16).scores == second.select(query, TINYAGENT16).scores


@pytest.mark.parametrize(
    "options", [{"top": 0}, {"floor": 1.5}, {"floor": -0.1}, {"k1": -1.0}, {"b": 2.0}]
)
def test_senseless_settings_are_refused(options):
    """The message carries the values."""
    with pytest.raises(ConfigError, match=str(next(iter(options.values())))):
        BM25Config(**options)


def test_stems_meet():
    """Common endings fall; short words stay."""
    assert stem("inviting") == stem("invites") == stem("invited")
    assert stem("summaries") == stem("summary")
    assert (stem("sms"), stem("is")) == ("sms", "is")
    assert stems("Please send the Émails") == ["send", "email"]


@pytest.mark.shared
@pytest.mark.slow
def test_default_top_is_tuned_on_the_training_rows():
    """Eight is the smallest ``top`` that holds every needed tool for 90 % of them."""
    if not SHARED.is_dir():
        pytest.skip("the shared TinyAgent rows are not beside the checkout")
    rows = [json.loads(line) for line in (SHARED / "train.jsonl").read_text().splitlines()]

    def complete(top):
        retriever = BM25Retriever(BM25Config(top=top))
        return sum(
            set(row["tools"]) <= set(retriever.select(row["question"], TINYAGENT16).tools.names)
            for row in rows
        ) / len(rows)

    assert complete(BM25Config().top - 1) < 0.9 <= complete(BM25Config().top) + 0.001
