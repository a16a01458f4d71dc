"""A data sheet to look at: one self-contained HTML page with figures, examples and graphs."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from random import Random

from mlx_tinyagent.datasets.graph_svg import draw
from mlx_tinyagent.datasets.record import Example
from mlx_tinyagent.datasets.stats import Stats, ranked, summary

PER_GROUP = 8  # examples shown per source and kind
MAX_BARS = 24  # bars of one chart; the rest is summed up

_STYLE = """
:root{--ink:#1d2430;--soft:#5b6676;--line:#d7dde6;--bar:#3f6fb5;--back:#fff;--card:#f6f8fb}
@media (prefers-color-scheme:dark){:root{--ink:#e6eaf1;--soft:#9aa6b8;--line:#333d4c;--bar:#7aa2e3;
--back:#12161d;--card:#1a202a}}
body{margin:0;background:var(--back);color:var(--ink);font:15px/1.5 system-ui,sans-serif}
main{max-width:1100px;margin:0 auto;padding:28px 20px 60px}
h1{font-size:26px;margin:0 0 4px}h2{font-size:19px;margin:36px 0 10px}
h3{font-size:15px;margin:0 0 8px}
.lead{color:var(--soft);margin:0 0 18px}
.tiles{display:flex;flex-wrap:wrap;gap:10px}
.tile{background:var(--card);border:1px solid var(--line);border-radius:8px;padding:10px 16px}
.tile b{display:block;font-size:21px}.tile span{color:var(--soft);font-size:13px}
.charts{display:grid;grid-template-columns:repeat(auto-fit,minmax(330px,1fr));gap:22px}
.bar{display:grid;grid-template-columns:minmax(90px,190px) 1fr 62px;gap:8px;align-items:center;
font-size:13px}
.flow{margin-top:22px}.flow .bar{grid-template-columns:minmax(150px,420px) 1fr 62px}
.bar i{display:block;height:11px;border-radius:3px;background:var(--bar)}
.bar span{overflow:hidden;text-overflow:ellipsis;white-space:nowrap}
.bar em{font-style:normal;color:var(--soft);text-align:right;font-variant-numeric:tabular-nums}
.example{background:var(--card);border:1px solid var(--line);border-radius:8px;padding:12px 14px;
margin:0 0 12px}
.example p{margin:0 0 8px}.meta{color:var(--soft);font-size:12.5px}
.ask{font-style:italic}.scroll{overflow-x:auto}
.plan rect{fill:var(--back);stroke:var(--line)}.plan text{fill:var(--ink);font-size:13px}
.plan .args{fill:var(--soft);font-size:11.5px}.plan .edge{fill:none;stroke:var(--bar);
stroke-width:1.5}.plan .head{fill:var(--bar)}
"""


@dataclass(slots=True)
class Sheet:
    """Collects a data set, one example at a time, and writes the page.

    Attributes:
        title: Heading of the page.
        seed: Chooses the examples shown.
        stats: The figures.
    """

    title: str
    seed: int = 0
    stats: Stats = field(default_factory=Stats)
    _shown: dict[str, list[Example]] = field(default_factory=lambda: defaultdict(list))
    _count: Counter[str] = field(default_factory=Counter)

    def add(self, example: Example) -> None:
        """Count an example; keep it to show with the chance that all have (reservoir sampling)."""
        self.stats.add(example)
        group = f"{example.source} · {example.kind}"
        self._count[group] += 1
        kept = self._shown[group]
        if len(kept) < PER_GROUP:
            kept.append(example)
            return
        place = Random(f"{self.seed}|{group}|{self._count[group]}").randrange(self._count[group])
        if place < PER_GROUP:
            kept[place] = example

    def html(self) -> str:
        """Return the page; it loads nothing from elsewhere."""
        parts = [
            "<!doctype html>",
            '<html lang="en"><head><meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width,initial-scale=1">',
            f"<title>{escape(self.title)}</title><style>{_STYLE}</style></head><body><main>",
            f"<h1>{escape(self.title)}</h1>",
            '<p class="lead">What is in this data set, and how it looks.</p>',
            self._tiles(),
            "<h2>Distributions</h2>",
            f'<div class="charts">{self._charts()}</div>',
            f'<div class="flow">{self._flow()}</div>',
            *self._examples(),
            "</main></body></html>",
        ]
        return "\n".join(parts) + "\n"

    def _tiles(self) -> str:
        stats = self.stats
        words, calls = summary(stats.words), summary(stats.calls)
        filled = sum(stats.arguments.values())
        refused = stats.rows - stats.kinds["tool"]
        tiles = [
            ("examples", f"{stats.rows:,}"),
            ("different requests", f"{stats.distinct:,}"),
            ("without calls", _share(refused, stats.rows)),
            ("with history", _share(stats.history, stats.rows)),
            ("words per request, median", f"{words.get('median', 0):g}"),
            ("calls per plan, median", f"{calls.get('median', 0):g}"),
            (
                "arguments from request or result",
                _share(filled - stats.arguments["other"], filled),
            ),
        ]
        inner = "".join(
            f'<div class="tile"><b>{value}</b><span>{name}</span></div>' for name, value in tiles
        )
        return f'<div class="tiles">{inner}</div>'

    def _charts(self) -> str:
        stats = self.stats
        charts = [
            _chart("Kinds", ranked(stats.kinds)),
            _chart("Sources", ranked(stats.sources)),
            _chart("Licences", ranked(stats.licences)),
            _chart("Examples that call a tool", ranked(stats.tools)),
            _chart("Calls per plan", {str(n): c for n, c in sorted(stats.calls.items())}),
            _chart("Words per request", _binned(stats.words)),
            _chart("Tools on offer", {str(n): c for n, c in sorted(stats.offered.items())}),
            _chart("Where text arguments come from", ranked(stats.arguments)),
        ]
        if stats.marks:
            charts.append(_chart("Marks", ranked(stats.marks)))
        return "".join(charts)

    def _flow(self) -> str:
        edges = {f"{a} → {b}": n for (a, b), n in self.stats.edges.items()}
        return _chart("Data flow between tools", ranked(edges))

    def _examples(self) -> Iterable[str]:
        for group in sorted(self._shown):
            count = f"{self._count[group]:,} examples"
            yield f'<h2>{escape(group)} <span class="meta">{count}</span></h2>'
            yield from (_example(example) for example in self._shown[group])


def _chart(title: str, counts: Mapping[str, int]) -> str:
    """Draw a bar chart of counts, the first ones shown, the rest summed up."""
    items = list(counts.items())
    if len(items) > MAX_BARS:
        rest = items[MAX_BARS:]
        items = [*items[:MAX_BARS], (f"{len(rest)} others", sum(n for _, n in rest))]
    most = max((n for _, n in items), default=1)
    bars = "".join(
        f'<div class="bar"><span title="{escape(name, quote=True)}">{escape(name)}</span>'
        f'<i style="width:{max(100 * n / most, 0.6):.1f}%"></i><em>{n:,}</em></div>'
        for name, n in items
    )
    return f"<section><h3>{escape(title)}</h3>{bars or 'none'}</section>"


def _example(example: Example) -> str:
    """Show one example with its plan drawn."""
    earlier = "".join(
        f'<p class="meta">before: {escape(turn.query)}</p>' for turn in example.history
    )
    if example.ask is not None:
        plan = f'<p class="ask">asks: {escape(example.ask)}</p>'
    elif example.plan:
        plan = f'<div class="scroll">{draw(example.plan)}</div>'
    else:
        plan = '<p class="ask">no call</p>'
    facts = [example.id, f"now {example.now}" if example.now else "now unknown"]
    facts += [f"{len(example.tools)} tools on offer", *example.marks]
    return (
        f'<div class="example">{earlier}<p>{escape(example.query)}</p>{plan}'
        f'<p class="meta">{escape(" · ".join(facts))}</p></div>'
    )


def _binned(counts: Mapping[int, int]) -> dict[str, int]:
    """Sum counts up in steps of five."""
    binned: Counter[int] = Counter()
    for value, count in counts.items():
        binned[value // 5] += count
    return {f"{5 * step}-{5 * step + 4}": binned[step] for step in sorted(binned)}


def _share(part: int, whole: int) -> str:
    return f"{100 * part / whole:.1f} %" if whole else "-"


def render(examples: Sequence[Example] | Iterable[Example], *, title: str, seed: int = 0) -> str:
    """Return the page of a whole data set."""
    sheet = Sheet(title=title, seed=seed)
    for example in examples:
        sheet.add(example)
    return sheet.html()
