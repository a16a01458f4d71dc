"""The ``interchange`` command: what it prints, its exit codes, and where it reads and writes."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from mlx_tinyagent.cli.main import cli
from mlx_tinyagent.config import paths
from mlx_tinyagent.errors import InputError, StoreError
from mlx_tinyagent.tools.local import demo_data, user_store

CARD = "BEGIN:VCARD\r\nVERSION:3.0\r\nUID:1\r\nFN:Ann Lee\r\nEMAIL:ann@a.example\r\nEND:VCARD\r\n"


def run(*arguments: str) -> Result:
    """Run the command in this process."""
    return CliRunner().invoke(cli, ["interchange", *arguments], standalone_mode=False)


def test_a_file_comes_in_once(tmp_path: Path) -> None:
    """It says what was added and what was there; the contact is in the user's own store."""
    (tmp_path / "a.vcf").write_text(CARD)
    first, again = run("import", str(tmp_path)), run("import", str(tmp_path / "a.vcf"))
    assert (first.output, first.return_value) == ("added 1 contact\n", 0)
    assert again.output == "added nothing; already there: 1 contact\n"
    with user_store(paths()) as store:
        assert store.rows("SELECT name FROM contacts") == [{"name": "Ann Lee"}]


def test_a_bad_file_is_named_and_the_exit_code_says_so(tmp_path: Path) -> None:
    """Names that would steer the terminal are shown, not obeyed."""
    (tmp_path / "good.vcf").write_text(CARD)
    (tmp_path / "bad\x1b[31m.vcf").write_text("BEGIN:VCARD\r\n")
    done = run("import", str(tmp_path))
    assert done.return_value == 1
    assert "line 1: BEGIN:VCARD without its END" in done.output
    assert "\x1b" not in done.output
    assert done.output.endswith("added 1 contact\n")


def test_the_store_goes_out(tmp_path: Path) -> None:
    """The world fills 54 files; a second time the folder is not empty."""
    demo_data(paths())
    target = tmp_path / "out"
    assert run("export", str(target)).output == f"54 files in {target}\n"
    assert (target / "contacts.vcf").stat().st_mode & 0o777 == 0o600
    assert isinstance(run("export", str(target)).exception, StoreError)


@pytest.mark.parametrize("name", ["gone", "x.pdf"])
def test_nothing_to_import_is_an_error(tmp_path: Path, name: str) -> None:
    """One line that says what can be imported."""
    (tmp_path / "x.pdf").write_text("x")
    assert isinstance(run("import", str(tmp_path / name)).exception, InputError)
