"""What one step may do: a backend and a writer seen through its approval.

A tool never gets the backend itself but a ``Guard``: reads pass, an effect
passes only if the step's class allows it and, where the preview has shown the
step's exact effects, only if it is the one that was shown. Before the approval
a guard performs nothing and notes what would be done.
"""

from __future__ import annotations

import functools
import hashlib
import inspect
import json
import os
import re
import secrets
import stat
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from mlx_tinyagent.tools.backend import FOREIGN, OPENS, READS, Action, Backend, Writer
from mlx_tinyagent.tools.base import Effect, Tool
from mlx_tinyagent.tools.results import Failed, Ok, Origin, Result, Value

MAX_HASHED_BYTES = 64 * 2**20  # of larger files only size and time are compared
FILE_ARGUMENTS = ("attachments",)


@dataclass(frozen=True, slots=True, kw_only=True)
class EffectCall:
    """One call of a backend that changes something.

    Attributes:
        method: Name of the backend's method.
        args: Its arguments by name, in order; lists are tuples.
        files: Path and fingerprint of each file that goes along.
        loose: Whether values came in after it was shown; blanks beside them may differ.
    """

    method: str
    args: tuple[tuple[str, Any], ...]
    files: tuple[tuple[str, str], ...] = ()
    loose: bool = False

    def plain(self) -> list[Any]:
        """Return it as plain data."""
        return [self.method, [list(pair) for pair in self.args], [list(f) for f in self.files]]

    def value(self, name: str) -> Any:
        """Return an argument's value; None if it has no such argument."""
        return dict(self.args).get(name)


@dataclass(frozen=True, slots=True, kw_only=True)
class Staged:
    """A step as it was gone through before the approval.

    Attributes:
        calls: Its effects, in order; None where they are not known before it runs.
        result: What it will give as far as that is known, with marks for the rest.
        reads: What the backend answered, by method and arguments.
        written: What the writer wrote, by method and arguments.
    """

    calls: tuple[EffectCall, ...] | None
    result: Result
    reads: Mapping[str, Any] = field(default_factory=dict)
    written: Mapping[str, str] = field(default_factory=dict)


class Marks:
    """Words that stand for values which are not known yet; nobody can guess them."""

    def __init__(self) -> None:
        self._nonce = secrets.token_hex(8)
        self._pattern = re.compile(rf"result-(\d+)-([a-z_0-9]*)-{self._nonce}")

    def value(self, step: int, tool: Tool) -> Ok:
        """Return what a step seems to give before it has run."""
        fields = {name: self._mark(step, name) for name in tool.fields}
        origin = Origin.STORE if tool.staged else Origin.UNTRUSTED
        return Ok(value=Value(text=self._mark(step), fields=fields, origin=origin))

    def within(self, value: object) -> bool:
        """Whether a value holds a mark."""
        return bool(self._pattern.search(_key(value)))

    def fill(self, value: Any, results: Mapping[int, Result]) -> Any:
        """Put what has been found out in place of the marks."""
        if isinstance(value, str):
            return self._pattern.sub(lambda match: self._known(match, results), value)
        if isinstance(value, list | tuple):
            return type(value)(self.fill(item, results) for item in value)
        return value

    def show(self, text: str) -> str:
        """Write marks for people."""
        return self._pattern.sub(r"[result of step \1]", text)

    def _mark(self, step: int, field_name: str = "") -> str:
        return f"result-{step}-{field_name}-{self._nonce}"

    def _known(self, match: re.Match[str], results: Mapping[int, Result]) -> str:
        result = results.get(int(match[1]))
        if not isinstance(result, Ok):
            return match[0]
        return result.value.fields.get(match[2], "") if match[2] else result.value.text


class Guard:
    """A backend as one step may use it; stands in for it in the ``Host``.

    Args:
        backend: The backend, or its view that carries the step's key.
        effect: What the step's tool is declared to do.
        perform: Whether effects happen; else they are noted in ``calls``.
        expected: Effects that were shown, in order; None where any of the declared class may be.
        action: The step at work; closed when its time is over.
        reads: Answers to give again; None asks the backend.
        foresee: What an effect that is only noted seems to give.
    """

    def __init__(
        self,
        backend: Backend,
        effect: Effect,
        *,
        perform: bool,
        expected: tuple[EffectCall, ...] | None = None,
        action: Action | None = None,
        reads: Mapping[str, Any] | None = None,
        foresee: Callable[[str, Mapping[str, Any]], Ok] | None = None,
    ) -> None:
        self.calls: list[EffectCall] = []
        self.reads: dict[str, Any] = dict(reads or {})
        self.refusal: Failed | None = None
        self.read_of_others = False
        self._backend = backend
        self._declared = effect
        self._perform = perform
        self._expected = expected
        self._action = action
        self._foresee = foresee

    def __getattr__(self, name: str) -> Any:
        """Return what a tool finds under a name of the backend."""
        if name.startswith("_") or name in ("with_key", "with_action", "deliver", "undo", "find"):
            raise AttributeError(f"a tool cannot use {name} of a backend")
        found = getattr(self._backend, name)
        if name == "store":
            return found.reader()
        if not callable(found):
            return found
        return functools.partial(self._read if name in READS else self._effect, name, found)

    def _read(self, name: str, method: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        key = _key([name, args, kwargs])
        self.read_of_others |= name in FOREIGN
        if key not in self.reads:
            self.reads[key] = method(*args, **kwargs)
        return self.reads[key]

    def _effect(
        self, name: str, method: Callable[..., Any], /, *args: Any, **kwargs: Any
    ) -> Result:
        bound = inspect.signature(method).bind(*args, **kwargs).arguments
        call = EffectCall(
            method=name,
            args=tuple((key, _frozen(value)) for key, value in bound.items()),
            files=_files(bound),
        )
        if (refusal := self._refuse(call)) is not None:
            self.refusal = refusal
            return refusal
        self.calls.append(call)
        if self._foresee is not None and not self._perform:
            return self._foresee(name, bound)
        result: Result = method(**bound)
        return result

    def _refuse(self, call: EffectCall) -> Failed | None:
        """Say why an effect may not happen."""
        reads = self._declared is Effect.READ
        if reads or (self._declared is Effect.OPEN and call.method not in OPENS):
            what = "only reads" if reads else "only shows something"
            return Failed(reason=f"it is declared as a tool that {what}, but calls {call.method}")
        if self._action is not None and self._action.closed:
            return Failed(reason="its time was over before it changed anything")
        if self._expected is None:
            return None
        place = len(self.calls)
        shown = self._expected[place] if place < len(self._expected) else None
        if shown is None or not same(shown, call):
            return Failed(reason=f"it was not done: {_difference(shown, call)}")
        return None

    @property
    def origin(self) -> Origin:
        """How far a result can be trusted, by what was read for it."""
        return Origin.UNTRUSTED if self.read_of_others else Origin.USER


class StepWriter:
    """A writer that gives the same text again for the same order.

    Args:
        writer: Who writes.
        written: Texts to give again.
    """

    def __init__(self, writer: Writer, written: Mapping[str, str] | None = None) -> None:
        self.written: dict[str, str] = dict(written or {})
        self._writer = writer

    def mail(self, *, request: str, subject: str, context: str, greeting: str) -> str:
        """Write a mail body."""
        order = {"request": request, "subject": subject, "context": context, "greeting": greeting}
        return self._once("mail", self._writer.mail, order)

    def note(self, *, request: str, name: str, content: str) -> str:
        """Write a note's body."""
        order = {"request": request, "name": name, "content": content}
        return self._once("note", self._writer.note, order)

    def summary(self, *, text: str) -> str:
        """Summarize a document."""
        return self._once("summary", self._writer.summary, {"text": text})

    def _once(self, name: str, write: Callable[..., str], order: Mapping[str, str]) -> str:
        key = _key([name, [*order.values()]])
        if key not in self.written:
            self.written[key] = write(**order)
        return self.written[key]


def filled(staged: Staged, marks: Marks, results: Mapping[int, Result]) -> Staged:
    """Put what earlier steps gave into what was shown."""
    calls = staged.calls and tuple(
        EffectCall(
            method=call.method,
            args=tuple((name, marks.fill(value, results)) for name, value in call.args),
            files=call.files,
            loose=marks.within(call.args),
        )
        for call in staged.calls
    )
    written = {
        _key(marks.fill(json.loads(order), results)): marks.fill(text, results)
        for order, text in staged.written.items()
    }
    return Staged(calls=calls, result=staged.result, reads=staged.reads, written=written)


def same(shown: EffectCall, call: EffectCall) -> bool:
    """Whether a call is the one that was shown; blanks around inserted values do not count."""
    args = shown.args == call.args
    if shown.loose:
        args = _blanks_aside(shown.args) == _blanks_aside(call.args)
    return shown.method == call.method and args and shown.files == call.files


def fingerprint(path: str) -> str:
    """Return what a file is known by: size, time and content; empty if there is no file.

    A link, pipe or device is no file.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except (OSError, ValueError):
        return ""
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode):
        os.close(descriptor)
        return ""
    with os.fdopen(descriptor, "rb") as file:
        known = f"{status.st_size}:{status.st_mtime_ns}"
        if status.st_size > MAX_HASHED_BYTES:
            return known
        return f"{known}:{hashlib.file_digest(file, 'sha256').hexdigest()}"


def _files(bound: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    paths = [path for name in FILE_ARGUMENTS for path in bound.get(name) or ()]
    return tuple((path, fingerprint(path)) for path in paths)


def _difference(shown: EffectCall | None, call: EffectCall) -> str:
    """Say what is not as it was shown."""
    if shown is None or shown.method != call.method:
        return f"{call.method} was not shown"
    if shown.files != call.files:
        changed = next(a for a in shown.files if a not in call.files)
        return f"{os.path.basename(changed[0])} has changed since it was shown"
    one, other = dict(shown.args), dict(call.args)
    names = [name for name in (*one, *other) if one.get(name) != other.get(name)]
    return f"its {names[0].replace('_', ' ')} is no longer what was shown"


def _blanks_aside(args: tuple[tuple[str, Any], ...]) -> list[tuple[str, Any]]:
    return [
        (name, " ".join(value.split()) if isinstance(value, str) else value) for name, value in args
    ]


def _frozen(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _key(value: object) -> str:
    return json.dumps(value, default=repr, sort_keys=True)
