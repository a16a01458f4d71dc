"""What every retriever does with the tools it chose."""

import subprocess
import sys

import pytest

from mlx_tinyagent.errors import UsageError
from mlx_tinyagent.retrieval import AllTools
from mlx_tinyagent.retrieval.base import SMALL_SET, keep
from mlx_tinyagent.tools.catalog import TINYAGENT16


def kept(chosen, tools=TINYAGENT16, **options):
    """Keep names whose scores do not matter."""
    return keep(tools, {}, chosen=chosen, abstain=False, **options)


def test_producers_come_along():
    """A text needs numbers, a summary needs a path; the reasons say so."""
    found = kept(["send_sms", "summarize_pdf"])

    assert dict(found.reasons) == {
        "get_phone_number": "producer",
        "open_and_get_file_path": "producer",
        "summarize_pdf": "score",
        "send_sms": "score",
    }
    assert found.tools.names == tuple(found.reasons)


def test_small_sets_are_offered_whole():
    """Below ten tools nothing is filtered; from ten on it is."""
    nine = TINYAGENT16.subset(TINYAGENT16.names[: SMALL_SET - 1])
    ten = TINYAGENT16.subset(TINYAGENT16.names[:SMALL_SET])

    small = kept(["maps_open_location"], nine)
    assert small.tools.names == nine.names
    assert small.reasons["maps_open_location"] == "score"
    assert small.reasons["create_calendar_event"] == "small-set"
    assert kept(["maps_open_location"], ten).tools.names == ("maps_open_location",)


def test_some_tools_are_always_offered():
    """Whatever the scores say."""
    found = kept([], always=["open_note"])

    assert dict(found.reasons) == {"open_note": "always"}


def test_nothing_chosen_is_nothing_offered():
    """An abstention leaves no tool."""
    assert kept([]).tools.names == ()


def test_unknown_names_are_refused():
    """The message offers near names."""
    with pytest.raises(UsageError, match="send_sms"):
        kept(["send_smss"])


def test_all_tools_offers_all():
    """The baseline without retrieval."""
    found = AllTools().select("anything", TINYAGENT16)

    assert found.tools.names == TINYAGENT16.names
    assert (found.abstain, set(found.scores.values())) == (False, {1.0})


def test_the_package_loads_without_numpy():
    """Importing the protocol and BM25 costs no array library."""
    code = (
        "import sys, mlx_tinyagent.retrieval, mlx_tinyagent.retrieval.bm25; "
        "sys.exit('numpy' in sys.modules or 'mlx' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
