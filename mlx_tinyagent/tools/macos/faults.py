"""macOS error numbers as results. Texts are localized and never looked at; numbers are not."""

from __future__ import annotations

from mlx_tinyagent.tools.macos.runner import ScriptError
from mlx_tinyagent.tools.results import Failed, NotFound, PermissionNeeded, Result, Unknown

AUTOMATION = "System Settings > Privacy & Security > Automation"
PANES = {
    "Calendar": "System Settings > Privacy & Security > Calendars",
    "Reminders": "System Settings > Privacy & Security > Reminders",
    "Contacts": "System Settings > Privacy & Security > Contacts",
    "Files": "System Settings > Privacy & Security > Files & Folders",
}

NOT_PERMITTED = frozenset({-1743, -1744, -10004})  # denied; consent needed; privilege violation
NO_SUCH_THING = frozenset({-1728, -1719, -43})  # no such object; no such index; no such file
TIMED_OUT = -1712
NOT_RUNNING = frozenset({-600, -609})  # no such process; connection is invalid
CANCELLED = -128


def result_of(error: ScriptError, *, app: str, what: str) -> Result:
    """Say what an error means.

    Whatever goes wrong after a change was asked for leaves its outcome open:
    the application may have done it before the answer was lost.

    Args:
        error: The error.
        app: Name of the application.
        what: What was looked for, for ``NotFound``.
    """
    if error.ending == "missing":
        return Failed(reason="osascript is missing: these actions need macOS")
    if error.number in NOT_PERMITTED:
        return PermissionNeeded(app=app, pane=AUTOMATION)
    if error.dispatched:
        return Unknown(reason=f"{app} did not say whether it was done ({_why(error)}); look there")
    if error.number in NO_SUCH_THING:
        return NotFound(what=what)
    return Failed(reason=f"{app} did nothing: {_why(error)}")


def _why(error: ScriptError) -> str:
    match error.ending:
        case "deadline":
            return "no answer in time"
        case "cancelled":
            return "it was stopped"
        case "flood":
            return "too much output"
    if error.number == TIMED_OUT:
        return "no answer in time"
    if error.number in NOT_RUNNING:
        return "it is not running"
    if error.number == CANCELLED:
        return "it was cancelled"
    return f"error {error.number}" if error.number else "no answer"
