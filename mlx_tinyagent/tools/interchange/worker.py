"""Child process: reads files of others and prints plain records, one JSON line per file.

Runs by path with little memory and processor time, so that a hostile file can
hurt nothing but this process. Its arguments are the time zone and the folders
to import from; standard input has one JSON object per file.
"""

from __future__ import annotations

import contextlib
import json
import logging
import math
import os
import resource
import stat
import sys
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from datetime import tzinfo

CPU_S = 5  # processor seconds for each file
MEMORY_BYTES = 512 * 2**20


def main() -> None:
    """Read every file that standard input names, within limits."""
    zone_name, *folders = sys.argv[1:]
    sys.path += folders
    from mlx_tinyagent.tools.interchange.parse import local_zone, parse
    from mlx_tinyagent.tools.interchange.records import InterchangeError

    zone = local_zone(zone_name)
    logging.disable(logging.CRITICAL)
    limit_self()
    for line in sys.stdin:
        job = json.loads(line)
        limit_time()
        try:
            answer = _answer(parse, job, zone)
        except InterchangeError as error:
            answer = {"error": str(error)}
        except MemoryError:
            answer = {"error": f"it needs more than {MEMORY_BYTES >> 20} MiB of memory to read"}
        except OSError as error:
            answer = {"error": error.strerror or "it cannot be read"}
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


def limit_self() -> None:
    """Limit memory and files of this process for good."""
    limits = {
        resource.RLIMIT_AS: MEMORY_BYTES,  # macOS does not enforce it
        resource.RLIMIT_FSIZE: 0,
        resource.RLIMIT_CORE: 0,
    }
    for limit, value in limits.items():
        with contextlib.suppress(ValueError, OSError):  # refused by some systems
            resource.setrlimit(limit, (value, value))


def limit_time() -> None:
    """Give the next file its share of processor time; past it the kernel stops the process."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    seconds = math.ceil(usage.ru_utime + usage.ru_stime) + CPU_S
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(
            resource.RLIMIT_CPU, (seconds, resource.getrlimit(resource.RLIMIT_CPU)[1])
        )


def _answer(parse: Any, job: dict[str, str], zone: tzinfo | None) -> dict[str, Any]:
    from mlx_tinyagent.tools.interchange.records import MAX_BYTES

    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    descriptor = os.open(job["path"], flags)
    with os.fdopen(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            return {"error": "it is not a file"}
        content = file.read(MAX_BYTES + 1)
    if len(content) > MAX_BYTES:
        return {"error": f"it is larger than {MAX_BYTES >> 20} MiB"}
    found = parse(job["kind"], content, zone=zone, stem=job["stem"], folder=job["folder"])
    return {
        "records": [[type(record).__name__, asdict(record)] for record in found.records],
        "skipped": [asdict(item) for item in found.skipped],
    }


if __name__ == "__main__":
    main()
