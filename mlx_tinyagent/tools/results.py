"""What a step can end in: typed results, never a bare string.

``Ok`` alone carries a value that later steps may read. Everything else says
why there is none, so that error text can never become an argument.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import ClassVar, Literal

Status = Literal["ok", "not_found", "ambiguous", "permission", "failed", "skipped", "unknown"]


class Origin(StrEnum):
    """Where a value comes from, from most to least trusted."""

    USER = "user"  # typed by the user in this request
    STORE = "store"  # contacts, notes and events the user keeps
    UNTRUSTED = "untrusted"  # mail, PDF text, file names, anything others can write


@dataclass(frozen=True, slots=True, kw_only=True)
class Value:
    """What a finished step hands on.

    Attributes:
        text: The value as text: what ``$k`` stands for.
        fields: Named parts: what ``$k.field`` stands for.
        origin: Trust label; combining values takes the lowest.
    """

    text: str
    fields: Mapping[str, str] = field(default_factory=dict)
    origin: Origin = Origin.STORE


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """One of several things a name may mean."""

    label: str
    value: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Ok:
    """The step was done.

    Attributes:
        value: What later steps can read.
        note: One sentence for the user, in the past tense and no stronger than the facts.
        record: Key of the changed row in the store, such as ``event:12``; None for reads.
    """

    status: ClassVar[Status] = "ok"
    value: Value
    note: str = ""
    record: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class NotFound:
    """Nothing matches well enough."""

    status: ClassVar[Status] = "not_found"
    what: str  # "contact 'Dana'"


@dataclass(frozen=True, slots=True, kw_only=True)
class Ambiguous:
    """Several things match; the user has to choose."""

    status: ClassVar[Status] = "ambiguous"
    what: str
    candidates: tuple[Candidate, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class PermissionNeeded:
    """The operating system refuses access until the user grants it."""

    status: ClassVar[Status] = "permission"
    app: str
    pane: str  # where to grant it: "Privacy & Security > Contacts"


@dataclass(frozen=True, slots=True, kw_only=True)
class Failed:
    """The step was tried, or could not be tried, and had no effect."""

    status: ClassVar[Status] = "failed"
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Skipped:
    """The step never started: a step it depends on gave no value, or the user said no."""

    status: ClassVar[Status] = "skipped"
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Unknown:
    """It is not known whether the effect took place; reading back must come before a retry."""

    status: ClassVar[Status] = "unknown"
    reason: str


Result = Ok | NotFound | Ambiguous | PermissionNeeded | Failed | Skipped | Unknown


def explain(result: Result) -> str:
    """Say in one sentence what a result means for the user."""
    match result:
        case Ok():
            return result.note or result.value.text
        case NotFound():
            return f"No match for {result.what}."
        case Ambiguous():
            names = ", ".join(candidate.label for candidate in result.candidates)
            return f"{result.what[:1].upper()}{result.what[1:]} could be: {names}."
        case PermissionNeeded():
            return f"{result.app} does not allow access yet: grant it in {result.pane}."
        case Failed() | Skipped() | Unknown():
            return result.reason
