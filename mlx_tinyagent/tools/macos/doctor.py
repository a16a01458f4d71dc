"""What macOS allows this program, and where to change it."""

from __future__ import annotations

import sys
from collections.abc import Iterator

from mlx_tinyagent.tools.external import BackendError
from mlx_tinyagent.tools.macos import frameworks
from mlx_tinyagent.tools.macos.faults import AUTOMATION, NOT_PERMITTED, PANES
from mlx_tinyagent.tools.macos.runner import Runner, ScriptError

APPS = ("Mail", "Notes", "Messages", "Finder")
_STATUS = {
    frameworks.NOT_DETERMINED: "not asked yet; the first use asks",
    frameworks.RESTRICTED: "forbidden by a profile of this Mac",
    frameworks.DENIED: "denied",
    frameworks.AUTHORIZED: "allowed",
    frameworks.WRITE_ONLY: "may add, not read; allow full access",
}


def permissions(runner: Runner | None = None) -> Iterator[tuple[str, bool, str]]:
    """Yield each permission that is needed: name, whether it is there, and what to do.

    Asks each application for its version, which makes macOS ask for consent
    where it has not yet. Elsewhere than on a Mac there is nothing to yield.

    Args:
        runner: Runs scripts.
    """
    if sys.platform != "darwin" and runner is None:
        return
    for app, kit, entity in (
        ("Calendar", "EventKit", frameworks.EVENT),
        ("Reminders", "EventKit", frameworks.REMINDER),
        ("Contacts", "Contacts", frameworks.CONTACTS),
    ):
        try:
            module = frameworks.framework(kit)
        except BackendError as missing:
            yield app, False, str(missing)
            continue
        guard = module.EKEventStore if kit == "EventKit" else module.CNContactStore
        status = guard.authorizationStatusForEntityType_(entity)
        words = _STATUS.get(status, f"status {status}")
        allowed = status == frameworks.AUTHORIZED
        yield app, allowed, words if allowed else f"{words}: {PANES[app]}"
    for app in APPS:
        answer = (runner or Runner()).script("probe", {"app": app}, writes=False)
        if not isinstance(answer, ScriptError):
            yield app, True, "allowed"
        elif answer.number in NOT_PERMITTED:
            yield app, False, f"denied: {AUTOMATION}"
        else:
            reason = f"error {answer.number}" if answer.number else answer.ending
            yield app, False, f"no answer ({reason}); open {app} once"
