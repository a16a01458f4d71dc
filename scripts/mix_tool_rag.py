"""Draw the mixes that the shipped tool classifier was trained on after its first stage.

    python scripts/make_tool_rag_data.py --data ../shared/data --synth synth --out tool-rag --more
    python scripts/mix_tool_rag.py tool-rag --stage 4 --out stage4

Each stage starts from the classifier of the one before; ``docs/tool-rag.md`` has the commands.
The first takes all rows; a later one has so many rows of each origin, each so often. The first
three stages were trained before labels were corrected by intent (``tool_rag_labels.py``): their
rows are made with ``--as-labeled``. Rows of people and of TinyAgent are the same on every machine;
generated ones are those of the installed generator.
"""

from __future__ import annotations

import argparse
import json
import random
from collections import Counter, defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlx_tinyagent.errors import InputError


@dataclass(frozen=True, slots=True)
class Part:
    """Rows of one origin in a mix.

    Attributes:
        origin: ``tinyagent``, ``silver-`` and ``more-`` with a kind, ``corrected`` (to a tool),
            ``corrected-text`` (to a text message), or what a generated row has as its source.
        rows: How many are drawn; None for all.
        times: How often each stands in the mix.
    """

    origin: str
    rows: int | None = None
    times: int = 1


@dataclass(frozen=True, slots=True)
class Mix:
    """One stage.

    Attributes:
        seed: Decides the rows.
        parts: What it holds.
        valid: Validation rows at most; None for all. From stage 3 on, none is generated.
    """

    seed: int
    parts: tuple[Part, ...]
    valid: int | None = None


MIXES = {
    2: Mix(
        5,
        (
            Part("tinyagent", times=3),
            Part("silver-tool"),
            Part("silver-none_near"),
            Part("silver-none_far", 1500),
            Part("synth/compound", 2600),
            Part("synth/short", 1300),
            Part("synth/near", 1100),
            Part("synth/far", 800),
            Part("synth/follow", 240),
        ),
        valid=300,
    ),
    3: Mix(
        7,
        (
            Part("tinyagent", times=5),
            Part("silver-tool", times=2),
            Part("silver-none_near", times=2),
            Part("silver-none_far", 2400),
            Part("more-none_near"),
            Part("more-none_far", 2000),
            Part("synth/compound", 3500),
            Part("synth/short", 1500),
            Part("synth/near", 1500),
            Part("synth/far", 600),
            Part("synth/follow", 200),
        ),
    ),
    4: Mix(
        9,
        (
            Part("tinyagent", times=2),
            Part("silver-tool"),
            Part("corrected", times=5),
            Part("corrected-text", times=5),
            Part("silver-none_near"),
            Part("silver-none_far", 900),
            Part("more-none_near"),
            Part("more-none_far", 900),
            Part("synth/compound", 700),
            Part("synth/short", 700),
            Part("synth/near", 500),
            Part("synth/far", 200),
            Part("synth/follow", 100),
        ),
    ),
    5: Mix(
        11,
        (
            Part("corrected-text", times=5),
            Part("tinyagent", 500),
            Part("silver-tool", 600),
            Part("corrected", 100),
            Part("silver-none_near", 500),
            Part("silver-none_far", 200),
            Part("more-none_far", 200),
            Part("synth/compound", 300),
            Part("synth/short", 200),
            Part("synth/near", 150),
            Part("synth/far", 60),
        ),
        valid=100,
    ),
}
MESSAGE = [["get_phone_number", "send_sms"]]
REAL_VALID = 3  # first stage whose validation rows were all written by people or for TinyAgent
Row = dict[str, Any]


def main() -> None:
    """Read, draw, write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("data", type=Path, help="Folder that make_tool_rag_data.py wrote.")
    parser.add_argument("--stage", type=int, choices=sorted(MIXES), required=True)
    parser.add_argument("--out", type=Path, required=True, help="Folder to write.")
    options = parser.parse_args()
    mix = MIXES[options.stage]
    dice = random.Random(mix.seed)
    by_origin: dict[str, list[Row]] = defaultdict(list)
    for row in read(options.data / "train.jsonl"):
        if not str(row["id"]).endswith(("/1", "/2")):  # copies; a mix makes its own
            by_origin[origin_of(row)].append(row)
    valid = read(options.data / "valid.jsonl")
    dice_valid = random.Random(mix.seed)
    dice_valid.shuffle(valid)
    if options.stage >= REAL_VALID:
        valid = [row for row in valid if not row["source"].startswith("synth")]
    rows = [row for part in mix.parts for row in draw(by_origin, part, dice)]
    write(options.out / "train.jsonl", rows)
    write(options.out / "valid.jsonl", valid[: mix.valid])
    count = Counter(origin_of(row) for row in rows)
    print(len(rows), dict(sorted(count.items())), "valid", len(valid[: mix.valid]))


def draw(by_origin: dict[str, list[Row]], part: Part, dice: random.Random) -> list[Row]:
    """Return the rows of one part, each copy with an id of its own.

    Raises:
        InputError: There is no row of that origin.
    """
    found = by_origin.get(part.origin, [])
    if not found:
        raise InputError(f"no row of origin {part.origin!r}; was --more given when they were made?")
    if part.rows is not None:
        found = dice.sample(found, min(part.rows, len(found)))
    return [{**row, "id": f"{row['id']}#{copy}"} for copy in range(part.times) for row in found]


def origin_of(row: Row) -> str:
    """Return where a row comes from, as mixes name it."""
    name, source = str(row["id"]), str(row["source"])
    if name.startswith("corrected-"):
        return "corrected-text" if row["any_of"] == MESSAGE else "corrected"
    if source.startswith("synth"):
        return source
    if source.lower().startswith("tinyagent"):
        return "tinyagent"
    return f"{'more' if '-more-' in name else 'silver'}-{row['kind']}"


def read(path: Path) -> list[Row]:
    """Read a JSONL file."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def write(path: Path, rows: list[Row]) -> None:
    """Write a JSONL file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(
        "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8"
    )


if __name__ == "__main__":
    main()
