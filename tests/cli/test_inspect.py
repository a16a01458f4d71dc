"""``tools``, ``models``, ``demo-data`` and ``doctor``: what there is on this machine."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mlx_tinyagent.config import paths
from mlx_tinyagent.models.registry import ALIASES
from mlx_tinyagent.tools.catalog import TINYAGENT16

Cli = Callable[..., Any]


def test_tools_are_listed_with_their_effect(cli: Cli) -> None:
    """One line each, in the order of the set."""
    lines = cli("tools", "list").out.splitlines()

    assert [line.split()[:2] for line in lines] == [
        [tool.name, tool.effect.value] for tool in TINYAGENT16
    ]


def test_tool_schemas_can_be_given_back(cli: Cli, tmp_path: Path) -> None:
    """What ``tools list --json`` prints is a file that ``--tools`` takes."""
    file = tmp_path / "tools.json"
    file.write_text(cli("tools", "list", "--json").out)

    names = [line.split()[0] for line in cli("tools", "list", "--tools", file).out.splitlines()]

    assert names == list(TINYAGENT16.names)


def test_one_tool_is_shown_as_the_model_sees_it(cli: Cli) -> None:
    """With what it does to the world, and what later steps can read."""
    done = cli("tools", "show", "get_email_address")

    assert done.out.startswith(TINYAGENT16["get_email_address"].text())
    assert "effect: read (runs without asking)" in done.out
    assert "value:  email, fields name, email" in done.out
    assert "asks first" in cli("tools", "show", "send_sms").out
    assert json.loads(cli("tools", "show", "send_sms", "--json").out)["name"] == "send_sms"


def test_models_are_listed(cli: Cli) -> None:
    """By alias, with the default marked; none is here yet."""
    lines = cli("models", "list").out.splitlines()

    assert [line.split()[0] for line in lines] == list(ALIASES)
    assert lines[0].endswith("(default)")
    assert lines[0].split()[1] == "-"


def test_a_model_that_is_not_here_can_be_pulled(cli: Cli) -> None:
    """Showing it fetches nothing and says how."""
    done = cli("models", "show")

    assert (done.code, done.out) == (4, "")
    assert done.line.endswith("fetch it with: models pull smollm2-135m")


def test_a_model_folder_is_described(cli: Cli, tiny_model: Path) -> None:
    """For people and as JSON."""
    facts = json.loads(cli("models", "show", tiny_model, "--json").out)

    assert facts["folder"] == str(tiny_model)
    assert len(facts["fingerprint"]) == 64
    assert "fingerprint:" in cli("models", "show", tiny_model).out


def test_demo_data_can_be_repeated(cli: Cli, filled_home: Path, world: Path) -> None:
    """The same world each time, and it says what is in it."""
    done = cli("demo-data")

    assert done.code == 0
    assert "30 mails, 25 events, 25 files, 15 notes" in done.out
    assert str(paths().data / "demo-files") in done.out
    assert cli("demo-data").out == done.out


def test_doctor_reports_and_advises(cli: Cli) -> None:
    """On a fresh machine it says what is missing and how to get it."""
    done = cli("doctor", "--json")

    facts = json.loads(done.out)
    assert done.code == 0
    assert {"mlx", "device", "blas", "model", "store", "cache", "notes"} <= facts.keys()
    assert any("models pull smollm2-135m" in note for note in facts["notes"])
    assert any("demo-data fills it" in note for note in facts["notes"])
    assert "device:" in cli("doctor").out
