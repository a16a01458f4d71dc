"""Whole plans on a Mac: without a permission what depends on it does not run."""

from __future__ import annotations

from datetime import datetime
from types import ModuleType
from typing import Any

import pytest

from mlx_tinyagent.act.executor import Callbacks, run
from mlx_tinyagent.plan.graph import parse
from mlx_tinyagent.tools.backend import Host
from mlx_tinyagent.tools.catalog import TINYAGENT16
from mlx_tinyagent.tools.local.world import world
from mlx_tinyagent.tools.results import Ok, PermissionNeeded, Skipped
from mlx_tinyagent.tools.writer import PlainWriter


def results(mac: Any, text: str) -> list[Any]:
    """Run a plan that is agreed to; returns what its steps ended in."""
    host = Host(
        backend=mac.backend, writer=PlainWriter(), request="", now=datetime(2026, 3, 2, 9, 0)
    )
    callbacks = Callbacks(approve=lambda shown: True)
    done = run(parse(text, TINYAGENT16), TINYAGENT16, host, callbacks)
    return [step.result for step in done]


@pytest.mark.parametrize(
    "plan",
    [
        '1. get_phone_number("Mom")\n2. create_note("Mom", "$1", "")\n3. join()',
        '1. send_sms(["Mom"], "Hi")\n2. join()',
    ],
)
def test_without_contacts_nobody_is_not_found(
    mac: Any, mac_fakes: ModuleType, monkeypatch: pytest.MonkeyPatch, plan: str
) -> None:
    """A tool or an argument needs the address book: permission needed, never "not found"."""
    kit = mac_fakes.contacts_kit(world(), status=2)
    mac_fakes.install(monkeypatch, {"Contacts": kit})
    first, *rest = results(mac, plan)
    assert isinstance(first, PermissionNeeded)
    assert first.app == "Contacts"
    assert all(isinstance(result, Skipped) for result in rest)
    assert mac.runner.calls == []


def test_a_plan_reaches_the_applications(mac: Any) -> None:
    """Number, note and event of one plan, each in its application."""
    plan = (
        '1. get_phone_number("Mom")\n2. create_note("Mom", "$1", "")\n'
        '3. create_calendar_event("Call", "2026-03-05T10:00:00", "", "", [], "", None)\n4. join()'
    )
    found = results(mac, plan)
    assert [type(result) for result in found[:3]] == [Ok, Ok, Ok]
    assert found[0].value.text in next(
        note.body for note in mac.backend.notes() if note.name == "Mom"
    )
    assert [event.title() for event in mac.data.events] == ["Call"]
