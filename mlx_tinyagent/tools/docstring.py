"""What a tool's docstring says: its summary and the meaning of each argument."""

from __future__ import annotations

import re

_ENTRY = re.compile(r"\*{0,2}(\w+)(?: \([^)]*\))?:(?:\s+|$)(.*)")


def read_docstring(doc: str) -> tuple[str, dict[str, str]]:
    """Split a Google-style docstring, as ``inspect.getdoc`` gives it.

    Args:
        doc: The docstring, its common indentation removed.

    Returns:
        The first paragraph on one line, and the entries of the ``Args``
        section by name, each on one line and without its last full stop.
    """
    before, _, after = f"\n{doc}".partition("\nArgs:\n")
    summary = " ".join(before.strip().split("\n\n")[0].split())
    meanings: dict[str, str] = {}
    current, indent = "", 0
    for line in after.splitlines():
        text = line.lstrip()
        depth = len(line) - len(text)
        if text and not depth:
            break  # the next section
        entry = _ENTRY.match(text)
        if entry and (not current or depth <= indent):
            current, indent = entry[1], depth
            meanings[current] = entry[2].strip()
        elif current and text:
            meanings[current] = f"{meanings[current]} {text.rstrip()}".lstrip()
    return summary, {name: meaning.rstrip(".") for name, meaning in meanings.items()}
