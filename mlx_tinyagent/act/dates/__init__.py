"""The date resolver: phrases such as "friday at 3" become local dates, by rule alone.

Everything is a function of the text and an explicit ``now``; no clock, locale or
time zone is read. English only; numeric dates are month first.
"""

from mlx_tinyagent.act.dates.leftover import unread
from mlx_tinyagent.act.dates.resolve import (
    Reading,
    Resolved,
    covering_span,
    describe,
    find,
    resolve,
)

__all__ = ["Reading", "Resolved", "covering_span", "describe", "find", "resolve", "unread"]
