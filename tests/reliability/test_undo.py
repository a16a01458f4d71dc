"""G14: whatever was done, in whatever order, undoing it leaves the store as it was."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from mlx_tinyagent.act import recovery
from mlx_tinyagent.act.executor import Callbacks, run
from mlx_tinyagent.act.journal import Journal
from mlx_tinyagent.errors import ToolError
from mlx_tinyagent.plan.graph import parse
from mlx_tinyagent.tools.backend import Host
from mlx_tinyagent.tools.base import literal
from mlx_tinyagent.tools.catalog import TINYAGENT16
from mlx_tinyagent.tools.local import LocalBackend, content_hash, memory_world
from mlx_tinyagent.tools.writer import PlainWriter

NOW = datetime(2026, 3, 2, 9, 0)
WORDS = st.sampled_from(("Ideas", "Ideen \u2028", 'a "quote"', "\0 nul", "😀 list", "x" * 500))
FOLDERS = st.sampled_from(("", "Work", "New folder", "Another"))
STEPS: list[Callable[[str, str], str]] = [
    lambda word, folder: f"create_note({literal(word)}, {literal(word * 2)}, {literal(folder)})",
    lambda word, folder: f'append_note_content("Shopping List", {literal(word)})',
    lambda word, folder: f'create_reminder({literal(word)}, "tomorrow", "", {literal(folder)})',
    lambda word, folder: (
        f'create_calendar_event({literal(word)}, "friday at 3", "", "", ["Sarah"])'
    ),
    lambda word, folder: f"compose_new_email(['Sarah', 'Julia'], [], {literal(word)})",
    lambda word, folder: f'send_sms(["Sarah"], {literal(word)})',
    lambda word, folder: f'get_zoom_meeting_link({literal(word)}, "friday at 3", 30, ["Sarah"])',
    lambda word, folder: 'open_and_get_file_path("Lease Agreement")',
    lambda word, folder: "maps_open_location('Rome')",
    lambda word, folder: f"reply_to_email([], {literal(word)})",
]
PLANS = st.lists(
    st.tuples(st.sampled_from(range(len(STEPS))), WORDS, FOLDERS), min_size=1, max_size=3
)


class Undoing(RuleBasedStateMachine):
    """Does plans and takes them back, whole or step by step, in any order."""

    done = 0

    def __init__(self) -> None:
        super().__init__()
        self.store = memory_world()
        self.journal = Journal(self.store)
        self.backend = LocalBackend(self.store)
        self.start = content_hash(self.store)

    @rule(steps=PLANS)
    def do(self, steps: list[tuple[int, str, str]]) -> None:
        """Run a plan; nothing of it fails."""
        lines = [f"{n}. {STEPS[k](word, folder)}" for n, (k, word, folder) in enumerate(steps, 1)]
        plan = parse("\n".join([*lines, f"{len(lines) + 1}. join()"]), TINYAGENT16)
        host = Host(backend=self.backend, writer=PlainWriter(), request="", now=NOW)
        results = run(
            plan, TINYAGENT16, host, Callbacks(approve=lambda shown: True), journal=self.journal
        )
        assert all(outcome.result.status == "ok" for outcome in results), results
        Undoing.done += len(lines)

    @rule()
    def undo_last(self) -> None:
        """Take back the last run that still stands."""
        if undoing := recovery.choose_undo(self.journal, None):
            assert recovery.undo(self.journal, self.backend, undoing) == []

    @rule(number=st.integers(0, 10), step=st.integers(0, 3))
    def undo_any(self, number: int, step: int) -> None:
        """Take back any run or step: it works, or nothing changes and the reason is said."""
        runs = self.journal.runs()
        if not runs:
            return
        chosen = runs[number % len(runs)]
        which = str(chosen.run)
        if step in chosen.steps:
            which += f".{step}"
        undoing = recovery.choose_undo(self.journal, which)
        if undoing is None:
            return
        before = content_hash(self.store)
        try:
            recovery.undo(self.journal, self.backend, undoing)
        except ToolError:
            assert content_hash(self.store) == before

    @invariant()
    def the_chain_holds(self) -> None:
        """Every entry is what was written."""
        self.journal.verify()

    def teardown(self) -> None:
        """Take back all that still stands; then all is as it was, and undoing does nothing."""
        while undoing := recovery.choose_undo(self.journal, None):
            recovery.undo(self.journal, self.backend, undoing)
        assert content_hash(self.store) == self.start
        assert recovery.choose_undo(self.journal, None) is None
        self.store.close()


@pytest.mark.timeout(900)
def test_undoing_everything_leaves_the_store_as_it_was(
    cases: Callable[[str, int], int], figure: Callable[[str, str], None]
) -> None:
    """Random plans and undos, then the rest undone last first."""
    count = cases("G14", 40)
    Undoing.done = 0
    options: dict[str, Any] = {"derandomize": True, "database": None, "deadline": None}
    run_state_machine_as_test(
        Undoing,
        settings=settings(
            max_examples=count,
            stateful_step_count=12,
            suppress_health_check=list(HealthCheck),
            **options,
        ),
    )
    figure("G14", f"{count:,} sequences of plans and undos, {Undoing.done:,} steps: 0 differ after")
