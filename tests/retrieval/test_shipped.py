"""The classifier in the package: small, calibrated for the tools as declared, and of use."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from mlx_tinyagent.retrieval.deberta import SHIPPED, DebertaRetriever
from mlx_tinyagent.retrieval.groups import GROUPS
from mlx_tinyagent.tools.base import Span, ToolSet, tool
from mlx_tinyagent.tools.catalog import TINYAGENT16

ROOT = Path(__file__).resolve().parents[2]
SHARED = ROOT / "../shared/data"
AUDITED = ROOT / "data" / "audited"
MEGABYTE = 1_000_000

pytestmark = pytest.mark.skipif(
    not (SHIPPED / "config.json").is_file(), reason="no classifier is in the package"
)


def held_out(text: str) -> bool:
    """Whether a command is in the fifth that is not trained on."""
    return int(fingerprint(text)[:8], 16) % 5 == 0


def fingerprint(text: str) -> str:
    """The hash of a text, case and blanks aside."""
    return hashlib.sha256(" ".join(text.lower().split()).encode()).hexdigest()


@pytest.fixture(scope="module")
def retriever() -> DebertaRetriever:
    """The retriever that serves by default."""
    return DebertaRetriever()


def test_it_is_small_and_says_what_it_is() -> None:
    """At most 12 MB; the card names data and licenses."""
    assert sum(path.stat().st_size for path in SHIPPED.iterdir()) <= 12 * MEGABYTE
    card = (SHIPPED / "README.md").read_text()
    for name in ("SLURP", "NLU-Evaluation-Data", "CLINC150", "botframework", "TinyAgent"):
        assert name in card


def test_its_promise_holds_for_the_tools_as_declared(retriever: DebertaRetriever) -> None:
    """Weights and declarations are the calibrated ones, and the data supports both promises."""
    calibration = retriever.calibration
    assert calibration is not None
    assert retriever.scorer.labels == TINYAGENT16.names
    assert calibration.void(retriever.scorer.fingerprint, TINYAGENT16) is None
    for group in GROUPS:
        assert calibration.threshold(group).promises
    assert calibration.no_tool().promises


@pytest.mark.parametrize(
    ("query", "needed"),
    [
        ("text Ana that the train is late", {"send_sms", "get_phone_number"}),
        ("remind me to water the plants tomorrow at 9", {"create_reminder"}),
        ("how do I get to the airport from here", {"maps_show_directions"}),
        ("open my note about the trip", {"open_note"}),
        (
            "Summarize the file report.pdf, send the summary to Leo by email and create a "
            "calendar event for tomorrow at 3pm to discuss it with him",
            {"summarize_pdf", "open_and_get_file_path", "compose_new_email",
             "get_email_address", "create_calendar_event"},
        ),
    ],
)  # fmt: skip
def test_plain_requests_get_their_tools(
    retriever: DebertaRetriever, query: str, needed: set[str]
) -> None:
    """And not all of the others."""
    found = retriever.select(query, TINYAGENT16)

    assert needed <= set(found.tools.names)
    assert len(found.tools) < 16
    assert not found.abstain


@pytest.mark.shared
def test_commands_of_people_get_their_tools(retriever: DebertaRetriever) -> None:
    """A sample of the commands that were held out: few tools, nearly all complete."""
    path = SHARED / "human_tool_silver/dev_train.jsonl"
    if not path.is_file():
        pytest.skip("the shared data sets are not beside the checkout")
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    rows = [row for row in rows if row["kind"] == "tool" and held_out(row["text"])][:150]
    offered = [set(retriever.select(row["text"], TINYAGENT16).tools.names) for row in rows]

    complete = sum(
        any(set(group) <= names for group in row["any_of"])
        for row, names in zip(rows, offered, strict=True)
    )
    assert complete >= 0.9 * len(rows)
    assert sum(map(len, offered)) <= 5 * len(rows)


@pytest.mark.shared
def test_compound_requests_get_what_a_reader_says_they_need(retriever: DebertaRetriever) -> None:
    """TinyAgent's public test rows, labels that were read: 97 % complete with 7 of 16 tools."""
    path = SHARED / "tinyagent/test_public.jsonl"
    if not path.is_file():
        pytest.skip("the shared data sets are not beside the checkout")
    queries = [json.loads(line)["question"] for line in path.read_text().splitlines()]
    read = map(json.loads, (AUDITED / "compound.jsonl").read_text().splitlines())
    needed = {row["row"]: row["any_of"] for row in read}
    offered = [set(retriever.select(query, TINYAGENT16).tools.names) for query in queries]

    complete = sum(
        any(set(group) <= names for group in needed[fingerprint(query)[:16]])
        for query, names in zip(queries, offered, strict=True)
    )
    assert complete >= 0.97 * len(queries)
    assert sum(map(len, offered)) <= 7 * len(queries)


@pytest.mark.parametrize(
    ("query", "needed"),
    [
        ("share my location with Amy", {"send_sms", "get_phone_number"}),
        ("how long is the drive to the airport", {"maps_show_directions"}),
        ("what is on my shopping list", {"open_note"}),
    ],
)
def test_what_a_tool_serves_in_another_way_is_no_near_miss(
    retriever: DebertaRetriever, query: str, needed: set[str]
) -> None:
    """A message can say where one is, Maps knows how long it takes, a list may be a note."""
    found = retriever.select(query, TINYAGENT16)
    assert needed <= set(found.tools.names)
    assert not found.abstain


def test_it_is_sure_only_where_it_knows_every_tool(retriever: DebertaRetriever) -> None:
    """A tool that it has never seen may be what a request wants that the others do not serve."""

    @tool(effect="read", returns="text")
    def explain(topic: Span) -> str:
        """Explain why something is as it is."""
        return topic

    query = "why is the sky blue"
    alone = retriever.select(query, TINYAGENT16)
    with_another = retriever.select(query, ToolSet("more", [*TINYAGENT16, explain]))
    assert (alone.abstain, alone.none) == (True, True)
    assert (with_another.abstain, with_another.none) == (True, False)
    assert not retriever.select("text Ana that the train is late", TINYAGENT16).none
