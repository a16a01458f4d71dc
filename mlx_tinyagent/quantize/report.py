"""The report of a quantization: one JSON document, and a page with plots made from it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import TYPE_CHECKING, Any

from mlx_tinyagent.evaluate.harness_run import describe_machine
from mlx_tinyagent.evaluate.report_page import page, table
from mlx_tinyagent.quantize.gate import failures
from mlx_tinyagent.quantize.recipe import mean_bits

if TYPE_CHECKING:
    from mlx_tinyagent.quantize.gate import Verdict
    from mlx_tinyagent.quantize.pipeline import Choice
    from mlx_tinyagent.quantize.score import Score
    from mlx_tinyagent.quantize.settings import QuantizeConfig

FORMAT = 1
JSON, HTML = "quantization_report.json", "quantization_report.html"
_COLORS = {2: "#7a1f1f", 3: "#b3541e", 4: "#8aa62f", 5: "#3f8f5f", 6: "#2f7fb3", 8: "#2f4fb3"}
_CELL = 17  # pixels of a matrix in the map


def document(
    *,
    source: Mapping[str, Any],
    config: QuantizeConfig,
    choice: Choice,
    shapes: Mapping[str, tuple[int, int]],
    size: int,
    calibration: Mapping[str, Any],
    verdict: Verdict | None,
    scores: Sequence[Score],
    items: tuple[Sequence[Mapping[str, Any]], Sequence[Mapping[str, Any]]] | None,
    seconds: Mapping[str, float],
) -> dict[str, Any]:
    """Put everything a reader may ask for into plain data.

    Args:
        source: What was quantized, by name and fingerprint.
        config: The settings.
        choice: Formats and the measurement behind them.
        shapes: Rows and columns per matrix.
        size: Bytes of the weights on disk.
        calibration: What it was calibrated on.
        verdict: The gate's; None where there was none.
        scores: Rows that were read.
        items: Plans written by reference and model.
        seconds: Time by stage.
    """
    sizes = {name: rows * columns for name, (rows, columns) in shapes.items()}
    return {
        "format": FORMAT,
        **(verdict.as_dict() if verdict else {"verdict": "not gated", "checks": []}),
        "source": dict(source),
        "config": config.as_dict(),
        "bits": round(mean_bits(choice.formats, sizes, cost=False), 4),
        "bits_on_disk": round(mean_bits(choice.formats, sizes, cost=True), 4),
        "bytes": size,
        "expected_kl": choice.expected_kl,
        "calibration": dict(calibration),
        "matrices": {
            name: form.as_dict()
            | ({"expected_kl": choice.table[name][form]} if choice.table is not None else {})
            for name, form in choice.formats.items()
        },
        "rows": [score.as_dict() for score in scores],
        "failures": None
        if items is None
        else {"reference": failures(items[0]), "model": failures(items[1])},
        "seconds": {name: round(value, 1) for name, value in seconds.items()},
        "machine": describe_machine(),
    }


def render(report: Mapping[str, Any]) -> str:
    """Return the page of a report."""
    body = [
        f'<p class="soft">{escape(_headline(report))}</p>',
        "<h2>Gate</h2>",
        _checks(report["checks"]) if report["checks"] else "<p>There was none.</p>",
    ]
    if report["rows"]:
        body += ["<h2>KL per row, sorted</h2>", _bars([row["kl"] for row in report["rows"]])]
    body += ["<h2>Bits per matrix</h2>", _map(report["matrices"])]
    if report["failures"]:
        body += ["<h2>What is wrong in written plans</h2>", _failures(report["failures"])]
    machine = report["machine"]
    packages = ", ".join(f"{name} {found}" for name, found in machine["packages"].items() if found)
    body.append(
        f"<footer><p>{escape(machine['processor'] or machine['machine'])}, {machine['cores']} "
        f"cores, {escape(machine['system'])}</p><p>{escape(packages)}</p></footer>"
    )
    return page(f"Quantization: {report['verdict']}", body)


def _headline(report: Mapping[str, Any]) -> str:
    source = report["source"]
    fused = ", adapter fused" if source.get("fused_adapter") else ""
    return (
        f"{source['name']}{fused}: {report['bits_on_disk']:.2f} bits per weight on disk, "
        f"{report['bytes'] / 1e6:.1f} MB; calibrated on {report['calibration']['rows']} rows"
    )


def _checks(checks: Sequence[Mapping[str, Any]]) -> str:
    rows = [
        [
            escape(check["name"]),
            f"{check['reference']:.4f}",
            f"{check['model']:.4f}",
            f"{check['difference']:+.4f}",
            f"{check['low']:+.4f} to {check['high']:+.4f}",
            str(check["n"]),
            escape(check["limit"]),
            escape(check["state"]),
        ]
        for check in checks
    ]
    head = ["figure", "reference", "model", "difference", "95 %", "rows", "limit", "outcome"]
    return table(head, rows)


def _bars(values: Sequence[float]) -> str:
    """Draw values as bars, the largest first."""
    ordered = sorted(values, reverse=True)
    top = max(ordered[0], 1e-9)
    width, height = 720, 140
    step = width / len(ordered)
    bars = "".join(
        f'<rect x="{index * step:.1f}" y="{height - height * value / top:.1f}" '
        f'width="{max(step - 1, 0.5):.1f}" height="{height * value / top:.1f}" fill="#2f66b3"/>'
        for index, value in enumerate(ordered)
    )
    return (
        f'<svg viewBox="0 0 {width} {height}" width="{width}" height="{height}" role="img">'
        f"<title>KL per row, nats per plan token</title>{bars}</svg>"
        f'<p class="soft">largest {ordered[0]:.4f}, median {ordered[len(ordered) // 2]:.4f} '
        "nats per plan token</p>"
    )


def _map(matrices: Mapping[str, Mapping[str, Any]]) -> str:
    """Draw the bits of every matrix: blocks from left to right, kinds from top to bottom."""
    blocks: dict[int, dict[str, int]] = {}
    apart: dict[str, int] = {}
    for name, form in matrices.items():
        parts = name.split(".")
        if parts[:2] == ["model", "layers"]:
            blocks.setdefault(int(parts[2]), {})[".".join(parts[3:])] = form["bits"]
        else:
            apart[name] = form["bits"]
    kinds = list(dict.fromkeys(kind for block in blocks.values() for kind in block))
    lines = [*kinds, *apart]
    cells = []
    for row, line in enumerate(lines):
        y = 14 + row * (_CELL + 2)
        cells.append(f'<text x="0" y="{y + 12}" font-size="11">{escape(line)}</text>')
        found = [apart[line]] if line in apart else [blocks[i].get(line, 0) for i in sorted(blocks)]
        for column, bits in enumerate(found):
            x = 130 + column * (_CELL + 2)
            cells.append(
                f'<rect x="{x}" y="{y}" width="{_CELL}" height="{_CELL}" rx="2" '
                f'fill="{_COLORS.get(bits, "#888")}"/><text x="{x + _CELL / 2}" y="{y + 12.5}" '
                f'font-size="10.5" text-anchor="middle" fill="#fff">{bits}</text>'
            )
    width = 140 + max(len(blocks), 1) * (_CELL + 2)
    height = 20 + len(lines) * (_CELL + 2)
    return (
        f'<div class="scroll"><svg viewBox="0 0 {width} {height}" width="{width}" '
        f'height="{height}" fill="currentColor" role="img"><title>Bits per matrix</title>'
        f"{''.join(cells)}</svg></div>"
    )


def _failures(found: Mapping[str, Mapping[str, Mapping[str, int]]]) -> str:
    rows = []
    for kind in ("reasons", "arguments"):
        first, second = found["reference"][kind], found["model"][kind]
        rows += [
            [escape(f"{kind}: {name}"), str(first.get(name, 0)), str(second.get(name, 0))]
            for name in sorted({*first, *second})
        ]
    return table(["what", "reference", "model"], rows)
