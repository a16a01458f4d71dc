#!/usr/bin/env python
"""Choose the rows of ``data synth`` that a planner learns most from.

    mlx-tinyagent data synth --out data --count 60000 --seed 7
    scripts/planner_mix.py data --out mix --seed 21

Synthetic requests have the tools and arguments of TinyAgent's, so what its authors asked
for rarely (a list, a calendar, a length, the way on foot, a text that another step
returns) is rare in them too. Here such rows are drawn more often, typed requests more
often than written ones, and long ones not at all: an example's price is its tokens.
"""

from __future__ import annotations

import json
import random
import sys
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import click

Row = Mapping[str, Any]

MOST_CHARACTERS = 700  # of request and calls together
SHARES = {
    "synth/compound, typed": 1150,
    "synth/compound, written": 450,
    "synth/short": 600,
    "synth/follow": 350,
    "synth/ask": 380,
    "synth/near": 550,
    "synth/far": 100,
}
# How much more often a row is drawn for each thing that is rare in the plans.
PULL = {
    "list": 4.0,
    "calendar": 4.0,
    "duration": 4.0,
    "priority": 3.0,
    "text from a step: compose_new_email": 2.5,
    "text from a step: send_sms": 2.0,
    "end": 2.0,
    "transport": 2.0,
    "cc": 2.0,
    "start": 1.5,
    "zoom invitees": 1.5,
    "text from a step: create_note": 1.2,
    "text from a step: append_note_content": 1.2,
    "text from a step: create_calendar_event": 1.0,
    "text from a step: forward_email": 1.0,
    "text from a step: reply_to_email": 0.7,
    "attachments": 1.0,
    "folder": 1.0,
    "invitees": 1.0,
    "note content": 0.7,
    "forward_email": 0.4,
    "reply_to_email": 0.4,
}
BASE = 0.25  # of a row that has none of it


def features(row: Row) -> set[str]:
    """Return what is rare about a row's plan."""
    return {name for call in row["plan"] for name in _features(call["tool"], call["args"])}


def _features(tool: str, args: list[Any]) -> Iterator[str]:
    rare: dict[str, Callable[[], dict[str, Any]]] = {
        "create_calendar_event": lambda: {
            "end": args[2],
            "invitees": args[4],
            "calendar": args[6],
        },
        "create_reminder": lambda: {"list": args[3], "priority": args[4]},
        "get_zoom_meeting_link": lambda: {"duration": args[2] != 60, "zoom invitees": args[3]},
        "maps_show_directions": lambda: {"start": args[0], "transport": args[2] != "d"},
        "open_note": lambda: {"folder": args[1]},
        "create_note": lambda: {
            "note content": args[1] and "$" not in args[1],
            "folder": args[2],
        },
        "append_note_content": lambda: {"folder": args[2]},
        "compose_new_email": lambda: {"cc": args[1], "attachments": args[4]},
        "forward_email": lambda: {"forward_email": True},
        "reply_to_email": lambda: {"reply_to_email": True},
    }
    if tool in rare:
        yield from (name for name, found in rare[tool]().items() if found)
    texts = {
        "create_calendar_event": 5,
        "create_note": 1,
        "append_note_content": 1,
        "send_sms": 1,
        "compose_new_email": 3,
        "forward_email": 2,
        "reply_to_email": 1,
    }
    if tool in texts and "$" in str(args[texts[tool]]):
        yield f"text from a step: {tool}"


def stratum(row: Row) -> str:
    """Return the kind of a row; of compound requests also how it is written."""
    kind: str = row["source"]
    if kind != "synth/compound":
        return kind
    query = row["query"]
    written = '"' in query or (query.rstrip().endswith(".") and query[0].isupper())
    return f"{kind}, {'written' if written else 'typed'}"


def choose(rows: list[Row], rng: random.Random) -> list[Row]:
    """Draw the mix, without repetition.

    Weighted draws without replacement are those of Efraimidis and Spirakis (2006):
    the rows with the largest ``u ** (1 / weight)``.
    """
    pools: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        size = len(row["query"]) + sum(len(json.dumps(call)) for call in row["plan"])
        if size <= MOST_CHARACTERS:
            pools[stratum(row)].append(row)
    chosen = []
    for kind, count in SHARES.items():
        pool = pools[kind]
        if len(pool) < count:
            raise click.ClickException(
                f"{len(pool)} rows of {kind}, and {count} are wanted: make more with data synth"
            )
        if "compound" in kind or "short" in kind:
            pool = sorted(pool, key=lambda row: rng.random() ** (1 / _weight(row)), reverse=True)
            chosen += pool[:count]
        else:
            chosen += rng.sample(pool, count)
    rng.shuffle(chosen)
    return chosen


def _weight(row: Row) -> float:
    return BASE + sum(PULL[name] for name in sorted(features(row)))


@click.command()
@click.argument("data", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Folder to write.")
@click.option("--seed", default=21, show_default=True)
def main(data: Path, out: Path, seed: int) -> None:
    """Choose training rows from a folder of data synth."""
    lines = (data / "train.jsonl").read_text(encoding="utf-8").splitlines()
    chosen = choose([json.loads(line) for line in lines], random.Random(seed))
    out.mkdir(parents=True, exist_ok=True)
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in chosen)
    (out / "train.jsonl").write_text(text, encoding="utf-8")
    (out / "valid.jsonl").write_bytes((data / "valid.jsonl").read_bytes())
    for name, count in Counter(n for row in chosen for n in features(row)).most_common():
        click.echo(f"{count:5d}  {name}", err=True)
    click.echo(f"{len(chosen)} rows in {out}", err=True)


if __name__ == "__main__":
    sys.exit(main())
