"""Whole runs from the command line: files, resuming, baselines, comparison, refusals."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from mlx_tinyagent.cli.eval import run_plans
from mlx_tinyagent.cli.main import cli
from mlx_tinyagent.errors import InputError, RecordError, TinyAgentError, UsageError
from mlx_tinyagent.evaluate.harness_compare import compare
from mlx_tinyagent.evaluate.harness_items import Item
from mlx_tinyagent.evaluate.harness_run import read_rows
from tests.evaluate.harness_rows import ROWS, SCRIPT, job, record, scripted, write_lines

FILES = {"config.json", "items.jsonl", "report.html", "summary.json"}


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A file of the four rows."""
    return write_lines(tmp_path / "rows.jsonl", ROWS)


def invoke(*args: str | Path) -> Result:
    """Run the command line."""
    return CliRunner().invoke(cli, ["eval", *map(str, args)])


def test_a_run_writes_items_summary_and_report(data: Path, tmp_path: Path) -> None:
    """One line per row in their order; the summary says what it was made from and where."""
    out = tmp_path / "out"
    summary = run_plans(job(data, out), scripted)
    assert {path.name for path in out.iterdir()} == FILES
    assert [row["id"] for row in read_rows(out)] == list(SCRIPT)
    written = json.loads((out / "summary.json").read_text())
    assert written == summary
    assert written["config"]["data"]["rows"] == 4
    assert written["machine"]["packages"]["numpy"]
    assert str(tmp_path) not in (out / "summary.json").read_text()


@pytest.mark.parametrize("torn", ["", '{"id": "love", "calls'])
def test_a_killed_run_goes_on_to_the_same_bytes(data: Path, tmp_path: Path, torn: str) -> None:
    """Stopped in the third row, perhaps with half a line written, and resumed: as uninterrupted."""
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    expected = run_plans(job(data, whole), scripted)
    planned: list[str] = []

    def dying(item: Item) -> dict[str, Any]:
        planned.append(item.id)
        if item.id == "love":
            raise KeyboardInterrupt
        return scripted(item)

    with pytest.raises(KeyboardInterrupt):
        run_plans(job(data, cut), dying)
    part = cut / "items.jsonl.part"
    assert len(part.read_text().splitlines()) == 2
    with part.open("a") as file:
        file.write(torn)

    def counting(item: Item) -> dict[str, Any]:
        planned.append(item.id)
        return scripted(item)

    summary = run_plans(job(data, cut, resume=True), counting)
    assert planned == ["text", "rent", "love", "love", "who"]
    assert summary == expected
    for name in FILES:
        assert (cut / name).read_bytes() == (whole / name).read_bytes(), name


def test_resuming_a_finished_run_plans_nothing(data: Path, tmp_path: Path) -> None:
    """All rows are there; the summary and report are made again."""
    out = tmp_path / "out"
    expected = run_plans(job(data, out), scripted)

    def never(item: Item) -> dict[str, Any]:
        raise AssertionError(item.id)

    assert run_plans(job(data, out, resume=True), never) == expected


def test_a_run_is_not_overwritten_or_mixed(data: Path, tmp_path: Path) -> None:
    """A second run needs a folder of its own; resuming needs the same options and data."""
    out = tmp_path / "out"
    run_plans(job(data, out), scripted)
    with pytest.raises(InputError, match="holds a run already; --resume goes on with it"):
        run_plans(job(data, out), scripted)
    with pytest.raises(InputError, match=r"another configuration: seed was 0, now it is 1"):
        run_plans(job(data, out, resume=True, seed=1), scripted)
    write_lines(data, [*ROWS, record("more", "what is hate")])
    with pytest.raises(InputError, match=r"another configuration: data\.sha256 was"):
        run_plans(job(data, out, resume=True), scripted)
    with pytest.raises(InputError, match="is a file; results are written to a folder"):
        run_plans(job(data, data), scripted)


def test_predictions_of_a_file_score_as_when_planned(data: Path, tmp_path: Path) -> None:
    """The output of plan, and an earlier run's items, give the figures of the run itself."""
    planned = run_plans(job(data, tmp_path / "planned"), scripted)
    rows = [{"id": name, **prediction} for name, prediction in SCRIPT.items()]
    file = write_lines(tmp_path / "p.jsonl", rows)
    for number, source in enumerate((file, tmp_path / "planned/items.jsonl")):
        out = tmp_path / str(number)
        done = invoke("plans", "--data", data, "--out", out, "--predictions", source, "--json")
        assert done.exit_code == 0, done.output
        summary = json.loads(done.stdout)
        assert summary["figures"] == planned["figures"]
        assert summary["config"]["planner"]["kind"] == "predictions"
        assert summary["config"]["retrieval"] is None


def test_the_keyword_planner_is_one_flag_away(data: Path, tmp_path: Path) -> None:
    """No model is loaded; the table has the headline figures and the reasons."""
    done = invoke("plans", "--data", data, "--out", tmp_path / "o", "--planner", "keyword")
    assert done.exit_code == 0, done.output
    assert "tinyagent_success" in done.stdout
    assert "right " in done.stdout.splitlines()[-1]


def test_a_limit_takes_the_first_rows(data: Path, tmp_path: Path) -> None:
    """Two of four."""
    run_plans(job(data, tmp_path / "out", limit=2), scripted)
    assert [row["id"] for row in read_rows(tmp_path / "out")] == ["text", "rent"]


def test_gold_tools_must_be_known(tmp_path: Path) -> None:
    """A silver row has none on offer; said before anything is planned."""
    row = {"id": 1, "text": "call me", "kind": "none_near", "any_of": [[]]}
    data = write_lines(tmp_path / "silver.jsonl", [row])
    with pytest.raises(InputError, match="row 'silver-1' has no tools on offer"):
        run_plans(job(data, tmp_path / "out", retrieval="gold"), scripted)
    with pytest.raises(UsageError, match="needs --endpoint and --endpoint-model"):
        run_plans(job(data, tmp_path / "out", kind="openai"))


# Retrieval


def test_retrieval_is_scored_and_written(data: Path, tmp_path: Path) -> None:
    """Offering everything is complete; the row with a question is left out, counted."""
    done = invoke("tools", "--data", data, "--out", tmp_path / "o", "--retriever", "all", "--json")
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert set(found) == {"bm25", "everything"}  # TF-IDF needs rows to fit on
    assert found["everything"]["figures"]["full_recall"]["value"] == 1.0
    assert found["everything"]["left_out"] == 1
    assert {path.name for path in (tmp_path / "o/bm25").iterdir()} == FILES


def test_tfidf_is_fitted_on_other_rows(data: Path, tmp_path: Path) -> None:
    """Training rows with the words of a judged one are left out; without any, usage."""
    with pytest.raises(UsageError, match="fitted on rows; name some with --fit"):
        invoke_strict("tools", "--data", data, "--out", tmp_path / "o", "--retriever", "tfidf")
    more = [record(f"n{n}", f"text Sophie about number {n}", ROWS[0]["plan"]) for n in range(4)]
    fit = write_lines(tmp_path / "fit.jsonl", [*ROWS[:3], *more])
    arguments = ("--retriever", "tfidf", "--fit", fit, "--json")
    done = invoke("tools", "--data", data, "--out", tmp_path / "o", *arguments)
    assert done.exit_code == 0, done.output
    config = json.loads(done.stdout)["config"]
    assert (config["fit"], config["fit_left_out"]) == (["fit.jsonl"], 3)


def invoke_strict(*args: str | Path) -> None:
    """Run the command line; its error is raised."""
    cli.main(["eval", *map(str, args)], standalone_mode=False)


# Comparison


def better(item: Item) -> dict[str, Any]:
    """Plan by the script, but get the reminder right."""
    return {"calls": list(item.gold)} if item.id == "rent" else scripted(item)


def test_two_runs_are_compared_on_common_rows(data: Path, tmp_path: Path) -> None:
    """One row won, none lost: the exact p of one toss is 1; other rows are told."""
    more = write_lines(tmp_path / "more.jsonl", [*ROWS[:3], record("else", "what is hate")])
    run_plans(job(data, tmp_path / "a"), scripted)
    run_plans(job(more, tmp_path / "b"), lambda i: better(i) if i.id in SCRIPT else {"calls": []})
    done = invoke("compare", tmp_path / "a", tmp_path / "b", "--json")
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert (found["common"], found["only_first"], found["only_second"]) == (3, 1, 1)
    figures = {line["figure"]: line for line in found["figures"]}
    right = figures["right"]
    assert (right["n"], right["only_first"], right["only_second"], right["p"]) == (3, 0, 1, 1.0)
    assert right["first"] == pytest.approx(1 / 3, abs=1e-6)
    assert right["difference"] == pytest.approx(1 / 3, abs=1e-6)
    assert (right["low"], right["high"]) == (0.0, 1.0)
    assert figures["tinyagent_success"]["difference"] == 0.0
    table = invoke("compare", tmp_path / "a", tmp_path / "b")
    assert "0 / 1" in table.stdout
    assert "3 rows in both; left out: 1 only in A, 1 only in B" in table.stderr


def test_figures_that_are_no_yes_or_no_have_no_mcnemar() -> None:
    """A share per row gets an interval alone; twenty wins against one have p = 2.1e-05."""
    one = [
        {"id": str(n), "query": "", "figures": {"right": float(n == 0), "x": 0.5}}
        for n in range(21)
    ]
    two = [
        {"id": str(n), "query": "", "figures": {"right": float(n > 0), "x": 0.75}}
        for n in range(21)
    ]
    figures = {line.figure: line for line in compare(one, two).figures}
    assert figures["right"].p == pytest.approx(2 * 22 / 2**21)  # C(21,0) + C(21,1) of 2^21
    assert (figures["x"].difference, figures["x"].p) == (0.25, None)


def test_runs_that_cannot_be_compared_say_so(data: Path, tmp_path: Path) -> None:
    """No run, an interrupted one, no common row, another request under the same id."""
    run_plans(job(data, tmp_path / "a"), scripted)
    cases: list[tuple[Path, type[TinyAgentError], str]] = [
        (tmp_path / "none", InputError, "no run"),
        (folder(tmp_path / "cut", "items.jsonl.part", ""), InputError, "was interrupted"),
        (folder(tmp_path / "odd", "items.jsonl", "[]\n"), RecordError, "no item of a run"),
        (folder(tmp_path / "bad", "items.jsonl", "{\n"), RecordError, "no JSON"),
        (row(tmp_path / "other", id="other", query="x"), InputError, "no row in common"),
        (row(tmp_path / "same", id="text", query="x"), InputError, "another request"),
    ]
    for other, kind, message in cases:
        with pytest.raises(kind, match=message):
            invoke_strict("compare", tmp_path / "a", other)


def folder(path: Path, name: str, text: str) -> Path:
    """Write a folder with one file."""
    path.mkdir()
    (path / name).write_text(text)
    return path


def row(path: Path, **fields: Any) -> Path:
    """Write a folder with a run of one row."""
    return folder(path, "items.jsonl", json.dumps({"figures": {"right": 1.0}, **fields}) + "\n")
