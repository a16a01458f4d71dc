"""Make the data that the shipped tool classifier is trained, calibrated and judged on.

    mlx-tinyagent data synth --out synth --count 80000 --seed 0
    python scripts/make_tool_rag_data.py --data ../shared/data --synth synth --out tool-rag

Rows of people and of TinyAgent are grouped by near-duplicate requests (token
Jaccard 0.8); a group stands on one side only. ``test.jsonl`` has the fifth of
the silver rows that ``bench_retrieval.py`` judges on and is not trained on;
nor are TinyAgent's public test rows, the hand-written sets, and generated rows
that say the same as any row held out. Rows under CC BY-SA are left out of all
files but the test. ``--more`` adds commands of CLINC150, NLU-Evaluation-Data,
SLURP and botframework-components to the training rows whose intent needs none
of the tools. Labels that were made by rules are corrected by intent
(``tool_rag_labels.py``); calibration rows of people have labels that were read
one by one (``data/audited``), those that could go either way are left out, and
the hand-written requests that are there to tune on calibrate too.
Files hold ``{id, source, kind, text, any_of}``.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import re
import tempfile
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from tool_rag_labels import Sets, corrected, read_audit
from tool_rag_labels import key as audited_row

from mlx_tinyagent.agent.planner import retrieval_query
from mlx_tinyagent.datasets.dedupe import Known, normalized
from mlx_tinyagent.datasets.record import Example, ExampleKind
from mlx_tinyagent.datasets.split import split
from mlx_tinyagent.evaluate.harness_items import Item, read_items
from mlx_tinyagent.prompt.render import Request

SHARE_ALIKE = "smcalflow"
AUDIT = Path(__file__).parents[1] / "data" / "audited" / "calibration.jsonl"
SIDES = {"train": "train", "valid": "valid", "test": "calibration"}  # of split()
VALID, CALIBRATION = 0.06, 0.24
# Files of further commands, the silver rows' name of the source, and of a row's intent.
MORE = (
    ("clinc150/train.jsonl", "clinc150", "{intent}"),
    ("clinc150/val.jsonl", "clinc150", "{intent}"),
    ("hwu_nlu_evaluation/hwu_minus_slurp_eval.jsonl", "hwu", "{scenario}_{action}"),
    ("slurp/slurp_devel.jsonl", "slurp", "{intent}"),
    ("msbot_lu/msbot_assistant_utterances.jsonl", "msbot", "{skill}/{intent}"),
)
# Intents of CLINC150 that a calendar, a reminder or a map may serve.
UNCLEAR = frozenset(
    """
    alarm timer restaurant_suggestion restaurant_reviews restaurant_reservation travel_suggestion
    how_busy find_phone schedule_maintenance pto_request meal_suggestion uber cancel
    """.split()
)
# Generated near misses that a tool serves after all, by tool_rag_labels.py.
SERVED = re.compile(
    r"traffic|how far|drive time|\blocation\b|whereabouts|where i am|"
    r"^(?!.*\b(delete|remove|cross|check|clear|nuke|take|erase|mark|reminders?|get rid|drop"
    r"|scratch)\b).*\b(shopping|grocery|groceries|to-?do)\b.*\blist",
    re.IGNORECASE,
)
REPEAT = {"tinyagent": 3, "silver": 2}  # real rows among many generated ones


def main() -> None:
    """Read, part, write."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--data", type=Path, required=True, help="Folder with the shared sets.")
    parser.add_argument("--synth", type=Path, required=True, help="Folder of data synth.")
    parser.add_argument("--out", type=Path, required=True, help="Folder to write.")
    parser.add_argument("--handwritten", type=Path, default=Path("data/handwritten"))
    parser.add_argument("--more", action="store_true", help="Add further commands without a tool.")
    parser.add_argument(
        "--as-labeled", action="store_true", help="Leave labels as rules made them."
    )
    options = parser.parse_args()
    silver = read_items(options.data / "human_tool_silver/dev_train.jsonl").items
    tinyagent = read_items(options.data / "tinyagent/train.jsonl", skip_bad=True).items
    kept_out = [*read_items(options.data / "tinyagent/test_public.jsonl").items]
    by_hand = {path.stem: read_items(path).items for path in options.handwritten.glob("*.jsonl")}
    for items in by_hand.values():
        kept_out += items

    test = [item for item in silver if digest(item.query) % 5 == 0]
    unseen = Known([text(item) for item in (*kept_out, *test)])
    real = [
        item
        for item in (*tinyagent, *(i for i in silver if i.source != SHARE_ALIKE))
        if digest(item.query) % 5 != 0 or item in tinyagent
    ]
    real = [item for item in real if unseen.closest(text(item)) is None]
    sides = part(real)
    intents = {} if options.as_labeled else intents_of(options.data)
    audit = read_audit(AUDIT)
    for side in ("train", "valid"):
        sides[side] = relabeled(sides[side], intents)
    sides["calibration"] = [
        changed
        for item in sides["calibration"]
        for changed in with_label(item, audit.get(audited_row(item.query), item.any_of))
    ]
    sides["calibration"] += [item for item in by_hand.get("tune", ()) if item.kind == "tool"]
    held_out = Known([text(i) for i in (*kept_out, *test, *sides["valid"], *sides["calibration"])])
    for side in ("train", "valid"):  # what is promised is about requests that were not generated
        rows = unique(read_items(options.synth / f"{side}.jsonl").items)
        if side == "train":
            rows = [item for item in rows if held_out.closest(text(item)) is None]
            rows = [item for item in rows if options.as_labeled or not mislabeled(item)]
        sides[side] += rows
    if options.more:
        known = {normalized(text(item)) for item in silver}
        more = [
            item
            for item in unique(more_without_tool(options.data))
            if normalized(item.query) not in known and held_out.closest(item.query) is None
        ]
        sides["train"] += relabeled(more, intents)
    for side, rows in {**sides, "test": test}.items():
        write(options.out / f"{side}.jsonl", rows, repeat=side == "train")


def part(items: Sequence[Item]) -> dict[str, list[Item]]:
    """Part rows into train, valid and calibration by near-duplicate group."""
    by_id = {str(number): item for number, item in enumerate(items)}
    shells = [
        Example(id=key, query=text(item), tools=(), source="", licence="", kind="none_far")
        for key, item in by_id.items()
    ]
    found = split(shells, valid=VALID, test=CALIBRATION, seed=0)
    return {SIDES[name]: [by_id[shell.id] for shell in rows] for name, rows in found.items()}


Intents = dict[str, tuple[str, str]]  # source and intent of a command, by its normalized text


def intents_of(data: Path) -> Intents:
    """Return what the sources of people's commands say they mean."""
    found: Intents = {}
    for file, source, name in MORE:
        for row in read(data / file):
            found[normalized(row["text"])] = (source, name.format(**row))
    for row in read(data / "human_tool_silver/dev_train.jsonl"):
        found[normalized(row["text"])] = (row["source"], row["intent"])
    return found


def relabeled(items: Iterable[Item], intents: Intents) -> list[Item]:
    """Return rows with labels corrected by intent, less those that could go either way."""
    kept: list[Item] = []
    for item in items:
        meaning = intents.get(normalized(item.query))
        if meaning is None or item.any_of is None:
            kept.append(item)
        else:
            sets = corrected(*meaning, item.kind, item.query, item.any_of)
            kept += with_label(item, sets)
    return kept


def with_label(item: Item, any_of: Sets | None) -> list[Item]:
    """Return a row with other acceptable sets; none where no tool is one of several answers.

    Args:
        item: The row.
        any_of: The sets; None for a row that has a plan instead.
    """
    if any_of is None or any_of == item.any_of:
        return [item]
    if not any_of or (any(any_of) and not all(any_of)):
        return []
    none: ExampleKind = "none_far" if item.kind == "none_far" else "none_near"
    kind: ExampleKind = "tool" if all(any_of) else none
    mark = "corrected-" if kind != item.kind and kind == "tool" else ""
    return [replace(item, any_of=any_of, kind=kind, id=f"{mark}{item.id}")]


def mislabeled(item: Item) -> bool:
    """Whether a generated near miss asks for what Maps, messages or notes do serve."""
    return item.kind == "none_near" and bool(SERVED.search(item.query))


def more_without_tool(data: Path) -> list[Item]:
    """Return commands whose intent needs no tool, wherever the silver rows know it.

    An intent that the silver rows know needs none if none of its rows does;
    CLINC150's other intents are of other domains, but for ``UNCLEAR``.
    """
    kinds: dict[tuple[str, str], set[str]] = {}
    for row in read(data / "human_tool_silver/dev_train.jsonl"):
        kinds.setdefault((row["source"], row["intent"]), set()).add(row["kind"])
    found: list[dict[str, Any]] = []
    for file, source, name in MORE:
        for row in read(data / file):
            intent = name.format(**row)
            kind = kinds.get((source, intent))
            if kind is None and source == "clinc150" and intent not in UNCLEAR:
                kind = {"none_far"}
            if kind is not None and len(kind) == 1 and "tool" not in kind:
                item = {"id": f"more-{len(found)}", "source": source, "text": row["text"]}
                found.append({**item, "kind": next(iter(kind)), "any_of": [[]]})
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "more.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in found), encoding="utf-8")
        return list(read_items(path, skip_bad=True).items)


def read(path: Path) -> list[dict[str, Any]]:
    """Read a JSONL file."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def unique(items: Iterable[Item]) -> list[Item]:
    """Keep the first of the rows with the same words."""
    seen: set[str] = set()
    kept = []
    for item in items:
        key = normalized(text(item))
        if key not in seen:
            seen.add(key)
            kept.append(item)
    return kept


def text(item: Item) -> str:
    """Return the text that tools are retrieved for."""
    return retrieval_query(Request(query=item.query, now=item.now, history=item.history))


def write(path: Path, items: Sequence[Item], *, repeat: bool) -> None:
    """Write the rows that say which tools are needed, and count them."""
    path.parent.mkdir(parents=True, exist_ok=True)
    count: Counter[str] = Counter()
    with path.open("w", encoding="utf-8") as file:
        for item in items:
            groups = item.acceptable()
            if groups is None:  # a question is right: nothing is known about tools
                continue
            origin = origin_of(item)
            count[f"{origin} {item.kind}"] += 1
            row = {"source": item.source, "text": text(item), "kind": item.kind}
            body = {**row, "any_of": [sorted(group) for group in groups]}
            for copy in range(REPEAT.get(origin, 1) if repeat else 1):
                line = {"id": f"{item.id}/{copy}" if copy else item.id, **body}
                file.write(json.dumps(line, ensure_ascii=False) + "\n")
    print(path.name, sum(count.values()), dict(sorted(count.items())))


def origin_of(item: Item) -> str:
    """Return ``synth``, ``tinyagent`` or ``silver``."""
    if item.source.startswith("synth"):
        return "synth"
    return "tinyagent" if item.source.lower().startswith("tinyagent") else "silver"


def digest(query: str) -> int:
    """Return a stable number for a text, case and blanks aside; as in bench_retrieval.py."""
    return int(hashlib.sha256(" ".join(query.lower().split()).encode()).hexdigest()[:8], 16)


if __name__ == "__main__":
    main()
