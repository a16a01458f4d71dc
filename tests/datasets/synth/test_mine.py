"""Mining takes wording between arguments, never whole sentences, never closed sources."""

from __future__ import annotations

import json
from pathlib import Path
from random import Random

import pytest

from mlx_tinyagent.datasets.synth import grammar
from mlx_tinyagent.datasets.synth.chain import chain, long_spans
from mlx_tinyagent.datasets.synth.mine import is_mined, mine
from mlx_tinyagent.datasets.synth.strata import Studio
from mlx_tinyagent.tools.catalog import TINYAGENT16

SILVER = Path(__file__).resolve().parents[4] / "shared/data/human_tool_silver/dev_train.jsonl"


def row(
    text: str, tools: list[str], *entities: tuple[str, str], source: str = "hwu"
) -> dict[str, object]:
    """Make a silver row."""
    return {
        "id": text,
        "source": source,
        "text": text,
        "kind": "tool" if tools else "none_far",
        "any_of": [tools],
        "entities": [{"type": kind, "text": value} for kind, value in entities],
    }


def write(folder: Path, rows: list[dict[str, object]]) -> Path:
    """Write rows to a file."""
    path = folder / "silver.jsonl"
    path.write_text("".join(json.dumps(r) + "\n" for r in rows))
    return path


def mined_texts(pattern: str, count: int) -> list[str]:
    """Return texts that fall into the half that is mined."""
    texts = (pattern.format(n) for n in range(1000))
    return [text for text in texts if is_mined(None, text)][:count]


def test_a_pattern_is_wording_with_slots(tmp_path: Path) -> None:
    """Names and dates become slots; the words between stay."""
    rows = [
        row(text, ["create_calendar_event"], ("event_name", text.split()[1]))
        for text in mined_texts("schedule thing{} on friday at 3", 12)
    ]
    found = mine(write(tmp_path, rows)).templates["create_calendar_event"]
    assert set(found) == {"schedule {title=mined_event} on {start_date=mined_timed}"} or set(
        found
    ) == {"schedule {title=mined_event} {start_date=mined_timed}"}


def test_closed_sources_are_not_mined(tmp_path: Path) -> None:
    """CC BY-SA rows leave no trace."""
    rows = [
        row(text, ["create_calendar_event"], ("event_name", "lunch"), source="smcalflow")
        for text in mined_texts("schedule lunch on friday at 3 number {}", 12)
    ]
    rows += [row(text, [], source="hwu") for text in mined_texts("tell me joke {}", 6)]
    assert "create_calendar_event" not in mine(write(tmp_path, rows)).templates


def test_rows_of_the_other_half_are_not_mined(tmp_path: Path) -> None:
    """Text that the hash leaves out gives nothing."""
    texts = [t for n in range(200) if not is_mined(None, t := f"play song {n}")][:20]
    assert mine(write(tmp_path, [row(t, []) for t in texts])).templates == {}


def test_a_chain_copies_no_five_words() -> None:
    """Sequences recombine triples, and none has a run of five words of its sources."""
    texts = ["a b c d e f", "x b c d e y", "a b c z", "q c d r"]
    grams = long_spans(texts)
    drawn = chain([t.split() for t in texts], grams, seed="s", count=300)
    assert drawn == chain([t.split() for t in texts], grams, seed="s", count=300)
    for parts in drawn:
        text = " ".join(parts)
        assert not any(gram in text for gram in grams)


@pytest.mark.shared
def test_mined_templates_of_the_shared_rows_hold_no_long_span() -> None:
    """No literal run of five words of any template stands in a row; all templates parse."""
    if not SILVER.exists():
        pytest.skip(f"{SILVER} is not here")
    found = mine(SILVER)
    texts = [json.loads(line)["text"] for line in SILVER.read_text().splitlines()]
    grams = long_spans(texts)
    assert len(found.templates) >= 12
    for templates in found.templates.values():
        for text in set(templates):
            grammar.parse(text)
            words = text.split()
            runs = zip(*(words[i:] for i in range(5)), strict=False)
            assert not any(" ".join(run) in grams for run in runs), text
    studio = Studio(TINYAGENT16, found.templates, found.lexicons)
    drafts = [studio.short(Random(n)) for n in range(200)]
    assert sum(draft is not None for draft in drafts) > 180
