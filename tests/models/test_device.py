"""The device report, and the fast BLAS behind MLX's products."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

from mlx_tinyagent.errors import ConfigError
from mlx_tinyagent.models import blas, device

ON_LINUX_X86 = sys.platform == "linux" and platform.machine() == "x86_64"
needs_linux = pytest.mark.skipif(not ON_LINUX_X86, reason="the binding is for Linux x86-64")
PROGRAM = """
import dataclasses, json, sys
from mlx_tinyagent.models import device
if sys.argv[1] == "late":
    import mlx.core
report = device.setup()
assert device.setup() is report
import mlx.core as mx, numpy as np
a = np.random.default_rng(1).standard_normal((70, 600)).astype(np.float32)
error = np.abs(np.array(mx.array(a) @ mx.array(a).T) - a.astype(np.float64) @ a.T).max()
spd = a[:, :70] @ a[:, :70].T + 70 * np.eye(70, dtype=np.float32)
factor = np.array(mx.linalg.cholesky(mx.array(spd), stream=mx.cpu))
solve = np.abs(factor @ factor.T - spd).max()
speed = device.measure_gflops(384, 1)
print(json.dumps({**dataclasses.asdict(report), "error": float(error), "solve": float(solve),
                  "speed": speed}))
"""


def _report(order: str = "first", **environment: str) -> dict[str, object]:
    """Set up a fresh process and return its report."""
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, order],
        env={**os.environ, "PYTHONPATH": str(root), "OPENBLAS_NUM_THREADS": "1", **environment},
        capture_output=True,
        text=True,
        check=True,
    )
    report: dict[str, object] = json.loads(done.stdout)
    return report


@needs_linux
@pytest.mark.parametrize("order", ["first", "late"])
def test_openblas_computes_mlx_products(order: str) -> None:
    """Products and Cholesky factors agree with numpy, before or after MLX was imported."""
    report = _report(order)
    assert report["blas"] in ("scipy-openblas32", "cmeel-openblas")
    assert report["threads"] == 1
    assert report["dtype"] == "float32"
    assert report["error"] < 1e-3
    assert report["solve"] < 1e-3


@needs_linux
def test_reference_blas_can_be_asked_for_and_is_slower() -> None:
    """The switch turns the binding off, and the report says so."""
    slow, fast = _report(MLX_TINYAGENT_BLAS="reference"), _report()
    assert slow["blas"] == "reference"
    assert "slow" in str(slow["notes"])
    assert slow["error"] < 1e-3
    assert float(str(fast["speed"])) > 2 * float(str(slow["speed"]))


def test_unknown_choice_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """The message lists what would do."""
    monkeypatch.setenv("MLX_TINYAGENT_BLAS", "fast")
    with pytest.raises(ConfigError, match="'fast'; expected one of auto, reference"):
        device._blas_choice()


@needs_linux
@pytest.mark.parametrize(("load", "threads"), [(0.2, 4), (1.4, 3), (3.9, 1), (50.0, 1)])
def test_busy_cores_are_left_alone(
    monkeypatch: pytest.MonkeyPatch, load: float, threads: int
) -> None:
    """Threads that would have to share a core are not started, and the report says so."""
    chosen: list[int] = []
    monkeypatch.delenv("OPENBLAS_NUM_THREADS", raising=False)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(device, "available_cores", lambda: 4)
    monkeypatch.setattr(os, "getloadavg", lambda: (load, 0.0, 0.0))

    class Recorder:
        set_threads = chosen.append

    notes = device._choose_threads(Recorder)  # type: ignore[arg-type]
    assert chosen == [threads]
    assert bool(notes) is (threads < 4)


@pytest.mark.parametrize(
    ("content", "cores"),
    [("100000 100000", 1), ("50000 100000", 1), ("max 100000", None), ("", None)],
)
def test_container_quota_counts(tmp_path: Path, content: str, cores: int | None) -> None:
    """A container with one core's time does not start a thread for each core of its host."""
    quota = tmp_path / "cpu.max"
    quota.write_text(content)
    unlimited = device.available_cores(tmp_path / "none")
    assert device.available_cores(quota) == (cores or unlimited)
    assert unlimited >= 1


@needs_linux
def test_slots_of_libmlx_are_those_the_linker_tools_list() -> None:
    """The parser finds the functions MLX calls, at aligned addresses."""
    slots = blas.slots(device._libmlx().read_bytes())
    names = {slot.symbol for slot in slots}
    assert {"cblas_sgemm", "cblas_dgemm", "cblas_cgemm", "spotrf_", "sgetrf_"} <= names
    assert all(slot.address % 8 == 0 for slot in slots)


@needs_linux
def test_binding_can_be_undone() -> None:
    """Every slot gets back what it held, so a failed self-check costs nothing."""
    import ctypes

    import mlx.core as mx

    library = next(iter(blas.installed()), None)
    if library is None:
        pytest.skip("no OpenBLAS wheel is installed")
    mx.eval(mx.ones((4, 4)) @ mx.ones((4, 4)))
    binding = blas.bind(device._libmlx(), library)
    assert len(binding.old) >= 5
    binding.undo()
    for where, before in binding.old:
        assert ctypes.c_uint64.from_address(where).value == before
    device._report = None  # what was bound before may have been replaced
    device.setup()


@pytest.mark.parametrize(
    "image",
    [b"", b"\x7fELF", b"\x7fELF\x02\x01" + bytes(80), b"MZ" + bytes(200), b"\x7fELF\x01\x01" * 20],
)
def test_other_files_are_refused(image: bytes) -> None:
    """Anything but a 64-bit x86 ELF library with a dynamic section is named, not read."""
    with pytest.raises(blas.BlasError):
        blas.slots(image)


@needs_linux
def test_damaged_elf_tables_are_refused_or_read() -> None:
    """Flipped header bits raise the module's own error and nothing else."""
    import random

    image = bytearray(device._libmlx().read_bytes()[:4096])
    generator = random.Random(0)
    for _ in range(50):
        damaged = bytearray(image)
        damaged[generator.randrange(64, 700)] ^= 1 << generator.randrange(8)
        try:
            blas.slots(bytes(damaged))
        except blas.BlasError:
            continue


@needs_linux
def test_a_library_that_does_not_load_is_named(tmp_path: Path) -> None:
    """A wheel whose runtime is missing leads to the next one, not to a crash."""
    path = tmp_path / "libopenblas.so"
    path.write_bytes(b"not a library")
    library = blas.Library(name="broken", path=path, prefix="")
    with pytest.raises(blas.BlasError, match="broken does not load"):
        blas.bind(device._libmlx(), library)
