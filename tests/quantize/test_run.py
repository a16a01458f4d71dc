"""From folder to folder: what is published is what was judged, and it loads elsewhere."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from mlx_tinyagent.errors import InputError, ModelError, RefusedError, StoreError
from mlx_tinyagent.models.blockwise import Blockwise
from mlx_tinyagent.models.folder import fingerprint
from mlx_tinyagent.models.language import import_mlx_lm, load
from mlx_tinyagent.quantize import report, score
from mlx_tinyagent.quantize import rows as made
from mlx_tinyagent.quantize.pipeline import Source
from mlx_tinyagent.quantize.run import Job, run
from mlx_tinyagent.quantize.settings import QuantizeConfig
from mlx_tinyagent.tools.base import ToolSet

Say = Callable[[str, int, int], None]
FAST = QuantizeConfig(bits=4, recipe="uniform", method="round", rows=4, gate_rows=4, max_kl=1.0)


@pytest.fixture
def make_job(model: Path, few_tools: ToolSet, tmp_path: Path) -> Callable[..., Job]:
    """A function that returns a job on the tiny model."""
    examples = made.synthetic(few_tools, 16, seed=5)

    def make(config: QuantizeConfig = FAST, **changes: Any) -> Job:
        job = Job(
            source=Source(folder=model),
            name="tiny",
            out=tmp_path / "out",
            config=config,
            tools=few_tools,
            calibration=examples[:8],
            held=examples[8:],
            license="Apache-2.0",
        )
        return replace(job, **changes)

    return make


def files(folder: Path) -> dict[str, bytes]:
    """Return the content of a folder."""
    return {file.name: file.read_bytes() for file in sorted(folder.iterdir())}


class TestPublished:
    """A folder that mlx-lm, our loader and the report agree on."""

    @pytest.mark.parametrize(
        "config",
        [
            QuantizeConfig(bits=3.5, rows=4, gate_rows=4, sensitivity_rows=2, max_kl=1.0),
            replace(FAST, mode="nvfp4", recipe="uniform"),
        ],
        ids=["mixed", "nvfp4"],
    )
    def test_plain_mlx_lm_loads_it(
        self, make_job: Callable[..., Job], say: Say, config: QuantizeConfig
    ) -> None:
        """Packed in mlx-lm it gives the logits of our unpacked weights."""
        job = make_job(config)
        run(job, say)
        import_mlx_lm()
        from mlx_lm.utils import load as plain

        packed, tokenizer = plain(str(job.out))
        packed.set_dtype(mx.float32)
        ids = mx.array([[5, 17, 300, 42, 9]])

        assert tokenizer.encode("hello")
        np.testing.assert_allclose(
            np.array(packed(ids)), np.array(load(job.out).model(ids)), atol=2e-3
        )

    def test_the_report_says_what_is_in_the_folder(
        self, make_job: Callable[..., Job], say: Say, few_tools: ToolSet
    ) -> None:
        """Bits, bytes and KL of the report are those of the files."""
        job = make_job(QuantizeConfig(bits=4, rows=4, gate_rows=4, sensitivity_rows=2, max_kl=1.0))
        found = run(job, say)
        written = json.loads((job.out / report.JSON).read_text())
        held = made.render(job.held, few_tools, load(job.out).tokenizer, count=4)
        scores = score.compare(
            score.read(job.source.open(), held), score.read(Blockwise(job.out), held), held
        )

        assert written == json.loads(json.dumps(found))
        assert written["verdict"] == "passed"
        assert written["bytes"] == (job.out / "model.safetensors").stat().st_size
        assert written["bits"] <= 4
        assert written["bits_on_disk"] == pytest.approx(written["bits"] + 0.5)
        assert [row["kl"] for row in written["rows"]] == pytest.approx([s.kl for s in scores])
        page = (job.out / report.HTML).read_text()
        assert "Quantization: passed" in page
        assert page.count("<svg") == 2
        assert str(job.source.folder) not in page + json.dumps(written)

    def test_the_packed_values_are_the_judged_ones(
        self, make_job: Callable[..., Job], say: Say
    ) -> None:
        """A block opened for judging has, bit for bit, what MLX unpacks from the file."""
        job = make_job()
        run(job, say)
        arrays = mx.load(str(job.out / "model.safetensors"))
        name = "model.layers.1.mlp.up_proj"
        parts = [arrays[f"{name}.{leaf}"] for leaf in ("weight", "scales", "biases")]  # type: ignore[index]
        expected = mx.dequantize(
            parts[0], *(p.astype(mx.float32) for p in parts[1:]), group_size=64, bits=4
        )

        block: Any = Blockwise(job.out).take(1)

        np.testing.assert_array_equal(np.array(block.mlp.up_proj.weight), np.array(expected))

    def test_card_and_license_are_carried(
        self, make_job: Callable[..., Job], say: Say, model: Path
    ) -> None:
        """The source's own card keeps its words, and its license file comes along."""
        (model / "LICENSE").write_text("terms\n")
        (model / "README.md").write_text("---\nlicense: mit\n---\n# Mine\n")
        job = make_job()

        run(job, say)

        assert (job.out / "LICENSE").read_text() == "terms\n"
        card = (job.out / "README.md").read_text()
        assert card.startswith("---\nlicense: mit\n---\n# Mine\n")
        assert "affine 4 bits" in card

    def test_the_source_is_untouched_and_named(
        self, make_job: Callable[..., Job], say: Say, model: Path
    ) -> None:
        """The result names the model it stands in for; the model itself does not change."""
        before = files(model)
        job = make_job()

        run(job, say)

        assert files(model) == before
        config = json.loads((job.out / "config.json").read_text())
        assert config["derived_from"] == fingerprint(model)


class TestAdapters:
    """What acts on all tokens is fused first; what acts after the blocks stays apart."""

    def test_one_for_all_tokens_is_fused(
        self,
        make_job: Callable[..., Job],
        say: Say,
        model: Path,
        make_adapter: Callable[..., Path],
    ) -> None:
        """The result is near the adapted model and far from the base, and has no adapter."""
        adapter = make_adapter(model, active="all", size=0.2)
        job = make_job(replace(FAST, bits=8), source=Source(folder=model, adapter=adapter))

        found = run(job, say)

        near = found["checks"][0]["model"]
        assert found["source"]["fused_adapter"] == fingerprint(adapter, config=False)
        assert not (job.out / "adapters.safetensors").exists()
        assert "derived_from" not in json.loads((job.out / "config.json").read_text())
        tokens = load(job.out).tokenizer
        held = made.render(job.held, job.tools, tokens, count=4)
        base = score.read(Blockwise(model), held)
        far = score.compare(base, score.read(Blockwise(job.out), held), held)
        assert score.mean(far, "kl") > 10 * near

    def test_one_after_the_blocks_stays_beside(
        self,
        make_job: Callable[..., Job],
        say: Say,
        model: Path,
        make_adapter: Callable[..., Path],
    ) -> None:
        """The folder is model and adapter in one, and serves as such."""
        adapter = make_adapter(model)
        job = make_job(replace(FAST, bits=8), source=Source(folder=model, adapter=adapter))

        found = run(job, say)

        served = load(job.out, adapter=job.out)
        assert served.after_blocks
        assert served.adapter_config["trained_on_fingerprint"] == fingerprint(model)
        assert found["checks"][0]["model"] < 0.01
        weights = load_file(job.out / "adapters.safetensors")
        assert {str(array.dtype) for array in weights.values()} == {"float16"}

    def test_the_original_adapter_is_recognized_by_the_derived_base(
        self,
        make_job: Callable[..., Job],
        say: Say,
        model: Path,
        make_adapter: Callable[..., Path],
        make_model: Callable[..., Path],
    ) -> None:
        """Opened block by block, a result takes the adapters of its source, and no others."""
        job = make_job()
        run(job, say)
        stranger = make_model("stranger", rope_theta=500.0)

        assert Blockwise(job.out, make_adapter(model)).after_blocks
        with pytest.raises(ModelError, match="was trained on another model"):
            Blockwise(job.out, make_adapter(stranger, active="all"))


class TestRefused:
    """A worse model is not published, and what was there stays."""

    def test_the_old_result_stays(self, make_job: Callable[..., Job], say: Say) -> None:
        """The error names the figure, the report lies beside, nothing else is left."""
        job = make_job()
        run(job, say)
        before = files(job.out)

        with pytest.raises(RefusedError, match=r"not published: kl is \+.*out-refused"):
            run(replace(job, config=replace(FAST, bits=2, max_kl=1e-4)), say)

        assert files(job.out) == before
        beside = job.out.with_name("out-refused")
        assert sorted(files(beside)) == [report.HTML, report.JSON]
        assert json.loads((beside / report.JSON).read_text())["verdict"] == "refused"
        names = {path.name for path in job.out.parent.iterdir()}
        assert names == {"out", "out-refused", "model", "home"}

    def test_without_a_gate_it_is_published_and_says_so(
        self, make_job: Callable[..., Job], say: Say
    ) -> None:
        """``--no-gate`` leaves a report without a verdict."""
        job = make_job(replace(FAST, bits=2), gate=False)

        assert run(job, say)["verdict"] == "not gated"
        assert (job.out / "model.safetensors").is_file()


class TestBadInput:
    """One clear line each; nothing is written."""

    def test_a_result_is_not_quantized_again(self, make_job: Callable[..., Job], say: Say) -> None:
        """It names what to start from."""
        job = make_job()
        run(job, say)
        again = replace(job, source=Source(folder=job.out), out=job.out.with_name("again"))

        with pytest.raises(InputError, match="was made by quantize already; start from the model"):
            run(again, say)
        assert not again.out.exists()

    def test_a_packed_model_that_would_not_shrink(
        self, make_job: Callable[..., Job], say: Say, tmp_path: Path, model: Path
    ) -> None:
        """Quantized elsewhere to as few bits, it gains nothing."""
        import_mlx_lm()
        from mlx_lm import convert

        convert(str(model), str(tmp_path / "packed"), quantize=True, q_bits=4, dtype="float16")
        job = make_job(source=Source(folder=tmp_path / "packed"))

        with pytest.raises(InputError, match=r"is quantized already, to 4\.\d+ bits per weight"):
            run(job, say)
        fewer = replace(job, config=replace(FAST, bits=2))
        assert run(fewer, say)["bits"] == 2

    def test_a_shape_that_does_not_divide(
        self, make_job: Callable[..., Job], say: Say, make_model: Callable[..., Path]
    ) -> None:
        """The matrix, its columns and a group size that would do."""
        odd = make_model("odd", intermediate_size=96)

        with pytest.raises(InputError, match=r"down_proj has 96 columns.*groups of 32 would do"):
            run(make_job(source=Source(folder=odd)), say)

    @pytest.mark.parametrize("recipe", ["uniform", "mixed"])
    @pytest.mark.parametrize("name", ["model.layers.1.mlp.up_proj.weight", "model.norm.weight"])
    def test_weights_that_are_no_numbers(
        self, make_job: Callable[..., Job], say: Say, model: Path, recipe: Any, name: str
    ) -> None:
        """The tensor is named before anything is written."""
        arrays = load_file(model / "model.safetensors")
        arrays[name].flat[3] = np.nan
        save_file(arrays, str(model / "model.safetensors"))
        job = make_job(replace(FAST, recipe=recipe, sensitivity_rows=1))

        with pytest.raises(ModelError, match="finite"):
            run(job, say)
        assert not job.out.exists()

    def test_an_unknown_architecture(self, make_job: Callable[..., Job], say: Say) -> None:
        """It names those that are known, and the tool for the rest."""
        job = make_job()
        path = job.source.folder / "config.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), "model_type": "gemma3"}))

        with pytest.raises(ModelError, match=r"'gemma3'.*mlx_lm\.convert"):
            run(job, say)

    @pytest.mark.parametrize("where", ["source", "foreign", "file"])
    def test_a_target_that_is_something_else(
        self, make_job: Callable[..., Job], say: Say, tmp_path: Path, where: str
    ) -> None:
        """The model itself, a folder with other things and a file are never replaced."""
        foreign = tmp_path / "foreign"
        foreign.mkdir()
        (foreign / "letter.txt").write_text("mine")
        file = tmp_path / "file"
        file.write_text("mine")
        job = make_job()
        target = {"source": job.source.folder, "foreign": foreign, "file": file}[where]

        with pytest.raises(InputError, match="name another"):
            run(replace(job, out=target), say)
        assert (foreign / "letter.txt").read_text() == "mine"
        assert file.read_text() == "mine"

    def test_rows_that_do_not_fit(
        self, make_job: Callable[..., Job], say: Say, make_model: Callable[..., Path]
    ) -> None:
        """A context too short for a plan is said before any work."""
        short = make_model("short", max_position_embeddings=200)

        with pytest.raises(InputError, match="tokens, tiny was made for 200"):
            run(make_job(source=Source(folder=short)), say)


CHILD = """
import resource, sys
from pathlib import Path
from mlx_tinyagent.cli.main import main
limit = int(sys.argv.pop(1))
if limit:
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
main()
"""


def command(job: Job, limit: int) -> list[str]:
    """Return a command that quantizes in a process whose files have a largest size."""
    options = (
        f"--bits 8 --recipe uniform --method round --no-gate --rows 2 --model {job.source.folder}"
    )
    target = ["--adapter", "none", "--out", str(job.out)]
    return [sys.executable, "-c", CHILD, str(limit), "quantize", *options.split(), *target]


def test_a_full_disk_leaves_the_old_result(make_job: Callable[..., Job], say: Say) -> None:
    """One line, exit code 1, and the folder is the one before."""
    job = make_job()
    run(job, say)
    before = files(job.out)

    done = subprocess.run(command(job, 60_000), capture_output=True, text=True, check=False)

    assert done.returncode == StoreError.exit_code, done.stderr
    assert done.stderr.splitlines()[-1].startswith("mlx-tinyagent: cannot write")
    assert "Traceback" not in done.stderr
    assert files(job.out) == before


def test_a_killed_run_leaves_no_half_model(make_job: Callable[..., Job]) -> None:
    """Killed while it writes, it leaves nothing under the final name."""
    job = make_job()
    child = subprocess.Popen(command(job, 0), stderr=subprocess.DEVNULL)
    while child.poll() is None and not list(job.out.parent.glob(".out.*.new")):
        time.sleep(0.002)
    child.kill()
    child.wait()

    assert child.returncode != 0
    assert not job.out.exists()
