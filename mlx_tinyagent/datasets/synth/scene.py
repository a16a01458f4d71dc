"""Runs a plan on an in-memory store that knows the people, files and notes it names.

The plan goes through the same executor and gate as a user's; an example
counts only if every step succeeds. Tools that are not the package's own get an
implementation that gives a value of the right type: plans of foreign tools run
too, and code that acts on the world is never called for made-up requests.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from functools import lru_cache
from typing import Any

from mlx_tinyagent.act.executor import Callbacks, StepResult, run
from mlx_tinyagent.datasets.record import Call
from mlx_tinyagent.datasets.synth.assemble import is_literal
from mlx_tinyagent.plan.graph import from_calls
from mlx_tinyagent.plan.schema import Plan, parse_ref
from mlx_tinyagent.tools.backend import Host
from mlx_tinyagent.tools.base import Tool, ToolSet, Type
from mlx_tinyagent.tools.local.backend import LocalBackend
from mlx_tinyagent.tools.local.store import Store
from mlx_tinyagent.tools.match import candidates, fold
from mlx_tinyagent.tools.results import Ok, Value
from mlx_tinyagent.tools.writer import PlainWriter

FOLDER = "/scene"
_TEXT = "The quarter went well. Sales rose by nine percent. The next review is in June."
_MAIL = {
    "sender": "sam@scene.example",
    "sender_name": "Sam Field",
    "subject": "Plans",
    "body": "Here are the plans we spoke about.",
    "received": "2024-01-02T09:00:00",
}

# What a tool of the catalog looks up by which argument; other tools by their declarations.
_LOOKUPS = {
    "get_phone_number": ("contact", 0, None),
    "get_email_address": ("contact", 0, None),
    "open_and_get_file_path": ("file", 0, None),
    "open_note": ("note", 0, 1),
    "append_note_content": ("note", 0, 2),
    "create_calendar_event": ("calendar", 6, None),
}
_VALUES = {
    Type.EMAIL: "someone@scene.example",
    Type.PHONE: "+1 212 555 0199",
    Type.PATH: f"{FOLDER}/result.pdf",
    Type.URL: "https://scene.example/result",
    Type.TEXT: "A result.",
    Type.STATUS: "Done.",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Need:
    """Something that must exist for a plan to run.

    Attributes:
        kind: ``contact``, ``file``, ``note`` or ``calendar``.
        name: How the plan names it.
        folder: Of a note; may be empty.
    """

    kind: str
    name: str
    folder: str = ""


def execute(
    calls: Iterable[Call], tools: ToolSet, *, query: str, now: datetime
) -> list[StepResult]:
    """Run a gold plan on a fresh store that has what the plan needs.

    Args:
        calls: The plan.
        tools: Its tools.
        query: The request.
        now: The moment that dates refer to.

    Returns:
        One result per step, in plan order.

    Raises:
        PlanError: The plan breaks a rule.
    """
    plan = from_calls([call.as_dict() for call in calls], tools)
    with _blank().clone_to_memory() as store:
        for need in needs(plan, tools):
            _provide(store, need)
        host = Host(backend=LocalBackend(store), writer=PlainWriter(), request=query, now=now)
        return run(plan, runnable(tools), host, Callbacks(approve=lambda _: True))


def failures(results: Iterable[StepResult]) -> list[StepResult]:
    """Return the steps that gave no value."""
    return [step for step in results if not isinstance(step.result, Ok)]


def needs(plan: Plan, tools: ToolSet) -> Iterator[Need]:
    """Yield what must exist before a plan runs, each once."""
    seen: set[tuple[str, str, str]] = set()
    for step in plan.steps:
        for need in _needs_of(step.args, tools[step.tool]):
            key = (need.kind, fold(need.name), fold(need.folder))
            if key not in seen:
                seen.add(key)
                yield need


def _needs_of(args: tuple[Any, ...], tool: Tool) -> Iterator[Need]:
    if tool.name in _LOOKUPS:
        kind, at, folder = _LOOKUPS[tool.name]
        name = args[at]
        if isinstance(name, str) and name and "@" not in name:
            where = args[folder] if folder is not None else ""
            yield Need(kind=kind, name=name, folder=where if isinstance(where, str) else "")
    for param, arg in zip(tool.params, args, strict=True):
        for item in arg if isinstance(arg, tuple) else (arg,):
            if param.entity is None or not isinstance(item, str) or not item:
                continue
            if parse_ref(item) is None and not is_literal(item, param.entity):
                yield Need(kind="file" if param.entity == "file" else "contact", name=item)


def runnable(tools: ToolSet) -> ToolSet:
    """Give every tool that is not the package's own one that returns a value of its type."""
    return ToolSet(tools.name, [tool if _is_own(tool) else _pretending(tool) for tool in tools])


def _is_own(tool: Tool) -> bool:
    """Whether a tool's code is the package's, which acts on the given store alone."""
    return tool.function is not None and tool.function.__module__.startswith("mlx_tinyagent.")


def _pretending(tool: Tool) -> Tool:
    text = _VALUES[tool.returns]

    def pretend(**_: Any) -> Ok:
        return Ok(value=Value(text=text, fields=dict.fromkeys(tool.fields, text)), note="Done.")

    return replace(tool, function=pretend, needs_host=False)


@lru_cache(maxsize=1)
def _blank() -> Store:
    """Return the store that every scene starts as: one mail, nothing else."""
    store = Store.memory()
    store.insert("mails", _MAIL)
    for key, value in (("meeting_url", "https://meet.example/{key}"), ("meeting_secret", "scene")):
        store.set_setting(key, value)
    return store


def _provide(store: Store, need: Need) -> None:
    """Add what a plan needs, unless something there already answers to the name."""
    backend = LocalBackend(store)
    if need.kind == "contact":
        if not candidates(need.name, backend.contacts(), lambda c: (c.name, *c.nicknames)):
            _add_contact(store, need.name)
    elif need.kind == "file":
        if not candidates(need.name, backend.files(), lambda f: (f.name, f.name.rsplit(".", 1)[0])):
            _add_file(store, need.name)
    elif need.kind == "calendar":
        store.insert("calendars", {"name": need.name})
    else:
        if not candidates(need.name, backend.notes(need.folder), lambda n: (n.name,)):
            _add_note(store, need)


def _add_contact(store: Store, name: str) -> None:
    number = len(store.rows("SELECT id FROM contacts")) + 1
    owner = store.insert("contacts", {"name": name, "company": ""})
    at = {"contact_id": owner, "position": 0}
    store.insert("contact_emails", {**at, "email": f"person{number}@scene.example"})
    store.insert("contact_phones", {**at, "phone": f"+1 212 555 {100 + number:04d}"})


def _add_file(store: Store, name: str) -> None:
    number = len(store.rows("SELECT path FROM files")) + 1
    shown = name if "." in name else f"{name}.pdf"
    store.insert(
        "files",
        {
            "path": f"{FOLDER}/{number}/{shown}",
            "name": shown,
            "size": len(_TEXT),
            "modified": "2024-01-02T09:00:00",
            "pages": 1,
            "text": _TEXT,
            "embedded": 1,
        },
    )


def _add_note(store: Store, need: Need) -> None:
    folder = need.folder or "Notes"
    rows = store.rows("SELECT id, name FROM note_folders")
    known = {fold(row["name"]): row["id"] for row in rows}
    owner = known.get(fold(folder)) or store.insert("note_folders", {"name": folder})
    store.insert("notes", {"folder_id": owner, "name": need.name, "body": "First line."})
