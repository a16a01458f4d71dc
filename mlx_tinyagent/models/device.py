"""The device MLX runs on: chosen, made fast and described in one place.

``setup`` comes first wherever MLX is used. On Linux x86-64 it binds a fast
BLAS (``models.blas``); it decides the number format; ``doctor`` prints what it
returns. Importing this module does not import MLX.
"""

from __future__ import annotations

import os
import platform
import sys
import threading
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

from mlx_tinyagent.errors import ConfigError

if TYPE_CHECKING:
    from mlx_tinyagent.models.blas import Binding

BLAS_VARIABLE = "MLX_TINYAGENT_BLAS"
BlasChoice = Literal["auto", "reference"]
DeviceName = Literal["cpu", "metal", "cuda"]
DtypeName = Literal["float32", "bfloat16", "float16"]

_lock = threading.Lock()
_report: Device | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """What ``setup`` found and chose.

    Args:
        platform: Operating system and machine, such as ``Linux x86_64``.
        name: Where MLX computes.
        dtype: Number format of weights and activations. On a CPU MLX's 16-bit
            and quantized kernels are slow and less exact than elsewhere, so
            models run dense in float32 there.
        blas: Library behind matrix products: ``scipy-openblas32``,
            ``cmeel-openblas``, ``reference``, ``accelerate`` or ``none`` (GPU).
        threads: CPU threads of one matrix product; 0 on a GPU.
        mlx: MLX's version.
        notes: Readable lines about what fell short, for ``doctor``.
    """

    platform: str
    name: DeviceName
    dtype: DtypeName
    blas: str
    threads: int
    mlx: str
    notes: tuple[str, ...]


def setup() -> Device:
    """Prepare MLX on this machine; later calls return the first one's report.

    Returns:
        The device report.

    Raises:
        ConfigError: ``MLX_TINYAGENT_BLAS`` holds an unknown value, or MLX has
            no backend here.
    """
    global _report
    with _lock:
        if _report is None:
            _report = _setup()
        return _report


def measure_gflops(size: int = 1024, repeats: int = 3) -> float:
    """Time float32 products of two square matrices.

    Args:
        size: Rows and columns.
        repeats: Products timed after one warm-up; the fastest counts.

    Returns:
        Billions of floating point operations per second (2 size^3 per product).
    """
    import time

    setup()
    import mlx.core as mx

    a, b = mx.random.normal((size, size)), mx.random.normal((size, size))
    mx.eval(a, b, a @ b)
    best = float("inf")
    for _ in range(repeats):
        start = time.perf_counter()
        mx.eval(a @ b)
        best = min(best, time.perf_counter() - start)
    return 2 * size**3 / best / 1e9


def _setup() -> Device:
    choice = _blas_choice()
    try:
        import mlx.core  # noqa: F401
    except ImportError as error:
        raise ConfigError(
            f"MLX cannot be imported ({error}); on Linux install it with a backend: "
            "pip install 'mlx[cpu]'"
        ) from error
    name = _device_name()
    blas, threads, notes = _fast_blas(choice) if name == "cpu" else ("none", 0, ())
    return Device(
        platform=f"{platform.system()} {platform.machine()}",
        name=name,
        dtype="float32" if name == "cpu" else "bfloat16",
        blas=blas,
        threads=threads,
        mlx=metadata.version("mlx"),
        notes=notes,
    )


def _blas_choice() -> BlasChoice:
    value = os.environ.get(BLAS_VARIABLE) or "auto"
    for choice in get_args(BlasChoice):
        if value == choice:
            return choice
    raise ConfigError(
        f"{BLAS_VARIABLE}={value!r}; expected one of {', '.join(get_args(BlasChoice))}"
    )


def _device_name() -> DeviceName:
    import mlx.core as mx

    if mx.default_device().type != mx.DeviceType.gpu:
        return "cpu"
    return "metal" if mx.metal.is_available() else "cuda"


def _fast_blas(choice: BlasChoice) -> tuple[str, int, tuple[str, ...]]:
    """Bind the fastest BLAS that works; return its name, threads and notes."""
    if sys.platform == "darwin":
        return "accelerate", os.cpu_count() or 1, ()
    if choice == "reference":
        return "reference", 1, (f"{BLAS_VARIABLE}=reference: matrix products are slow",)
    if sys.platform != "linux" or platform.machine() != "x86_64":
        return "reference", 1, ("no fast BLAS is bound on this platform",)
    return _bind_first()


def _bind_first() -> tuple[str, int, tuple[str, ...]]:
    from mlx_tinyagent.models import blas

    notes = []
    for library in blas.installed():
        try:
            binding = blas.bind(_libmlx(), library)
        except (blas.BlasError, OSError) as error:
            notes.append(f"BLAS: {error}")
            continue
        if _product_is_right():
            notes += _choose_threads(binding)
            return library.name, binding.threads, tuple(notes)
        binding.undo()
        notes.append(f"BLAS: {library.name} gives a wrong product and is not used")
    notes.append(
        "matrix products use the reference BLAS and are slow; pip install scipy-openblas32 helps"
    )
    return "reference", 1, tuple(notes)


def _choose_threads(binding: Binding) -> list[str]:
    """Leave busy cores out, where the user did not set the number; return notes.

    OpenBLAS's threads wait for each other by spinning: with more of them than
    free cores a model decodes several times slower than with one thread.
    """
    if any(os.environ.get(name) for name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS")):
        return []
    cores, load = available_cores(), os.getloadavg()[0]
    threads = max(1, min(cores, round(cores - load)))
    binding.set_threads(threads)
    if threads == cores:
        return []
    return [f"matrix products use {threads} of {cores} cores, as the machine's load is {load:.1f}"]


def available_cores(quota_file: Path = Path("/sys/fs/cgroup/cpu.max")) -> int:
    """Return how many cores this process may use on Linux, by affinity and container quota.

    Args:
        quota_file: "quota period" in microseconds, or "max period" (cgroup version 2).
    """
    cores = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
    try:
        quota, period = quota_file.read_text().split()
        return max(1, min(cores, int(quota) // int(period)))
    except (OSError, ValueError, ZeroDivisionError):  # no cgroup, or no limit
        return cores


def _libmlx() -> Path:
    import mlx.core

    return Path(str(mlx.core.__file__)).parent / "lib" / "libmlx.so"


def _product_is_right() -> bool:
    """Compare one product with numpy, which brings its own BLAS."""
    import mlx.core as mx
    import numpy as np

    generator = np.random.default_rng(0)
    a = generator.standard_normal((65, 130), dtype=np.float32)
    b = generator.standard_normal((130, 97), dtype=np.float32)
    product = np.array(mx.matmul(mx.array(a), mx.array(b), stream=mx.cpu))
    return bool(np.allclose(product, a.astype(np.float64) @ b, rtol=1e-4, atol=1e-4))
