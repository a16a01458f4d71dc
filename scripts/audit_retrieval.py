"""Tool retrieval on requests whose labels were read one by one, beside the published labels.

    python scripts/audit_retrieval.py --data ../shared/data            # the figures
    python scripts/audit_retrieval.py --data ../shared/data --texts    # what was read, in its order

The commands are 300 that need a tool and 150 near misses by their automatic labels, drawn without
regard to anything else from the fifth of ``human_tool_silver`` that nothing is trained on. The
compound requests are TinyAgent's 150 public test rows; 50 of them were read twice, by passes that
saw neither the labels nor each other. ``data/audited`` holds the acceptable sets of tools under
the hashes of the normalized texts; the texts themselves stay where they are. An empty set among
them means that no tool is an acceptable answer too, and the row says nothing about firing.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

from tool_rag_labels import key, verdict

from mlx_tinyagent.errors import InputError
from mlx_tinyagent.retrieval.base import Retrieved, Retriever
from mlx_tinyagent.retrieval.bm25 import BM25Config, BM25Retriever
from mlx_tinyagent.retrieval.deberta import SHIPPED, DebertaRetriever
from mlx_tinyagent.tools.catalog import TINYAGENT16

FOLDER = Path(__file__).parents[1] / "data" / "audited"
AUDIT = FOLDER / "commands.jsonl"
COMPOUND = FOLDER / "compound.jsonl"
DRAWN = {"tool": 300, "none_near": 150}  # automatic kind, and rows of it
SALT = "audit-1"
Sets = Sequence[frozenset[str]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Audited:
    """A command with both labels.

    Attributes:
        text: The command.
        kind: ``tool`` or ``none_near``, by the automatic label.
        automatic: Acceptable sets of tools by the automatic label.
        any_of: Acceptable sets by reading.
    """

    text: str
    kind: str
    automatic: Sets
    any_of: Sets

    @property
    def verdict(self) -> str:
        """``tool`` if one is needed, ``none`` if none serves, else ``either``."""
        return verdict([sorted(group) for group in self.any_of])


def main() -> None:
    """Read, measure, print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="Folder with the shared sets.")
    parser.add_argument("--classifier", type=Path, default=SHIPPED, help="Folder of a classifier.")
    parser.add_argument("--texts", action="store_true", help="Print the rows' texts alone.")
    options = parser.parse_args()
    rows = draw(read(options.data / "human_tool_silver/dev_train.jsonl"))
    if options.texts:
        print("\n".join(row["text"] for row in sorted(rows, key=lambda r: chance("mix", r))))
        return
    found = join(rows, read(AUDIT))
    print(agreement(found))
    compound = read(options.data / "tinyagent/test_public.jsonl")
    retrievers: list[tuple[str, Retriever]] = [
        ("BM25, top 6", BM25Retriever(BM25Config(top=6))),
        ("BM25, top 8", BM25Retriever(BM25Config(top=8))),
        ("classifier", DebertaRetriever(options.classifier)),
        ("classifier, 10 % misses", DebertaRetriever(options.classifier, miss=Fraction(1, 10))),
    ]
    print(HEADER)
    for name, retriever in retrievers:
        print(line(name, found, [retriever.select(one.text, TINYAGENT16) for one in found]))
    print(f"\n{COMPOUND_HEADER}")
    for name, retriever in retrievers:
        print(compound_line(name, compound, read(COMPOUND), retriever))


def draw(rows: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the rows that were read: each kind's first ones in the order of their hashes."""
    drawn = []
    by_text = {normalized(row["text"]): row for row in rows}
    held_out = [row for row in by_text.values() if number(normalized(row["text"])) % 5 == 0]
    for kind, count in DRAWN.items():
        found = [row for row in held_out if row["kind"] == kind]
        drawn += sorted(found, key=lambda row: chance(SALT, row))[:count]
    return drawn


def join(rows: Sequence[dict[str, Any]], audit: Sequence[dict[str, Any]]) -> list[Audited]:
    """Return the rows with both labels.

    Raises:
        InputError: A row was not audited: the shared set is another one.
    """
    labels = {label["row"]: label["any_of"] for label in audit}
    missing = sum(key(row["text"]) not in labels for row in rows)
    if missing:
        raise InputError(f"{missing} of {len(rows)} rows are not in {AUDIT}: other data was read")
    return [
        Audited(
            text=row["text"],
            kind=row["kind"],
            automatic=sets(row["any_of"]),
            any_of=sets(labels[key(row["text"])]),
        )
        for row in rows
    ]


def agreement(found: Sequence[Audited]) -> str:
    """Say how the two labels agree."""
    lines = []
    for kind in DRAWN:
        rows = [one for one in found if one.kind == kind]
        counts = {
            verdict: sum(one.verdict == verdict for one in rows)
            for verdict in ("tool", "either", "none")
        }
        same = sum(bool(set(one.automatic) & set(one.any_of)) for one in rows)
        lines.append(f"{kind}: {len(rows)} rows, read as {counts}; {same} share a set of tools")
    return "\n".join([*lines, ""])


HEADER = (
    "| retriever | automatic: complete | tools | missed | read: complete | tools | missed "
    "| fires near, automatic | read | silent where a tool serves |\n" + "|---" * 10 + "|"
)


def line(name: str, found: Sequence[Audited], kept: Sequence[Retrieved]) -> str:
    """Return a row of the table."""
    pairs = list(zip(found, kept, strict=True))
    labeled = [pair for pair in pairs if pair[0].kind == "tool"]
    needing = [pair for pair in labeled if pair[0].verdict == "tool"]
    near = [pair for pair in pairs if pair[0].kind == "none_near"]
    none = [pair for pair in near if pair[0].verdict == "none"]
    served = [pair for pair in near if pair[0].verdict == "tool"]
    cells = [
        name,
        share(complete(one.automatic, out) for one, out in labeled),
        f"{sum(len(out.tools) for _, out in labeled) / len(labeled):.2f}",
        share(out.abstain for _, out in labeled),
        share(complete(one.any_of, out) for one, out in needing),
        f"{sum(len(out.tools) for _, out in needing) / len(needing):.2f}",
        share(out.abstain for _, out in needing),
        share(not out.abstain for _, out in near),
        share(not out.abstain for _, out in none),
        share(out.abstain for _, out in served),
    ]
    return f"| {' | '.join(cells)} |"


COMPOUND_HEADER = (
    "| retriever | compound: complete by label | by reading | by the second reading | tools |\n"
    + "|---" * 5
    + "|"
)


def compound_line(
    name: str, rows: Sequence[dict[str, Any]], audit: Sequence[dict[str, Any]], by: Retriever
) -> str:
    """Return a row of the table of compound requests."""
    labels = {label["row"]: label for label in audit}
    kept = [by.select(row["question"], TINYAGENT16) for row in rows]
    pairs = [(labels[key(row["question"])], out) for row, out in zip(rows, kept, strict=True)]
    cells = [
        name,
        share(
            set(row["tools"]) <= set(out.tools.names) for row, out in zip(rows, kept, strict=True)
        ),
        share(complete(sets(label["any_of"]), out) for label, out in pairs),
        share(complete(sets(label["second"]), out) for label, out in pairs if "second" in label),
        f"{sum(len(out.tools) for out in kept) / len(kept):.2f}",
    ]
    return f"| {' | '.join(cells)} |"


def sets(any_of: Iterable[Iterable[str]]) -> Sets:
    """Return acceptable sets as sets."""
    return tuple(map(frozenset, any_of))


def complete(any_of: Sets, kept: Retrieved) -> bool:
    """Return whether an acceptable set is among the tools kept."""
    return any(group <= set(kept.tools.names) for group in any_of)


def share(found: Iterable[bool]) -> str:
    """Return a share with its counts."""
    values = list(found)
    return f"{sum(values) / len(values):.3f} ({sum(values)}/{len(values)})"


def read(path: Path) -> list[dict[str, Any]]:
    """Read a JSONL file."""
    return [json.loads(text) for text in path.read_text(encoding="utf-8").splitlines()]


def normalized(text: str) -> str:
    """Return a text, case and blanks aside."""
    return " ".join(text.lower().split())


def number(text: str) -> int:
    """Return the number that parts the rows; as in bench_retrieval.py."""
    return int(hashlib.sha256(text.encode()).hexdigest()[:8], 16)


def chance(salt: str, row: dict[str, Any]) -> str:
    """Return what orders the rows."""
    return hashlib.sha256(f"{salt} {normalized(row['text'])}".encode()).hexdigest()


if __name__ == "__main__":
    main()
