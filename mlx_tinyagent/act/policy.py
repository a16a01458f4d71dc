"""What may run without a question: deny goes before ask, ask before allow.

Rules of the user's and the mode decide first. Then come reasons that nobody
can switch off: many recipients, sending, deleting, recipients that are neither
known nor named by the user, addresses, files and links that come from text of
others, and plans made after such text was read. A step with such a reason is
always shown and asked about, whatever the mode, and ``--yes`` does not cover it.
No model takes part in any of this.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase

from mlx_tinyagent.act.guard import EffectCall, Staged
from mlx_tinyagent.act.resolve import Prepared
from mlx_tinyagent.config import Rule, Settings, Verdict
from mlx_tinyagent.plan.schema import Plan, Step
from mlx_tinyagent.tools.backend import Contact
from mlx_tinyagent.tools.base import Effect, Kind, Tool, ToolSet, Type
from mlx_tinyagent.tools.results import Ok, Origin, Result

RECIPIENT_ARGUMENTS = ("recipients", "cc", "invitees")
_NUMBER = re.compile(r"[+(]?\d[\d\s().\-/]{2,}")
_TARGETS = {"contact-email": "address", "contact-phone": "number", "file": "file"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """What is to be done about one step.

    Attributes:
        verdict: ``deny``, ``ask`` or ``allow``.
        reason: Why it is denied; empty otherwise.
        warnings: One line each for what only a person can agree to; then neither
            ``--yes`` nor a rule nor a mode does.
    """

    verdict: Verdict
    reason: str = ""
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Trusted:
    """Whom the user is known to write to.

    Attributes:
        addresses: Addresses of contacts, folded.
        numbers: Digits of the contacts' numbers.
        words: The user's own words.
    """

    addresses: frozenset[str]
    numbers: frozenset[str]
    words: str

    def knows(self, recipient: str) -> bool:
        """Whether an address or number is a contact's or in the user's words."""
        if recipient.casefold() in self.addresses:
            return True
        if "@" in recipient:
            return re.search(_apart(recipient.casefold()), self.words) is not None
        said = {_digits(number) for number in _NUMBER.findall(self.words)}
        return _digits(recipient) in self.numbers | said


def trusted(contacts: Iterable[Contact], words: str) -> Trusted:
    """Collect whom the user is known to write to.

    Args:
        contacts: The address book.
        words: The user's own words: the request, earlier ones, a plan given as text.
    """
    people = list(contacts)
    return Trusted(
        addresses=frozenset(a.casefold() for person in people for a in person.emails),
        numbers=frozenset(_digits(n) for person in people for n in person.phones),
        words=words.casefold(),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """Decides about the steps of one run.

    Attributes:
        settings: The user's.
        words: The user's own words beside the request of the run: earlier
            requests, standing instructions, a plan given as text.
        tainted: Names of the texts of others that were read before the plan was made.
    """

    settings: Settings = field(default_factory=Settings)
    words: str = ""
    tainted: Sequence[str] = ()

    def forbidden(self, plan: Plan, tools: ToolSet) -> str:
        """Say what in a plan is denied whatever its values are; empty if nothing is.

        Checked before anything runs, look-ups included.
        """
        for step in plan.steps:
            tool = tools[step.tool]
            denied = any(
                rule.verdict == "deny" and not rule.to and fnmatchcase(tool.name, rule.tool)
                for rule in self.settings.rules
            )
            if denied:
                return f"a rule denies {_words(tool.name)}"
        changing = [step.tool for step in plan.steps if tools[step.tool].effect.changes]
        if changing and self.settings.mode == "plan":
            return f"mode is plan, and {_words(changing[0])} changes something"
        return ""

    def decide(
        self,
        step: Prepared,
        staged: Staged,
        *,
        foreseen: Mapping[int, Result],
        known: Trusted,
        names: Names,
    ) -> Decision:
        """Decide about one prepared step.

        Args:
            step: The step.
            staged: What it would do.
            foreseen: What the steps it reads gave, or seem to give.
            known: Whom the user is known to write to.
            names: Says what an earlier step is called, for the warnings.
        """
        tool, recipients = step.tool, _recipients(step, staged)
        verdicts = {rule.verdict for rule in self.settings.rules if _fits(rule, tool, recipients)}
        if "deny" in verdicts:
            return Decision(verdict="deny", reason=f"a rule denies {_words(tool.name)} to them")
        warnings = (
            *self._warnings(step, recipients, known),
            *_foreign_targets(step, staged, foreseen, names),
        )
        if warnings or "ask" in verdicts:
            return Decision(verdict="ask", warnings=warnings)
        asks = tool.effect.changes and self.settings.mode != "auto" and "allow" not in verdicts
        return Decision(verdict="ask" if asks else "allow")

    def _warnings(self, step: Prepared, recipients: Sequence[str], known: Trusted) -> Iterable[str]:
        """Say what only a person can agree to."""
        tool = step.tool
        if tool.effect.changes or (tool.effect is Effect.OPEN and not _is_said(step, known)):
            for source in self.tainted:
                yield f"this plan was made after text of others was read ({source})"
        if tool.effect is Effect.SEND:
            yield "it is sent at once and cannot be taken back"
        if tool.effect is Effect.DELETE:
            yield "it deletes something"
        if len(recipients) > self.settings.max_recipients:
            yield f"{len(recipients)} recipients"
        for recipient in recipients:
            if not known.knows(recipient):
                yield f"{recipient} is not in your contacts and not in your words"


Names = Callable[[int], str]


def _foreign_targets(
    step: Prepared, staged: Staged, foreseen: Mapping[int, Result], names: Names
) -> Iterable[str]:
    """Name the addresses, files and links of a step that come from text of others."""
    if step.tool.effect is Effect.READ:
        return
    for param in step.tool.params:
        what = _target(step.tool, param.entity, param.accepts, param.kind)
        pending = _pending(step, param.name)
        foreign = [number for number in pending if _is_foreign(foreseen.get(number))]
        for number in (*step.sources.get(param.name, ()), *foreign):
            if what:
                yield f"its {what} ({_words(param.name)}) is from {names(number)}"
        for number in pending:
            if param.entity and staged.calls is None and number not in foreign:
                yield f"its {what} ({_words(param.name)}) comes from {names(number)}, not known yet"


def _is_said(step: Prepared, known: Trusted) -> bool:
    """Whether all texts of a step are the user's own words, or what they were found to mean."""
    return all(
        value.casefold() in known.words or value in step.labels
        for param in step.tool.params
        if param.kind in (Kind.SPAN, Kind.TEXT, Kind.TEMPLATE)
        and isinstance(value := step.args[param.name], str)
    )


def _is_foreign(result: Result | None) -> bool:
    return isinstance(result, Ok) and result.value.origin is Origin.UNTRUSTED


def _target(tool: Tool, entity: str | None, accepts: frozenset[Type], kind: Kind) -> str:
    """Say what an argument aims at; empty where it is text only."""
    if entity:
        return _TARGETS[entity]
    if tool.effect is Effect.OPEN:
        return "target"
    return "link" if kind is Kind.SPAN and Type.URL in accepts else ""


def _pending(step: Prepared, name: str) -> Sequence[int]:
    return Step(step.step, step.tool.name, (step.args[name],)).dependencies


def _recipients(step: Prepared, staged: Staged) -> list[str]:
    """Return the addresses and numbers a step reaches, each once."""
    found: list[object] = []
    for param in step.tool.params:
        if param.entity in ("contact-email", "contact-phone"):
            value = step.args[param.name]
            found += value if isinstance(value, tuple) else [value]
    calls: tuple[EffectCall, ...] = staged.calls or ()
    for call in calls:
        for name in RECIPIENT_ARGUMENTS:
            found += call.value(name) or ()
    return [text for text in dict.fromkeys(found) if isinstance(text, str) and text]


def _fits(rule: Rule, tool: Tool, recipients: Sequence[str]) -> bool:
    """Whether a rule speaks of a call: an allowance has to fit all recipients, others one."""
    if not fnmatchcase(tool.name, rule.tool):
        return False
    if not rule.to:
        return True
    fitting = [fnmatchcase(r.casefold(), rule.to.casefold()) for r in recipients]
    return bool(fitting) and (all(fitting) if rule.verdict == "allow" else any(fitting))


def _digits(text: str) -> str:
    return "".join(char for char in text if char.isdecimal())


def _apart(address: str) -> str:
    """Return a pattern that finds an address which is not part of a longer one."""
    return rf"(?<![\w.+-]){re.escape(address)}(?![\w-]|\.\w)"


def _words(name: str) -> str:
    return name.replace("_", " ")
