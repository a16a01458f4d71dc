"""Brings calls from elsewhere into our declarations' form: words, dates, references, defaults.

Other people's plans hold ISO dates whose reference day nobody knows, names in
another case than the request's, and references in the middle of texts. What
can be learned is what stands in the request, so that is what arguments become.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from mlx_tinyagent.act.dates import Resolved, find
from mlx_tinyagent.datasets.record import Call
from mlx_tinyagent.plan.schema import parse_ref
from mlx_tinyagent.tools.base import REQUIRED, Kind, Param, Tool, ToolSet
from mlx_tinyagent.tools.catalog import MEETING_MINUTES

ANY_DAY = datetime(2024, 5, 15, 9, 0)  # a reference day for reading phrases whose own is unknown
NEAR = 12  # characters between a start and the end that belongs to it
_ISO = re.compile(r"(\d{4})-(\d\d)-(\d\d)(?:[T ](\d\d):(\d\d)(?::(\d\d))?)?")
_EMBEDDED = re.compile(r"\$(?:\{(\d{1,3})\}|(\d{1,3})(?!\d))")
_SPANS = (Kind.SPAN, Kind.TEXT, Kind.TEMPLATE)

# Counters of a report; also the marks that a row can carry.
DATE_UNKNOWN = "date-unknown"  # a date stands for which the request has no phrase


@dataclass(slots=True)
class Report:
    """What was changed on the way.

    Attributes:
        dates: ISO dates seen.
        dates_from_request: Those replaced by a phrase of the request.
        dates_dropped: Those that nothing in the request speaks of.
        ends_dropped: Ends that were merely start plus the default length.
        recased: Arguments that took the request's own casing.
        references: ``$k`` inside texts written as ``${k}``.
        skipped: Rows left out, by reason.
    """

    dates: int = 0
    dates_from_request: int = 0
    dates_dropped: int = 0
    ends_dropped: int = 0
    recased: int = 0
    references: int = 0
    skipped: dict[str, int] = field(default_factory=dict)

    def skip(self, reason: str) -> None:
        """Count a row that is left out."""
        self.skipped[reason] = self.skipped.get(reason, 0) + 1


@dataclass(frozen=True, slots=True)
class Canonical:
    """Calls in our form.

    Attributes:
        calls: The calls, in order.
        marks: What a reader must know of them.
    """

    calls: tuple[Call, ...]
    marks: tuple[str, ...]


def canonical(
    calls: Sequence[Call],
    query: str,
    tools: ToolSet,
    report: Report,
    *,
    now: datetime | None = None,
) -> Canonical:
    """Bring the calls of one row into our form.

    Args:
        calls: Positional calls; arguments are plain data.
        query: The request.
        tools: Declarations of the tools called.
        report: Counts what is changed.
        now: When the request was made; None if that is unknown.

    Returns:
        The calls, with phrases of the request for dates. A date that no phrase
        stands for becomes empty, and the row is marked ``date-unknown``.

    Raises:
        UsageError: A tool is not declared.
    """
    reader = _Reader(query, tools, report, now)
    done = tuple(reader.call(call) for call in calls)
    return Canonical(done, tuple(sorted(reader.marks)))


class _Reader:
    """Rewrites the calls of one row."""

    def __init__(self, query: str, tools: ToolSet, report: Report, now: datetime | None) -> None:
        self.query, self.tools, self.report = query, tools, report
        self.now = now
        self.marks: set[str] = set()
        self.start: Resolved | None = None  # the phrase that the call's start came from
        self.mentions = [m for m in find(query, now or ANY_DAY) if m.has_date or m.has_time]

    def call(self, call: Call) -> Call:
        """Rewrite one call; missing trailing arguments get their defaults."""
        tool = self.tools[call.tool]
        args = list(call.args[: len(tool.params)])
        args += [default(param) for param in tool.params[len(args) :]]
        anchor = self._anchor(tool, args)
        starts = {p.name: args[i] for i, p in enumerate(tool.params) if p.kind is Kind.WHEN}
        done = [
            self._argument(call, tool, param, value, starts, anchor)
            for param, value in zip(tool.params, args, strict=True)
        ]
        self._all_day(tool, done)
        return Call(id=call.id, tool=call.tool, args=tuple(done))

    def _argument(
        self,
        call: Call,
        tool: Tool,
        param: Param,
        value: Any,
        starts: dict[str, Any],
        anchor: int,
    ) -> Any:
        if param.is_list:
            items = value if isinstance(value, list | tuple) else [value] if value else []
            return [self._scalar(call, param, item) for item in items]
        if isinstance(value, list | tuple):
            value = value[0] if len(value) == 1 else ", ".join(str(item) for item in value)
        if param.kind is Kind.WHEN and isinstance(value, str):
            if param.after and self._is_default_end(starts.get(param.after), value):
                self.report.ends_dropped += 1
                return ""
            return self._date(param, value, anchor)
        if value is None and not param.optional:
            return default(param)
        if param.optional and value == "":
            return default(param)
        return self._scalar(call, param, value)

    def _scalar(self, call: Call, param: Param, value: Any) -> Any:
        """Rewrite one value: references inside texts, the request's casing, plain numbers."""
        if not isinstance(value, str):
            return value
        if parse_ref(value) is not None:
            return value
        if param.kind is Kind.TEMPLATE:
            value = self._template(call, value)
        if param.kind in _SPANS and value:
            return self._as_said(value)
        return value

    def _template(self, call: Call, text: str) -> str:
        """Write ``$k`` inside a text as ``${k}`` where k is an earlier call."""

        def braced(match: re.Match[str]) -> str:
            number = int(match[1] or match[2])
            if not 1 <= number < call.id:
                return match[0]
            self.report.references += match[1] is None
            return f"${{{number}}}"

        return _EMBEDDED.sub(braced, text)

    def _as_said(self, value: str) -> str:
        """Return the request's own casing of a value that stands in it."""
        if value in self.query:
            return value
        match = re.search(rf"(?<!\w){re.escape(value)}(?!\w)", self.query, re.IGNORECASE)
        if match is None:
            return value
        self.report.recased += 1
        return match[0]

    def _date(self, param: Param, value: str, anchor: int) -> str:
        """Return the phrase of the request that an ISO date came from."""
        iso = _ISO.fullmatch(value.strip())
        if iso is None:
            return self._as_said(value)
        self.report.dates += 1
        if param.after:
            phrase = self._end_phrase(iso)
        else:
            best = max(self.mentions, key=lambda m: self._score(m, iso, anchor), default=None)
            self.start = best
            phrase = best.text if best is not None else None
        if phrase is not None:
            self.report.dates_from_request += 1
            return phrase
        if not param.after:
            self.report.dates_dropped += 1
            self.marks.add(DATE_UNKNOWN)
        else:
            self.report.ends_dropped += 1
        return ""

    def _score(self, mention: Resolved, iso: re.Match[str], anchor: int) -> float:
        """Say how well a phrase explains an ISO date, which may be of any year."""
        score = 0.0
        hour, minute = int(iso[4] or 0), int(iso[5] or 0)
        if mention.has_time:
            score += 3 if (mention.start.hour, mention.start.minute) == (hour, minute) else -2
        elif hour == minute == 0 or (hour, minute) in ((9, 0), (23, 59)):
            score += 1
        if mention.has_date:
            score += 2
        if self.now is not None and mention.has_date:
            same = mention.start.date().isoformat() == value_date(iso)
            score += 6 if same else -3
        if anchor >= 0:
            distance = min(abs(mention.span[0] - anchor), abs(mention.span[1] - anchor))
            score += 2 / (1 + distance / 20)
        return score

    def _end_phrase(self, iso: re.Match[str]) -> str | None:
        """Return the words behind the start that an end came from.

        Empty if the start's own phrase is a range, which brings its end; None
        if nothing near it says the end.
        """
        start = self.start
        if start is None or start.end is not None:
            return None if start is None else ""
        wanted = (int(iso[4] or 0), int(iso[5] or 0))
        for mention in self.mentions:
            gap = mention.span[0] - start.span[1]
            same = mention.has_time and (mention.start.hour, mention.start.minute) == wanted
            if same and 0 <= gap <= NEAR:
                return mention.text
        return None

    def _is_default_end(self, start: Any, end: str) -> bool:
        """Whether an end is the start plus the default length and no range was said."""
        first = _ISO.fullmatch(start.strip()) if isinstance(start, str) else None
        last = _ISO.fullmatch(end.strip())
        if first is None or last is None:
            return False
        return moment(last) - moment(first) == timedelta(minutes=MEETING_MINUTES)

    def _anchor(self, tool: Tool, args: list[Any]) -> int:
        """Return where the request names what the call is about; -1 if nowhere."""
        for param, value in zip(tool.params, args, strict=True):
            if param.kind in (Kind.SPAN, Kind.TEXT) and isinstance(value, str) and len(value) > 2:
                at = self.query.casefold().find(value.casefold())
                if at >= 0:
                    return at
        return -1

    def _all_day(self, tool: Tool, args: list[Any]) -> None:
        """Let an all-day flag say what the date phrase says."""
        names = [param.name for param in tool.params]
        if "all_day" not in names or "due_date" not in names:
            return
        phrase = args[names.index("due_date")]
        if isinstance(phrase, str) and phrase:
            timed = any(found.has_time for found in find(phrase, self.now or ANY_DAY))
            args[names.index("all_day")] = not timed


def value_date(iso: re.Match[str]) -> str:
    """Return the date part of a matched ISO text."""
    return f"{iso[1]}-{iso[2]}-{iso[3]}"


def moment(iso: re.Match[str]) -> datetime:
    """Return the moment of a matched ISO text; a date that does not exist is read as day one."""
    try:
        return datetime.fromisoformat(f"{value_date(iso)}T{iso[4] or '00'}:{iso[5] or '00'}:00")
    except ValueError:
        return datetime(1, 1, 1)


def default(param: Param) -> Any:
    """Return what an argument holds when nothing is said."""
    if param.default is not REQUIRED:
        return list(param.default) if param.is_list else param.default
    if param.is_list:
        return []
    match param.kind:
        case Kind.INT | Kind.FLOAT:
            return 0
        case Kind.BOOL:
            return False
        case Kind.CHOICE:
            return param.choices[0]
        case _:
            return ""
