"""Silver tool rows: people's commands with the acceptable sets of tools, no arguments.

``{id, source, text, kind: tool|none_near|none_far, any_of: [[tool, …], …]}``.
Refusals become examples with an empty plan. A command that tools serve has no
plan here, so it becomes none; ``read_labels`` gives its tool sets to those who
train or judge retrieval.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from mlx_tinyagent.datasets.canonical import Report
from mlx_tinyagent.datasets.importers.base import Imported, Options, rows
from mlx_tinyagent.datasets.record import Example, ExampleKind
from mlx_tinyagent.tools.catalog import TINYAGENT16

LICENCES = {
    "slurp": "CC-BY-4.0",
    "hwu": "CC-BY-4.0",
    "clinc150": "CC-BY-3.0",
    "msbot": "MIT",
    "smcalflow": "CC-BY-SA-4.0",
}
_NEEDED: Mapping[str, type | tuple[type, ...]] = {
    "id": (int, str),
    "source": str,
    "text": str,
    "kind": str,
    "any_of": list,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Labelled:
    """A command with the sets of tools that serve it.

    Attributes:
        id: Its id, with the source.
        text: The command.
        any_of: Acceptable sets; one empty set if no tool serves it.
        kind: ``tool``, ``none_near`` or ``none_far``.
        source: Where it comes from.
        licence: SPDX name.
    """

    id: str
    text: str
    any_of: tuple[frozenset[str], ...]
    kind: ExampleKind
    source: str
    licence: str


def read_labels(path: Path) -> Iterator[Labelled]:
    """Read the rows with their tool sets.

    Raises:
        RecordError: A row is broken or names an unknown tool.
    """
    kinds: dict[str, ExampleKind] = {
        "tool": "tool",
        "none_near": "none_near",
        "none_far": "none_far",
    }
    for line in rows(path, _NEEDED):
        row = line.value
        if row["kind"] not in kinds:
            raise line.error(
                f"kind: expected one of {', '.join(kinds)}, got {row['kind']!r}", key="kind"
            )
        groups = row["any_of"]
        if not groups or not all(isinstance(group, list) for group in groups):
            raise line.error("any_of: expected a list of lists of tools", key="any_of")
        for name in (name for group in groups for name in group):
            if name not in TINYAGENT16:
                raise line.error(f"any_of: unknown tool {name!r}", key="any_of")
        yield Labelled(
            id=f"{row['source']}-{row['id']}",
            text=row["text"],
            any_of=tuple(frozenset(group) for group in groups),
            kind=kinds[row["kind"]],
            source=row["source"],
            licence=LICENCES.get(row["source"], "unknown"),
        )


def read(path: Path, options: Options) -> Imported:
    """Open the refusals of a file as examples; see ``importers.import_file``."""
    report = Report()
    found = _examples(path, options.source, options.licence, report)
    return Imported(examples=found, tools=TINYAGENT16, report=report)


def _examples(path: Path, source: str, licence: str, report: Report) -> Iterator[Example]:
    for row in read_labels(path):
        if row.kind == "tool":
            report.skip("no plan given")
            continue
        if not row.text.strip():
            report.skip("empty request")
            continue
        yield Example(
            id=row.id,
            query=row.text,
            tools=TINYAGENT16.names,
            source=source or row.source,
            licence=licence or row.licence,
            kind=row.kind,
        )
