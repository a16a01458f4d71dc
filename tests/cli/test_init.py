"""``init``, ``use`` and the question before a file of tools runs as code."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mlx_tinyagent.config import paths, settings

Cli = Callable[..., Any]


@pytest.fixture
def agent(cli: Cli, tmp_path: Path) -> Path:
    """A folder that ``init`` wrote."""
    folder = tmp_path / "my agent"
    assert cli("init", folder).code == 0
    return folder


class TestInit:
    """A folder to begin with."""

    def test_it_writes_four_files_and_says_what_comes_next(self, cli: Cli, tmp_path: Path) -> None:
        """Standard output stays empty; the commands can be pasted, blanks in the name or not."""
        done = cli("init", tmp_path / "my agent")

        assert (done.code, done.out) == (0, "")
        written = sorted(path.name for path in (tmp_path / "my agent").iterdir())
        assert written == ["README.md", "phrases.json", "run.sh", "tools.py"]
        assert f"sh '{tmp_path / 'my agent' / 'run.sh'}'" in done.err

    def test_an_empty_folder_will_do(self, cli: Cli, tmp_path: Path) -> None:
        """Its owner made it for this."""
        (tmp_path / "new").mkdir()

        assert cli("init", tmp_path / "new").code == 0

    def test_a_folder_with_something_in_it_is_left_alone(self, cli: Cli, tmp_path: Path) -> None:
        """Hidden files count."""
        (tmp_path / ".keep").write_text("mine")

        done = cli("init", tmp_path)

        assert (done.code, done.line) == (1, f"{tmp_path} is not empty; name a new folder")
        assert [path.name for path in tmp_path.iterdir()] == [".keep"]

    def test_a_file_is_no_folder(self, cli: Cli, tmp_path: Path) -> None:
        """It is named."""
        (tmp_path / "file").write_text("mine")

        done = cli("init", tmp_path / "file")

        assert (done.code, done.line) == (1, f"{tmp_path / 'file'} is a file; name a new folder")

    @pytest.mark.parametrize(
        ("call", "code", "said"),
        [
            ('set_temperature("Kitchen", 23)', 0, "The kitchen is being heated to 23 degrees."),
            ('get_temperature("office")', 0, "It is 20 degrees in the office."),
            ('get_temperature("garage")', 6, "I found no room 'garage'."),
        ],
    )
    def test_the_tools_run(
        self, cli: Cli, agent: Path, tmp_path: Path, call: str, code: int, said: str
    ) -> None:
        """A room that is not there is no failure but an answer."""
        (tmp_path / "plan.txt").write_text(f"1. {call}\n2. join()\n")

        done = cli("run", tmp_path / "plan.txt", "--tools", agent / "tools.py", "--yes")

        assert (done.code, done.out) == (code, f"{said}\n"), done.err

    def test_the_readme_is_short(self, agent: Path) -> None:
        """A heading and a few lines, each file of the folder named."""
        text = (agent / "README.md").read_text()

        assert len(text.splitlines()) <= 6
        assert all(name in text for name in ("tools.py", "phrases.json", "run.sh"))


class TestData:
    """``data synth`` for one's own tools."""

    def make(self, cli: Cli, agent: Path) -> Any:
        """Make 60 rows."""
        return cli(
            "data", "synth", "--out", agent / "data", "--count", 60, "--valid", 0, "--test", 0,
            "--seed", 0, "--workers", 1, "--tools", agent / "tools.py",
            "--phrases", agent / "phrases.json",
        )  # fmt: skip

    def test_requests_are_worded_as_the_phrases_say(self, cli: Cli, agent: Path) -> None:
        """And the plan has what the phrase pointed at."""
        phrases = {
            "tools": {"get_temperature": ["is the {room=rooms} toasty"]},
            "words": {"rooms": ["boudoir"]},
        }
        (agent / "phrases.json").write_text(json.dumps(phrases))

        done = self.make(cli, agent)

        assert done.code == 0, done.err
        rows = [json.loads(line) for line in (agent / "data/train.jsonl").read_text().splitlines()]
        ours = [row for row in rows if "toasty" in row["query"].lower()]
        assert ours
        for row in ours:
            (call,) = row["plan"]
            assert call["tool"] == "get_temperature"
            assert call["args"][0].lower() == "boudoir"

    def test_the_tools_themselves_are_not_run(self, cli: Cli, agent: Path) -> None:
        """Made-up requests must not heat a house."""
        marker = agent / "ran"
        code = (
            (agent / "tools.py")
            .read_text()
            .replace(
                "    name = room.lower()\n",
                f"    open({str(marker)!r}, 'w')\n    name = room.lower()\n",
            )
        )
        (agent / "tools.py").write_text(code)

        assert self.make(cli, agent).code == 0
        assert not marker.exists()

    @pytest.mark.parametrize(
        ("phrases", "said"),
        [
            ({"tools": {"get_heat": ["x"]}}, "there is no tool 'get_heat'"),
            ({"tools": {"get_temperature": ["in {rom}"]}}, "no argument is called 'rom'"),
            ({"tools": {"get_temperature": ["in {room=rooms}"]}}, "no word list is called 'rooms'"),
            ({"tools": ["get_temperature"]}, "expected"),
        ],
    )
    def test_a_wrong_phrase_is_named(
        self, cli: Cli, agent: Path, phrases: dict[str, Any], said: str
    ) -> None:
        """With what there is instead, before anything is generated."""
        (agent / "phrases.json").write_text(json.dumps(phrases))

        done = self.make(cli, agent)

        assert done.code == 1
        assert said in done.line
        assert not (agent / "data").exists()


class TestUse:
    """What is saved stands for options that are left out."""

    def test_without_anything_saved_it_says_so(self, cli: Cli) -> None:
        """The commands' own defaults hold."""
        done = cli("use")

        assert (done.code, done.out) == (0, "")
        assert done.line == "Nothing is saved; the commands' own defaults hold."

    def test_what_is_saved_is_shown_and_the_settings_stay(self, cli: Cli, agent: Path) -> None:
        """Comments and other settings are the user's; the table is replaced as a whole."""
        file = paths().config / "config.toml"
        file.parent.mkdir(parents=True)
        file.write_text('# mine\nmode = "plan"\n\n[[rules]]\nverdict = "deny"\ntool = "send_sms"\n')

        cli("use", "--tools", "chat", "--model", "smollm2-135m")
        done = cli("use", "--tools", agent / "tools.py")

        assert done.out.splitlines() == ["model    smollm2-135m", f"tools    {agent / 'tools.py'}"]
        text = file.read_text()
        assert text.startswith('# mine\nmode = "plan"\n')
        assert text.count("[use]") == 1
        assert (settings().mode, len(settings().rules)) == ("plan", 1)
        assert json.loads(cli("use", "--json").out)["tools"] == str(agent / "tools.py")

        assert cli("use", "--clear").code == 0
        assert "[use]" not in file.read_text()
        assert (settings().mode, len(settings().rules)) == ("plan", 1)

    def test_commands_take_what_is_saved(
        self, cli: Cli, agent: Path, tmp_path: Path, plans: dict[str, str]
    ) -> None:
        """An option that is given wins."""
        plans["how warm is it"] = '1. get_temperature("office")\n2. join()'
        cli("use", "--tools", agent / "tools.py")

        assert cli("ask", "how warm is it").out == "It is 20 degrees in the office.\n"
        (tmp_path / "plan.txt").write_text('1. get_temperature("office")\n2. join()')
        assert cli("run", tmp_path / "plan.txt", "--tools", "tinyagent16").code == 1

    def test_a_saved_adapter_goes_with_the_saved_model(
        self, cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """With another ``--model`` the adapter is that model's own again."""
        from mlx_tinyagent.cli import batch

        adapter = tmp_path / "adapter"
        adapter.mkdir()
        lora = {"rank": 2, "scale": 1.0, "dropout": 0.0}
        (adapter / "adapter_config.json").write_text(json.dumps({"lora_parameters": lora}))
        rows = tmp_path / "q.jsonl"
        rows.write_text('{"id": "1", "query": "hello"}\n')
        loaded: list[tuple[str, str | None]] = []

        def load(name: str, adapter: str | None) -> None:
            loaded.append((name, adapter))
            raise KeyboardInterrupt

        monkeypatch.setattr(batch, "load_model", load)
        assert cli("use", "--model", "smollm2-360m", "--adapter", adapter).code == 0

        command = ("plan", "--input", rows, "--output", tmp_path / "p.jsonl")
        cli(*command)
        cli(*command, "--model", "smollm2-135m")
        cli(*command, "--adapter", "none")

        assert loaded == [
            ("smollm2-360m", str(adapter)),
            ("smollm2-135m", None),
            ("smollm2-360m", "none"),
        ]

    @pytest.mark.parametrize(
        "given",
        [
            ("--model", "no-such-model"),
            ("--adapter", "nowhere"),
            ("--tools", "nowhere.py"),
        ],
    )
    def test_what_cannot_be_used_is_not_saved(self, cli: Cli, given: tuple[str, str]) -> None:
        """One line says why."""
        assert cli("use", *given).code != 0
        assert not (paths().config / "config.toml").exists()


class TestConsent:
    """A Python file of tools runs as code."""

    def run_in_terminal(self, *args: object) -> Any:
        """Start the program on a terminal of its own."""
        import pexpect

        words = [str(arg) for arg in args]
        return pexpect.spawn(
            sys.executable, ["-m", "mlx_tinyagent", *words],
            encoding="utf-8", timeout=60, dimensions=(40, 200), env=dict(os.environ),
        )  # fmt: skip

    @pytest.mark.slow
    def test_on_a_terminal_it_is_asked_about_once_for_each_version(self, agent: Path) -> None:
        """No is the answer unless yes is said; then it is remembered until the file changes."""
        pexpect = pytest.importorskip("pexpect")
        tools = agent / "tools.py"

        for answer, code in (("n", 3), ("y", 0)):
            child = self.run_in_terminal("tools", "list", "--tools", tools)
            child.expect_exact("tools.py runs as code, with your rights.")
            child.expect_exact("[y/N] ")
            child.sendline(answer)
            child.expect(pexpect.EOF)
            child.close()
            assert child.exitstatus == code
        again = self.run_in_terminal("tools", "list", "--tools", tools)
        again.expect(pexpect.EOF)
        assert "runs as code" not in again.before
        assert "set_temperature" in again.before

        tools.write_text(tools.read_text() + "\n# changed\n")
        changed = self.run_in_terminal("tools", "list", "--tools", tools)
        changed.expect_exact("[y/N] ")
        changed.close(force=True)

    def test_without_a_terminal_the_option_is_the_consent(self, cli: Cli, agent: Path) -> None:
        """Whoever typed it meant it; nothing is remembered."""
        assert cli("tools", "list", "--tools", agent / "tools.py").code == 0
        assert not (paths().data / "allowed_tools.json").exists()

    def test_saved_tools_that_were_changed_do_not_run(
        self, cli: Cli, agent: Path, plans: dict[str, str]
    ) -> None:
        """Nobody typed their name this time, so a file that others may write is not trusted."""
        tools, marker = agent / "tools.py", agent / "ran"
        cli("use", "--tools", tools)
        assert cli("ask", "hello").code == 0
        tools.write_text(tools.read_text() + f"\nopen({str(marker)!r}, 'w')\n")

        done = cli("ask", "hello")

        assert done.code == 3
        assert "is not the version that was allowed" in done.line
        assert not marker.exists()
        assert cli("use", "--tools", tools).code == 0
        assert cli("ask", "hello").code == 0
