"""Loading Apple's frameworks, and asking for access to what they guard.

Everything here runs on a Mac alone; the modules come with the extra ``macos``.
Without access the frameworks answer with nothing instead of an error, so access
is checked first and a refusal says where to grant it.
"""

from __future__ import annotations

import importlib
import threading
from collections.abc import Callable
from typing import Any

from mlx_tinyagent.tools.external import BackendError
from mlx_tinyagent.tools.macos.faults import PANES
from mlx_tinyagent.tools.results import Failed, PermissionNeeded

CONSENT_S = 120.0  # how long the user may think about the system's question

# EKAuthorizationStatus and CNAuthorizationStatus
NOT_DETERMINED, RESTRICTED, DENIED, AUTHORIZED, WRITE_ONLY = range(5)
EVENT, REMINDER = 0, 1  # EKEntityType
CONTACTS = 0  # CNEntityType


def framework(name: str) -> Any:
    """Return a framework's module.

    Raises:
        BackendError: It is not installed.
    """
    try:
        return importlib.import_module(name)
    except ImportError as error:
        reason = (
            f"{name} is missing: these actions need macOS and the package's extra, "
            "pip install 'mlx-tinyagent[macos]'"
        )
        raise BackendError(Failed(reason=reason)) from error


def event_store(app: str) -> Any:
    """Return EventKit's store with full access to one kind of things, asking the user if needed.

    Args:
        app: ``Calendar`` or ``Reminders``.

    Raises:
        BackendError: There is no access, or no framework.
    """
    kit = framework("EventKit")
    entity = EVENT if app == "Calendar" else REMINDER
    status = kit.EKEventStore.authorizationStatusForEntityType_(entity)
    store = kit.EKEventStore.alloc().init()
    if status == NOT_DETERMINED:
        full = f"requestFullAccessTo{'Events' if entity == EVENT else 'Reminders'}WithCompletion_"
        if hasattr(store, full):  # macOS 14 and later
            granted = consent(getattr(store, full))
        else:
            granted = consent(
                lambda done: store.requestAccessToEntityType_completion_(entity, done)
            )
    else:
        granted = status == AUTHORIZED
    return _granted(store, granted, app)


def contact_store() -> Any:
    """Return the store of contacts with access, asking the user if needed.

    Raises:
        BackendError: There is no access, or no framework.
    """
    kit = framework("Contacts")
    status = kit.CNContactStore.authorizationStatusForEntityType_(CONTACTS)
    store = kit.CNContactStore.alloc().init()
    if status == NOT_DETERMINED:
        granted = consent(
            lambda done: store.requestAccessForEntityType_completionHandler_(CONTACTS, done)
        )
    else:
        granted = status not in (RESTRICTED, DENIED)  # limited access is access
    return _granted(store, granted, "Contacts")


def consent(
    request: Callable[[Callable[[bool, Any], None]], Any], wait_s: float = CONSENT_S
) -> bool:
    """Ask for access and wait for the answer, which comes on another thread.

    Args:
        request: Starts the question; gets what is to be called with the answer.
        wait_s: How long to wait, in seconds.
    """
    answered = threading.Event()
    answers: list[bool] = []

    def done(granted: bool, error: Any) -> None:
        answers.append(bool(granted))
        answered.set()

    request(done)
    return answered.wait(wait_s) and answers[0]


def _granted(store: Any, granted: bool, app: str) -> Any:
    if not granted:
        raise BackendError(PermissionNeeded(app=app, pane=PANES[app]))
    return store
