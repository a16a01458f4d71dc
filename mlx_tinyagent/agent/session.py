"""A conversation: earlier turns, follow-ups, questions with choices, edited plans.

Of earlier turns the planner sees requests and plans. Results, drafts and what
was found stay here: they may hold text of others.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Literal

from mlx_tinyagent.act.dates import resolve
from mlx_tinyagent.act.executor import Callbacks
from mlx_tinyagent.act.resolve import read_dates
from mlx_tinyagent.agent.agent import HISTORY_TURNS, Agent, Reply
from mlx_tinyagent.agent.asking import moments, names_it, once, quoted, replaced
from mlx_tinyagent.agent.followup import Earlier, edited, follow_up
from mlx_tinyagent.agent.leaning import leans
from mlx_tinyagent.agent.smalltalk import small_talk
from mlx_tinyagent.agent.stored import stored
from mlx_tinyagent.agent.talker import Talker
from mlx_tinyagent.errors import PlanError, RefusedError
from mlx_tinyagent.plan.graph import parse
from mlx_tinyagent.plan.schema import Plan
from mlx_tinyagent.plan.text import write
from mlx_tinyagent.prompt.render import Request, Turn
from mlx_tinyagent.tools.catalog import find_contacts
from mlx_tinyagent.tools.results import Ambiguous, NotFound, Ok, Result
from mlx_tinyagent.tools.store_tools import ROW_ARGUMENTS, STORE, agenda_of, found_row
from mlx_tinyagent.trace import Trace

if TYPE_CHECKING:
    from mlx_tinyagent.agent.planner import Planned
    from mlx_tinyagent.decode.engine import Counts

State = Literal["done", "asked", "refused", "stopped", "failed"]
REACH = 3  # exchanges back that a follow-up may lean on
KEPT = 200  # exchanges of one session
MAX_QUESTIONS = 3  # that one request may lead to
_TIME_WORDS = ("when", "what time", "which day", "what day", "which date", "what date", "how late")
_PERSON_WORDS = ("who", "whom", "which", "whose")


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """Something the user is asked before a request can go on.

    Attributes:
        text: The question.
        choices: Answers to offer; others may be given.
    """

    text: str
    choices: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Exchange:
    """One request and what came of it.

    Attributes:
        query: The request.
        plan: The plan as written.
        reply: The answer.
        state: How it ended.
        records: Keys of the rows its steps made, by step number.
        when: The moment it was asked, local ISO 8601.
    """

    query: str
    plan: str
    reply: str = ""
    state: State = "done"
    records: Mapping[int, str] = field(default_factory=dict)
    when: str = ""


class Edited(Exception):  # noqa: N818 - not an error: the user wants another plan
    """Raised by an approval that ends in a changed plan.

    Args:
        plan: The plan as it is wanted now; checked, resolved and shown anew.
    """

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        super().__init__("edited")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Draft:
    """A plan before it runs, and what it cost."""

    plan: Plan
    text: str
    trace: Trace
    counts: Counts | None = None
    offered: tuple[str, ...] = ()
    rows: Mapping[str, str] = field(default_factory=dict)


Ask = Callable[[Question], str | None]


@dataclass(slots=True)
class Session:
    """Answers requests one after the other.

    Attributes:
        agent: Plans and runs.
        talker: Answers where no tool does; None says so plainly.
        exchanges: What was said, oldest first.
        turns: Earlier exchanges a request is planned with.
        planned: What the last plan was chosen from; None if no model planned it.
    """

    agent: Agent
    talker: Talker | None = None
    exchanges: list[Exchange] = field(default_factory=list)
    turns: int = HISTORY_TURNS
    planned: Planned | None = None

    def request(self, text: str) -> Request:
        """Return what the planner is asked for a text, with the turns that it leans on."""
        told = [e for e in self.exchanges if e.state in ("done", "asked")]
        if not leans(text, answers=self._was_asked()):
            told = []
        history = tuple(Turn(query=e.query, plan=e.plan) for e in told[-self.turns :])
        return Request(
            query=text,
            now=self.agent.clock(),
            history=history if self.turns else (),
            instructions=self.agent.instructions,
        )

    def choices(self, question: str) -> tuple[str, ...]:
        """Return answers to offer for a question that the planner asked.

        Args:
            question: The planner's question.

        Returns:
            Days and times for "when", the people a name fits for "who"; often nothing.
        """
        asked = question.casefold()
        if any(word in asked for word in _TIME_WORDS):
            return moments(self.agent.clock())
        if any(word in asked.split() for word in _PERSON_WORDS):
            return self._people(question) or self._people(self._last_query())
        return ()

    def answer(
        self,
        text: str,
        callbacks: Callbacks | None = None,
        *,
        ask: Ask | None = None,
        dry_run: bool = False,
        on_text: Callable[[str], None] | None = None,
        on_plan: Callable[[Plan], None] | None = None,
    ) -> Reply:
        """Answer one request.

        Args:
            text: The request, a follow-up, or the answer to the last question.
            callbacks: How to ask for approval and report progress; an approval
                may raise ``Edited``.
            ask: Asks the user for what is missing; None asks nothing.
            dry_run: Plan only; nothing runs.
            on_text: Called with the plan text while it is written.
            on_plan: Called with every plan that is about to be checked and shown.

        Raises:
            TinyAgentError: In one of its kinds; nothing was changed.
            Stopped: Ctrl-C while steps ran.
        """
        told = None if self._was_asked() else small_talk(text, self.agent.tools)
        if told is not None:
            self.planned = None
            trace = Trace()
            return Reply(query=text, plan=Plan(), plan_text="", results=(), text=told, trace=trace)
        draft = self._followed(text) or self._stored(text) or self._planned(text, on_text)
        if draft.plan.steps and not dry_run:
            return self._run(text, draft, callbacks or Callbacks(), ask, on_plan)
        reply = Reply(
            query=text,
            plan=draft.plan,
            plan_text=draft.text,
            results=(),
            text="" if draft.plan.steps else self._plain(text, draft.plan, draft.trace),
            trace=draft.trace,
            counts=draft.counts,
            offered=draft.offered,
        )
        self._keep(reply, "asked" if draft.plan.ask is not None else "done")
        return reply

    def run(self, text: str, plan: Plan, callbacks: Callbacks, ask: Ask | None = None) -> Reply:
        """Run a plan that the user wrote or changed, through the same checks and the same gate.

        Args:
            text: The request it answers.
            plan: The plan.
            callbacks: How to ask for approval and report progress.
            ask: Asks the user for what is missing.

        Raises:
            TinyAgentError: In one of its kinds; nothing was changed.
            Stopped: Ctrl-C while steps ran.
        """
        draft = _Draft(plan=plan, text=write(plan), trace=Trace())
        return self._run(text, draft, callbacks, ask, None)

    def stopped(self, text: str) -> None:
        """Remember that a request was stopped; what it did is said where it was stopped."""
        moment = self.agent.clock().isoformat(timespec="seconds")
        self.exchanges.append(Exchange(query=text, plan="", state="stopped", when=moment))

    def undone(self, records: Iterable[str | None]) -> None:
        """Forget rows that are taken back: a follow-up cannot change them any more.

        Args:
            records: Their keys.
        """
        gone = set(records)
        for place, exchange in enumerate(self.exchanges):
            left = {step: key for step, key in exchange.records.items() if key not in gone}
            if len(left) < len(exchange.records):
                state: State = "done" if left else "refused"
                self.exchanges[place] = replace(exchange, records=left, state=state)

    # Planning

    def _followed(self, text: str) -> _Draft | None:
        """Read a follow-up on the last plan, if there is one and code understands it."""
        last = self._leaned_on()
        if last is None:
            return None
        try:
            plan = parse(last.plan, self.agent.tools)
        except PlanError:  # of a saved chat with other tools
            return None
        ran = any(key for key in last.records.values())
        earlier = Earlier(
            plan=plan, records=last.records, ran=ran, starts=self._starts(last.records)
        )
        contacts = self.agent.backend.contacts()
        found = follow_up(
            text,
            earlier,
            self.agent.tools,
            self.agent.clock(),
            is_person=lambda name: "@" in name or bool(find_contacts(contacts, name)),
        )
        if found is None:
            return None
        self.planned = None
        written = write(found.plan)
        checked = parse(written, self.agent.tools)
        return _Draft(plan=checked, text=written, trace=Trace(), rows=found.rows)

    def _stored(self, text: str) -> _Draft | None:
        """Read a request about what is in the store, if code understands it."""
        agenda = agenda_of(self.agent.backend)
        if agenda is None:
            return None
        plan = stored(text, agenda, self.agent.tools, self.agent.clock())
        if plan is None:
            return None
        self.planned = None
        written = write(plan)
        return _Draft(plan=parse(written, self.agent.tools), text=written, trace=Trace())

    def _starts(self, records: Mapping[int, str]) -> dict[int, str]:
        """Return when rows begin or are due, as they are now."""
        agenda = agenda_of(self.agent.backend)
        if agenda is None:
            return {}
        items = {step: agenda.item(key) for step, key in records.items()}
        return {step: item.start for step, item in items.items() if item is not None}

    def _was_asked(self) -> bool:
        """Whether the last turn ended in a question of the planner's."""
        return bool(self.exchanges) and self.exchanges[-1].state == "asked"

    def _leaned_on(self) -> Exchange | None:
        """Return the exchange that "it" means: the last one with steps, and not long ago."""
        if self._was_asked():
            return None
        recent = self.exchanges[-REACH:]
        return next((e for e in reversed(recent) if "(" in e.plan.partition("join()")[0]), None)

    def _planned(self, text: str, on_text: Callable[[str], None] | None) -> _Draft:
        planner = self.agent.planner
        if planner is None:
            raise ValueError("this agent has no planner")
        planned = planner.plan(self.request(text), on_text=on_text)
        self.planned = planned
        return _Draft(
            plan=planned.plan,
            text=planned.text,
            trace=planned.trace,
            counts=planned.counts,
            offered=planned.retrieved.tools.names,
        )

    def _plain(self, text: str, plan: Plan, trace: Trace) -> str:
        """Answer where no tool is called: the question, or that it cannot be done."""
        from mlx_tinyagent.agent.joiner import answer

        told = answer(plan, (), self.agent.tools)
        if plan.ask is not None or self.talker is None:
            return told
        with trace.span("reply"):
            return self.talker.reply(text, refusal=told)

    # Running

    def _run(
        self,
        text: str,
        draft: _Draft,
        callbacks: Callbacks,
        ask: Ask | None,
        on_plan: Callable[[Plan], None] | None,
    ) -> Reply:
        careful = replace(callbacks, choose=once(callbacks.choose))
        plan, rows = draft.plan, dict(draft.rows)
        meant: dict[str, str] = {}  # what was chosen, which may be a name that others gave
        self.agent.history[:] = self.request(text).history  # words of the user's own count
        for left in reversed(range(MAX_QUESTIONS)):
            if ask is not None:
                plan = self._dated(plan, ask)
            grounded = plan
            for said, value in meant.items():
                grounded = replaced(grounded, said, value)
            grounded = self._grounded(grounded, rows, careful)
            if on_plan is not None:
                on_plan(plan)
            try:
                reply = self.agent.run_plan(grounded, write(plan), text, careful)
            except Edited as edit:
                return self._again(text, edit.plan, draft, careful, ask, on_plan)
            except RefusedError:
                self._note(text, write(plan), "refused")
                raise
            fixed = self._asked(plan, reply, ask, careful, meant) if left else None
            if fixed is None:
                break
            plan = fixed
        shown = replace(
            reply,
            plan=plan,
            plan_text=write(plan),
            counts=draft.counts,
            offered=draft.offered,
            trace=_joined(draft.trace, reply.trace),
        )
        self._keep(shown, "done" if shown.exit_code == 0 else "failed")
        return shown

    def _again(
        self,
        text: str,
        plan: Plan,
        draft: _Draft,
        callbacks: Callbacks,
        ask: Ask | None,
        on_plan: Callable[[Plan], None] | None,
    ) -> Reply:
        """Go on with an edited plan as with any other: checked, read, shown."""
        written = write(plan)
        checked = parse(written, self.agent.tools)
        return self._run(text, replace(draft, plan=checked, text=written), callbacks, ask, on_plan)

    def _dated(self, plan: Plan, ask: Ask) -> Plan:
        """Ask for the dates that cannot be read, before anything is looked up."""
        now = self.agent.clock()
        for step in plan.steps:
            tool = self.agent.tools[step.tool]
            for name, phrase in read_dates(step, tool, now).unread.items():
                about = next((a for a in step.args if isinstance(a, str) and a != phrase), "")
                what = f"'{about}'" if about else step.tool.replace("_", " ")
                text = f"I cannot read {phrase!r} as a date. " if phrase else ""
                said = ask(Question(text=f"{text}When is {what}?", choices=moments(now)))
                moment = resolve(said, now) if said else None
                if said and moment is not None and not moment.unread:
                    place = next(i for i, p in enumerate(tool.params) if p.name == name)
                    plan = edited(plan, step.id, place, said)
        return plan

    def _grounded(self, plan: Plan, rows: dict[str, str], callbacks: Callbacks) -> Plan:
        """Put keys in place of the titles of rows that a plan changes or deletes.

        So that the approval shows which row it is. What is not found, or stays
        unclear, is left: the step says so itself.
        """
        agenda = agenda_of(self.agent.backend)
        if agenda is None:
            return plan
        for step in plan.steps:
            if (
                step.tool not in ROW_ARGUMENTS
                or self.agent.tools[step.tool] is not STORE[step.tool]
            ):
                continue
            name, sort = ROW_ARGUMENTS[step.tool]
            tool = self.agent.tools[step.tool]
            place = next(i for i, p in enumerate(tool.params) if p.name == name)
            said = step.args[place]
            if not isinstance(said, str):
                continue
            if said not in rows:
                day = read_dates(step, tool, self.agent.clock()).values.get("day", "")
                found = found_row(agenda, sort, said, day)
                if isinstance(found, Ambiguous) and callbacks.choose is not None:
                    chosen = callbacks.choose(found)
                    key = chosen.value if chosen is not None else ""
                else:
                    key = "" if isinstance(found, Result) else found.key
                if not key:
                    continue
                rows[said] = key
            plan = edited(plan, step.id, place, rows[said])
        return plan

    def _asked(
        self,
        plan: Plan,
        reply: Reply,
        ask: Ask | None,
        callbacks: Callbacks,
        meant: dict[str, str],
    ) -> Plan | None:
        """Settle what stopped a plan by asking; None if nothing did, or no answer came.

        Only where nothing has been changed: the plan runs anew as a whole.
        """
        tools = self.agent.tools
        changed = [
            o for o in reply.results if tools[o.tool].effect.changes and isinstance(o.result, Ok)
        ]
        if ask is None or changed:
            return None
        for outcome in reply.results:
            match outcome.result:
                case Ambiguous() as unclear if callbacks.choose is not None:
                    said = quoted(unclear.what)
                    chosen = callbacks.choose(unclear) if names_it(plan, said) else None
                    if chosen is None or chosen.value in ("", said):
                        return None
                    if tools[outcome.tool].returns.value in ("email", "phone"):
                        return None  # a lookup gives the value itself: nothing to write anew
                    meant[said] = chosen.value  # not into the plan: later prompts have that
                    return plan
                case NotFound(what=what) if what.startswith(("contact ", "file ", "note ")):
                    said = quoted(what)
                    if not names_it(plan, said):
                        return None
                    sort = what.partition(" ")[0]
                    asked = "Who is meant" if sort == "contact" else f"Which {sort} is meant"
                    question = Question(text=f"I found no {what}. {asked}?")
                    given = ask(question)
                    return replaced(plan, said, given.strip()) if given and given.strip() else None
        return None

    # Remembering

    def _keep(self, reply: Reply, state: State) -> None:
        records = {
            o.id: o.result.record
            for o in reply.results
            if isinstance(o.result, Ok) and o.result.record
        }
        self._note(reply.query, reply.plan_text, state, reply.text, records)

    def _note(
        self,
        query: str,
        plan: str,
        state: State,
        text: str = "",
        records: Mapping[int, str] | None = None,
    ) -> None:
        moment = self.agent.clock().isoformat(timespec="seconds")
        self.exchanges.append(
            Exchange(
                query=query, plan=plan, reply=text, state=state, records=records or {}, when=moment
            )
        )
        del self.exchanges[:-KEPT]

    def _last_query(self) -> str:
        return self.exchanges[-1].query if self.exchanges else ""

    def _people(self, text: str) -> tuple[str, ...]:
        """Return the contacts that a capitalized word of a text may mean, if several."""
        contacts = self.agent.backend.contacts()
        for word in text.replace("?", " ").split()[::-1]:
            if not word[:1].isupper():
                continue
            found = find_contacts(contacts, word.strip(".,!?\"'"))
            if len(found) > 1:
                return tuple(contact.name for contact in found[:8])
        return ()


def _joined(first: Trace, second: Trace) -> Trace:
    seconds = dict(first.seconds)
    for name, value in second.seconds.items():
        seconds[name] = seconds.get(name, 0.0) + value
    return Trace(seconds=seconds)
