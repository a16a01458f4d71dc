"""Child process: read a PDF from standard input, print its text as one JSON line.

Runs by path, apart from the package, with little memory and processor time,
so that a hostile document can hurt nothing but this process. Its argument is
the folder that pypdf lies in.
"""

from __future__ import annotations

import contextlib
import io
import json
import logging
import math
import resource
import sys

CPU_S = 2  # processor seconds for the document, besides start-up
MEMORY_BYTES = 512 * 2**20
MAX_CHARACTERS = 400_000


def main() -> None:
    """Extract the text of standard input, within limits."""
    sys.path.append(sys.argv[1])
    import pypdf  # trusted, so loaded before the limits hold

    logging.disable(logging.CRITICAL)
    limit_self()
    try:
        answer = extract(pypdf, sys.stdin.buffer.read())
    except MemoryError:
        answer = {"error": f"it needs more than {MEMORY_BYTES >> 20} MiB of memory to read"}
    except Exception as error:  # a parser of hostile input may raise anything
        answer = {"error": f"it is damaged, protected or not a PDF ({type(error).__name__})"}
    sys.stdout.write(json.dumps(answer))


def limit_self() -> None:
    """Limit memory, processor time and files of this process for good."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    seconds = math.ceil(usage.ru_utime + usage.ru_stime) + CPU_S
    limits = {
        resource.RLIMIT_AS: MEMORY_BYTES,  # macOS does not enforce it
        resource.RLIMIT_CPU: seconds,
        resource.RLIMIT_FSIZE: 0,
        resource.RLIMIT_CORE: 0,
    }
    for limit, value in limits.items():
        with contextlib.suppress(ValueError, OSError):  # refused by some systems
            resource.setrlimit(limit, (value, value))


def extract(pypdf: object, content: bytes) -> dict[str, object]:
    """Return pages and text, or an error in words."""
    reader = pypdf.PdfReader(io.BytesIO(content))  # type: ignore[attr-defined]
    if reader.is_encrypted:
        return {"error": "it is protected by a password"}
    pieces: list[str] = []
    length = 0
    for page in reader.pages:
        text = page.extract_text()
        # Lone surrogates from broken fonts are no text; they become question marks.
        pieces.append(text.encode("utf-8", "replace").decode())
        length += len(text)
        if length > MAX_CHARACTERS:
            break
    return {"pages": len(reader.pages), "text": "\n".join(pieces)[:MAX_CHARACTERS]}


if __name__ == "__main__":
    main()
