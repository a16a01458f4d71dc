"""Running a Python module in a child process: the package's door to ``subprocess`` for models.

A child that parses untrusted bytes limits its own memory and processor time,
so damage ends there and comes back as one readable line.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How a child ended.

    Args:
        code: Exit code; negative is the number of the signal that stopped it.
        stdout: What it printed.
        stderr: What it printed there.
    """

    code: int
    stdout: str
    stderr: str

    @property
    def ending(self) -> str:
        """The ending in words, with the last line of standard error if there is one."""
        if self.code < 0:
            return f"stopped by {signal.Signals(-self.code).name}"
        last = self.stderr.strip().splitlines()[-1:] or ["no message"]
        return f"exit code {self.code}: {last[0]}"


def run_module(module: str, arguments: Sequence[str], *, cwd: Path | None = None) -> Outcome:
    """Run ``python -m module`` with this interpreter and wait for it.

    Args:
        module: Importable name.
        arguments: Its command line.
        cwd: Working folder; None keeps ours.

    Returns:
        How it ended. An interrupt of ours stops the child too.
    """
    package = str(Path(__file__).resolve().parents[2])  # runs from a checkout as well
    search = os.pathsep.join(filter(None, [package, os.environ.get("PYTHONPATH")]))
    done = subprocess.run(
        [sys.executable, "-m", module, *arguments],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": search, "OPENBLAS_NUM_THREADS": "1"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
    )
    return Outcome(code=done.returncode, stdout=done.stdout, stderr=done.stderr)


def limit_self(*, memory: int, seconds: int) -> None:
    """Limit this process's own address space and processor time for good.

    Args:
        memory: Bytes of address space; macOS does not enforce it.
        seconds: Processor time, after which the kernel stops the process.
    """
    import resource

    for limit, value in ((resource.RLIMIT_AS, memory), (resource.RLIMIT_CPU, seconds)):
        _, hard = resource.getrlimit(limit)
        if hard != resource.RLIM_INFINITY:
            value = min(value, hard)
        with contextlib.suppress(ValueError, OSError):  # refused by some systems
            resource.setrlimit(limit, (value, value))
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
