"""An adapter trained on rounded weights takes its place beside them if the pair is no worse."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from mlx_tinyagent.cli.main import cli
from mlx_tinyagent.datasets.record import write_examples
from mlx_tinyagent.errors import InputError, ModelError, RefusedError
from mlx_tinyagent.models.folder import fingerprint
from mlx_tinyagent.quantize import report
from mlx_tinyagent.quantize import rows as made
from mlx_tinyagent.quantize.adopt import adopt
from mlx_tinyagent.quantize.pipeline import Source
from mlx_tinyagent.quantize.run import Job, run
from mlx_tinyagent.quantize.settings import QuantizeConfig
from mlx_tinyagent.tools.base import ToolSet

Say = Callable[[str, int, int], None]
FAST = QuantizeConfig(bits=4, recipe="uniform", method="round", rows=3, gate_rows=4, max_kl=1.0)


@pytest.fixture
def job(
    model: Path, make_adapter: Callable[..., Path], few_tools: ToolSet, tmp_path: Path, say: Say
) -> Job:
    """A job whose result is there: 4 bits with an adapter beside them."""
    examples = made.synthetic(few_tools, 12, seed=5)
    job = Job(
        source=Source(folder=model, adapter=make_adapter(model)),
        name="tiny",
        out=tmp_path / "out",
        config=FAST,
        tools=few_tools,
        calibration=examples[:6],
        held=examples[6:],
    )
    run(job, say)
    return job


def files(folder: Path) -> dict[str, bytes]:
    """Return the content of a folder."""
    return {file.name: file.read_bytes() for file in sorted(folder.iterdir())}


def test_a_pair_that_passes_is_published(
    job: Job, make_adapter: Callable[..., Path], say: Say
) -> None:
    """Weights and their identity stay; adapter, verdict and rows are new."""
    trained = make_adapter(job.out, size=0.11, name="trained")
    before, identity = files(job.out), fingerprint(job.out)

    found = adopt(job, trained, say)

    after = files(job.out)
    changed = {name for name in before if before[name] != after[name]}
    assert changed == {"adapters.safetensors", "adapter_config.json", report.JSON, report.HTML}
    assert fingerprint(job.out) == identity
    written = json.loads(after[report.JSON])
    assert written == json.loads(json.dumps(found))
    assert written["verdict"] == "passed"
    assert written["trained_adapter"] == fingerprint(trained, config=False)
    assert written["matrices"] == json.loads(before[report.JSON])["matrices"]


def test_a_worse_pair_leaves_the_old_one(
    job: Job, make_adapter: Callable[..., Path], say: Say
) -> None:
    """Refused with a report beside, and nothing in the folder changes."""
    wild = make_adapter(job.out, size=3.0, name="wild")
    before = files(job.out)

    with pytest.raises(RefusedError, match=r"not published: kl is"):
        adopt(replace(job, config=replace(FAST, max_kl=1e-3)), wild, say)

    assert files(job.out) == before
    beside = job.out.with_name("out-refused")
    assert json.loads((beside / report.JSON).read_text())["verdict"] == "refused"


def test_what_does_not_belong_together_is_refused(
    job: Job, make_adapter: Callable[..., Path], make_model: Callable[..., Path], say: Say
) -> None:
    """Each with one line that says which of the three does not fit."""
    trained = make_adapter(job.out, name="trained")
    stranger = make_model("stranger", rope_theta=500.0)
    every = make_adapter(job.out, active="all", name="every")

    with pytest.raises(ModelError, match="was trained on another model"):
        adopt(job, job.source.adapter or Path(), say)
    with pytest.raises(ModelError, match="acts on all tokens"):
        adopt(job, every, say)
    with pytest.raises(InputError, match="was not made from tiny"):
        adopt(replace(job, source=replace(job.source, folder=stranger)), trained, say)
    with pytest.raises(InputError, match="has no adapter"):
        adopt(replace(job, source=replace(job.source, adapter=None)), trained, say)
    with pytest.raises(InputError, match="was not made by quantize"):
        adopt(replace(job, out=job.source.folder), trained, say)


def test_training_on_four_bits_from_end_to_end(job: Job, tmp_path: Path) -> None:
    """Quantized, trained from the adapter beside the weights, judged and published by commands."""
    data = tmp_path / "rows.jsonl"
    write_examples(data, job.held)

    def call(*arguments: object) -> Any:
        done = CliRunner().invoke(cli, [str(argument) for argument in arguments])
        assert done.exit_code == 0, done.output
        return done

    training = "--iters 2 --batch 2 --rank 4 --scale 2 --warmup 0 --eval-every 2 --distractors 1"
    start = ["--start", job.out, "--out", tmp_path / "run"]
    call("train", "planner", "--data", data, "--model", job.out, *training.split(), *start)
    source = ["--model", job.source.folder, "--adapter", job.source.adapter, "--out", job.out]
    limits = ["--gate-rows", 4, "--max-kl", 5, "--json"]
    done = call("quantize", *source, "--trained", tmp_path / "run", "--gate-data", data, *limits)

    found = json.loads(done.stdout)
    assert found["verdict"] == "passed"
    assert found["trained_adapter"] == fingerprint(tmp_path / "run", config=False)
    assert json.loads((job.out / report.JSON).read_text()) == found
