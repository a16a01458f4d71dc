"""The cost curve: what a pass costs by its rows, and how wide drafts should be for it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from mlx_tinyagent.decode import cost
from mlx_tinyagent.decode.cost import DEFAULT_WIDTH, EXPECTED, CostCurve
from mlx_tinyagent.decode.engine import Engine, EngineOptions
from mlx_tinyagent.decode.store import KVStore
from mlx_tinyagent.models.language import LanguageModel

LINE = CostCurve(rows=(1, 2, 4, 8), seconds=(0.2, 0.3, 0.5, 0.9))  # 0.1 + 0.1 per row


@pytest.mark.parametrize(
    ("rows", "seconds"),
    [(0.5, 0.2), (1, 0.2), (1.5, 0.25), (2, 0.3), (3, 0.4), (7, 0.8), (8, 0.9), (20, 2.1)],
)
def test_between_measured_rows_the_curve_is_a_line(rows: float, seconds: float) -> None:
    """Below the first it is flat; beyond the last the whole curve's slope goes on."""
    assert LINE.at(rows) == pytest.approx(seconds)


def test_a_curve_that_falls_at_its_end_does_not_fall_on() -> None:
    """Noise on a busy machine must not make wide passes free of charge."""
    assert CostCurve(rows=(1, 2), seconds=(0.2, 0.1)).at(100) == 0.1


@pytest.mark.parametrize(
    ("rows", "seconds"),
    [
        ((1,), (0.1,)),
        ((1, 2), (0.1,)),
        ((2, 1), (0.1, 0.2)),
        ((1, 1), (0.1, 0.2)),
        ((0, 1), (0.1, 0.2)),
        ((1, 2), (0.1, 0.0)),
        ((1, 2), (0.1, -1.0)),
        ((1, 2), (0.1, float("nan"))),
        ((1, 2), (float("inf"), 0.1)),
    ],
)
def test_what_is_no_curve_is_refused(rows: tuple[int, ...], seconds: tuple[float, ...]) -> None:
    """Lengths, order and durations."""
    with pytest.raises(ValueError, match="no cost curve"):
        CostCurve(rows=rows, seconds=seconds)


class TestWidth:
    """Wide where rows are free, narrow where they are not."""

    def test_free_rows_draft_as_wide_as_helps(self) -> None:
        """Then only the number of passes counts, up to where it hardly falls any more."""
        flat = CostCurve(rows=(1, 24), seconds=(0.1, 0.1))
        fewest = min(expected.passes for expected in EXPECTED)
        chosen = next(e for e in EXPECTED if e.width == flat.width())
        assert chosen.passes <= fewest * (1 + cost.CLOSE)
        assert flat.width() > DEFAULT_WIDTH

    def test_rows_that_cost_their_number_draft_little(self) -> None:
        """A pass over k rows as k passes: rejected drafts are paid in full."""
        steep = CostCurve(rows=(1, 24), seconds=(1.0, 24.0))
        assert steep.width() == 0

    def test_the_more_rows_cost_the_narrower(self) -> None:
        """Over fixed costs from none to a hundred rows' worth."""
        widths = [
            CostCurve(rows=(1, 24), seconds=(fixed + 1.0, fixed + 24.0)).width()
            for fixed in (0, 1, 3, 10, 30, 100)
        ]
        assert widths == sorted(widths)
        assert len(set(widths)) > 3

    def test_plans_that_share_a_pass_draft_narrower(self) -> None:
        """The fixed part of a pass is shared, the rows are not."""
        curve = CostCurve(rows=(1, 24), seconds=(11.0, 34.0))
        widths = [curve.width(plans=plans) for plans in (1, 2, 4, 16)]
        assert widths == sorted(widths, reverse=True)
        assert widths[0] > widths[-1]


def test_an_engine_without_a_curve_takes_the_default(tiny: LanguageModel, tmp_path: Path) -> None:
    """Nothing is measured at a start; a width that is given is taken."""
    store = KVStore(tmp_path / "kv", tiny)
    assert Engine(tiny, store=store).width() == DEFAULT_WIDTH
    assert Engine(tiny).width() == DEFAULT_WIDTH
    assert Engine(tiny, options=EngineOptions(width=3)).width() == 3
    assert not store.folder.exists()


def test_what_was_measured_is_used_by_later_engines(tiny: LanguageModel, tmp_path: Path) -> None:
    """One file beside the KV, found again by the same model on the same machine alone."""
    store = KVStore(tmp_path / "kv", tiny)
    curve = Engine(tiny, store=store).calibrate()
    assert curve is not None
    assert curve.rows == cost.ROWS
    later = Engine(tiny, store=store)
    assert later.curve == curve
    assert later.width() == curve.width()
    assert Engine(tiny, store=store, options=EngineOptions(width=2)).width() == 2
    for other in (
        replace(tiny, fingerprint="other"),
        replace(tiny, adapter_fingerprint="other"),
        replace(tiny, dtype="bfloat16"),
        replace(tiny, packed=True),
    ):
        assert cost.load(store.folder, other) is None


def test_a_model_without_drafts_is_not_measured(tiny: LanguageModel) -> None:
    """Sliding windows cannot be cut back."""
    options = EngineOptions(tier="cold")
    assert Engine(replace(tiny, kind="sliding"), options=options).calibrate() is None


def test_every_damage_is_noticed(tiny: LanguageModel, tmp_path: Path) -> None:
    """Any byte that is changed, any cut and any other content mean measuring anew."""
    assert cost.save(tmp_path, tiny, LINE)
    (file,) = tmp_path.iterdir()
    good = file.read_bytes()
    assert cost.load(tmp_path, tiny) == LINE
    content = json.loads(good)
    for position in range(good.index(b'"rows"'), good.index(b'"for"')):
        for bit in (1, 16):
            file.write_bytes(_flipped(good, position, bit))
            found = cost.load(tmp_path, tiny)
            assert found is None or found == LINE  # white space means nothing
    for bad in (b"", good[:-9], b"[]", b"null", b"\xff", b"{}", b"[" * 10_000):
        file.write_bytes(bad)
        assert cost.load(tmp_path, tiny) is None
    for key, value in (("rows", "x"), ("seconds", [True] * 4), ("digest", 7), ("rows", [1, "a"])):
        file.write_text(json.dumps({**content, key: value}))
        assert cost.load(tmp_path, tiny) is None


def _flipped(data: bytes, position: int, bit: int) -> bytes:
    changed = bytearray(data)
    changed[position] ^= bit
    return bytes(changed)


def test_a_disk_that_refuses_costs_nothing(tiny: LanguageModel, tmp_path: Path) -> None:
    """The curve is used by the engine that measured it, and measured again by the next."""
    (tmp_path / "kv").write_text("in the way")
    assert not cost.save(tmp_path / "kv", tiny, LINE)
    assert cost.load(tmp_path / "kv", tiny) is None
