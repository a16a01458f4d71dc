"""``data from-log``: approved requests become examples; what shows nothing right does not."""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from mlx_tinyagent.act.journal import LoggedRun, LoggedStep
from mlx_tinyagent.cli.main import cli
from mlx_tinyagent.datasets.from_log import LogReport, examples
from mlx_tinyagent.datasets.record import load_examples
from mlx_tinyagent.tools.catalog import TINYAGENT16

QUERY = "note that the boiler was checked"
MAP = {"id": 1, "tool": "maps_open_location", "args": ["Paris"]}
CALL = {"id": 1, "tool": "create_note", "args": ["boiler", "It was checked.", ""]}


def logged(query: str = QUERY, *calls: dict[str, Any], **step: Any) -> LoggedRun:
    """A run that was done, with the plan that was approved."""
    plan = list(calls) or [CALL]
    return LoggedRun(
        run=1,
        at="2026-03-02T08:00:00+00:00",
        summary=query,
        details={"request": query, "now": "2026-03-02T09:00:00.123456", "calls": plan},
        steps={1: LoggedStep(step=1, tool=plan[0]["tool"], key="k", **{"status": "ok", **step})},
        ended=True,
    )


def test_an_approved_request_is_an_example() -> None:
    """With the moment it was made at, the plan as approved, and all tools on offer."""
    report = LogReport()

    (example,) = examples([logged()], TINYAGENT16, report)

    assert (example.query, example.now) == (QUERY, "2026-03-02T09:00:00")
    assert [call.as_dict() for call in example.plan] == [CALL]
    assert (example.tools, example.kind) == (TINYAGENT16.names, "tool")
    assert (report.kept, report.left_out) == (1, {})


@pytest.mark.parametrize(
    ("run", "reason"),
    [
        (logged(undone=True), "undone"),
        (logged(status="failed"), "not done"),
        (logged(" "), "no request"),
        (logged(QUERY, {"id": 1, "tool": "heat", "args": []}), "other tools"),
        (logged(QUERY, {"id": 1, "tool": "create_note", "args": list("abcd")}), "plan: "),
        (logged("and to Rome", MAP), "says what the request does not"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_shows_nothing_right_is_left_out(run: LoggedRun, reason: str) -> None:
    """And counted by reason: a follow-up's words, for one, are not all in it."""
    report = LogReport()

    assert list(examples([run], TINYAGENT16, report)) == []
    ((found, count),) = report.left_out.items()
    assert found.startswith(reason)
    assert count == 1


def test_the_same_twice_is_one_example() -> None:
    """Capital letters make no difference."""
    report = LogReport()

    found = list(examples([logged(), logged(QUERY.title())], TINYAGENT16, report))

    assert len(found) == 1
    assert report.left_out == {"repeated": 1}


def test_the_command_writes_a_private_file(tmp_path: Path) -> None:
    """A plan given as text has no request; one that answers a request is in the file."""
    from mlx_tinyagent.act.executor import Callbacks, run
    from mlx_tinyagent.act.journal import Journal
    from mlx_tinyagent.config import paths
    from mlx_tinyagent.datasets.record import Call
    from mlx_tinyagent.plan.graph import from_calls
    from mlx_tinyagent.tools.backend import Host
    from mlx_tinyagent.tools.local import LocalBackend, user_store
    from mlx_tinyagent.tools.writer import PlainWriter

    with user_store(paths()) as store:
        for query in (QUERY, ""):
            host = Host(
                backend=LocalBackend(store),
                writer=PlainWriter(),
                request=query,
                now=datetime(2026, 3, 2, 9),
            )
            run(
                from_calls([CALL], TINYAGENT16),
                TINYAGENT16,
                host,
                Callbacks(approve=lambda _: True),
                journal=Journal(store),
            )
    out = tmp_path / "mine.jsonl"

    done = CliRunner().invoke(cli, ["data", "from-log", "--out", str(out)])

    assert done.exit_code == 0, done.output
    assert "left out: 1 runs, no request" in done.stderr
    assert out.stat().st_mode & 0o777 == 0o600
    (example,) = load_examples(out)
    assert example.plan == (Call(id=1, tool="create_note", args=tuple(CALL["args"])),)
    assert json.loads(out.read_text())["licence"] == "LicenseRef-private"
