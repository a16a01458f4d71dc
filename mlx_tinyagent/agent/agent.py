"""The main path: a request becomes a plan, the plan runs, an answer comes back."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import TYPE_CHECKING, Any

from mlx_tinyagent.act.executor import Callbacks, StepResult, run
from mlx_tinyagent.act.journal import Journal, LoggedRun
from mlx_tinyagent.act.policy import Policy
from mlx_tinyagent.agent.joiner import answer, problem
from mlx_tinyagent.agent.planner import Planned, Planner, counts_json
from mlx_tinyagent.config import Settings
from mlx_tinyagent.plan.graph import as_calls
from mlx_tinyagent.plan.schema import Plan
from mlx_tinyagent.prompt.render import Request, Turn
from mlx_tinyagent.tools.backend import Backend, Host, Writer
from mlx_tinyagent.tools.base import ToolSet
from mlx_tinyagent.tools.results import Ambiguous, NotFound, Ok, Origin, explain
from mlx_tinyagent.trace import Trace

if TYPE_CHECKING:
    from mlx_tinyagent.decode.engine import Counts

HISTORY_TURNS = 3  # earlier turns that a request is planned with
CHAT_TOKENS = 96  # most tokens of a plain answer


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """What came of one request.

    Attributes:
        query: The request.
        plan: The plan.
        plan_text: The plan as it was written.
        results: One result per step; empty for a dry run.
        text: The answer.
        trace: Seconds by stage.
        counts: Tokens and passes; None where no model planned.
        offered: Names of the offered tools.
    """

    query: str
    plan: Plan
    plan_text: str
    results: tuple[StepResult, ...]
    text: str
    trace: Trace
    counts: Counts | None = None
    offered: tuple[str, ...] = ()

    @property
    def exit_code(self) -> int:
        """The command line's exit code: 0 done, 5 a tool failed, 6 an answer is needed.

        Something that is not there or not clear (a person, a file, a date) asks
        the user; that goes before a failure.
        """
        outcomes = [outcome.result for outcome in self.results]
        if self.plan.ask is not None or any(isinstance(o, Ambiguous | NotFound) for o in outcomes):
            return 6
        return 0 if all(isinstance(outcome, Ok) for outcome in outcomes) else 5

    def as_json(self) -> dict[str, Any]:
        """Return the documented JSON object."""
        return {
            "query": self.query,
            "plan": {"calls": as_calls(self.plan), "text": self.plan_text},
            "results": [_result_json(outcome) for outcome in self.results],
            "reply": self.text,
            "timings": self.trace.rounded(),
            "counts": counts_json(self.counts) if self.counts else {},
        }


@dataclass(slots=True)
class Agent:
    """Plans and runs requests against one backend.

    Attributes:
        tools: Enabled tools.
        backend: Where effects happen.
        writer: Who writes bodies.
        planner: Plans requests; None can only run given plans.
        clock: Gives the moment a request refers to; local time.
        instructions: The user's standing instructions.
        history: Turns so far; only the last few are planned with.
        settings: The user's settings; they say what may run without a question.
        journal: Where what is done is written down; None keeps nothing.
        read: Names of the texts of others that were read so far. None of them is in
            the prompt of a plan; still, every change in a plan made after is warned about.
    """

    tools: ToolSet
    backend: Backend
    writer: Writer
    planner: Planner | None = None
    clock: Callable[[], datetime] = datetime.now
    instructions: str = ""
    history: list[Turn] = field(default_factory=list)
    settings: Settings = field(default_factory=Settings)
    journal: Journal | None = None
    read: list[str] = field(default_factory=list)

    def ask(
        self,
        query: str,
        callbacks: Callbacks | None = None,
        *,
        dry_run: bool = False,
        on_plan: Callable[[Planned], None] | None = None,
        on_text: Callable[[str], None] | None = None,
    ) -> Reply:
        """Answer one request.

        Args:
            query: The request.
            callbacks: How to ask for approval and report progress.
            dry_run: Plan only; nothing runs.
            on_plan: Called with the checked plan before anything runs.
            on_text: Called with the plan text while it is written.

        Raises:
            TinyAgentError: In one of its kinds; nothing was changed.
            Stopped: Ctrl-C while steps ran; it says what became of each.
        """
        if self.planner is None:
            raise ValueError("this agent has no planner")
        moment = self.clock()
        request = Request(
            query=query,
            now=moment,
            history=tuple(self.history[-HISTORY_TURNS:]),
            instructions=self.instructions,
        )
        planned = self.planner.plan(request, on_text=on_text)
        if on_plan is not None:
            on_plan(planned)
        trace = planned.trace
        if dry_run or not planned.plan.steps:
            text = "" if dry_run else self._plain(planned, query, trace)
            results: Sequence[StepResult] = ()
        else:
            results, text = self._run(planned.plan, query, moment, callbacks, trace)
        self.history.append(Turn(query=query, plan=planned.text))
        return Reply(
            query=query,
            plan=planned.plan,
            plan_text=planned.text,
            results=tuple(results),
            text=text,
            trace=trace,
            counts=planned.counts,
            offered=planned.retrieved.tools.names,
        )

    def run_plan(
        self,
        plan: Plan,
        text: str,
        query: str,
        callbacks: Callbacks | None,
        *,
        typed: bool = False,
    ) -> Reply:
        """Run a given plan through the same gate.

        Args:
            plan: A checked plan.
            text: The plan as it was written.
            query: The request it answers; the writer of bodies reads it.
            callbacks: How to ask for approval and report progress.
            typed: Whether the user wrote the plan, so that addresses in it are the user's words.

        Raises:
            RefusedError: It changes something and was not approved.
            Stopped: Ctrl-C while steps ran.
        """
        trace = Trace()
        words = text if typed else ""
        results, reply = self._run(plan, query, self.clock(), callbacks, trace, words=words)
        return Reply(
            query=query, plan=plan, plan_text=text, results=tuple(results), text=reply, trace=trace
        )

    def resume(self, plan: Plan, text: str, cut: LoggedRun, callbacks: Callbacks | None) -> Reply:
        """Go on with a run that was cut off; what is done already is not done again.

        Args:
            plan: Its plan.
            text: The plan as text.
            cut: What the journal knows of it, unknown outcomes read back.
            callbacks: How to ask for approval and report progress.

        Raises:
            RefusedError: The rest changes something and was not approved.
            Stopped: Ctrl-C while steps ran.
        """
        trace = Trace()
        query = str(cut.details.get("request", ""))
        moment = datetime.fromisoformat(str(cut.details["now"]))
        results, reply = self._run(plan, query, moment, callbacks, trace, resumed=cut)
        return Reply(
            query=query, plan=plan, plan_text=text, results=tuple(results), text=reply, trace=trace
        )

    def _run(
        self,
        plan: Plan,
        query: str,
        moment: datetime,
        callbacks: Callbacks | None,
        trace: Trace,
        *,
        words: str = "",
        resumed: LoggedRun | None = None,
    ) -> tuple[list[StepResult], str]:
        host = Host(backend=self.backend, writer=self.writer, request=query, now=moment)
        earlier = [turn.query for turn in self.history]
        policy = Policy(
            settings=self.settings,
            words="\n".join((*earlier, self.instructions, words)),
            tainted=tuple(self.read),
        )
        with trace.span("run"):
            results = run(
                plan,
                self.tools,
                host,
                self._reading(callbacks or Callbacks()),
                policy=policy,
                journal=self.journal,
                resumed=resumed,
            )
        return results, answer(plan, results, self.tools)

    def _reading(self, callbacks: Callbacks) -> Callbacks:
        """Note which texts of others are read, whatever becomes of the run."""

        def finished(outcome: StepResult) -> None:
            name = read_of_others(outcome)
            if name and name not in self.read:
                self.read.append(name)
            if callbacks.finished is not None:
                callbacks.finished(outcome)

        return replace(callbacks, finished=finished)

    def _plain(self, planned: Planned, query: str, trace: Trace) -> str:
        """Answer where no tool is called: the question, or a few plain sentences of the model."""
        if planned.plan.ask is not None or self.planner is None:
            return answer(planned.plan, (), self.tools)
        engine = self.planner.engine
        frame = engine.model.tokenizer.chat_frame()
        encode = engine.model.tokenizer.encode
        ids = [
            *encode(f"{frame.system_open}Answer in one or two short sentences.{frame.user_open}"),
            *encode(query, special=False),
            *encode(frame.assistant_open),
        ]
        with trace.span("reply"):
            text = engine.complete(ids, max_tokens=CHAT_TOKENS).strip()
        return f"{answer(planned.plan, (), self.tools)} {text}".strip()


def read_of_others(outcome: StepResult) -> str:
    """Name the text of others that a step has read; empty if it read none."""
    result = outcome.result
    if not isinstance(result, Ok) or result.value.origin is not Origin.UNTRUSTED:
        return ""
    said = next(iter(explain(result).splitlines()), "")
    return f"{outcome.tool.replace('_', ' ')}: {said}"


def _result_json(outcome: StepResult) -> dict[str, Any]:
    result = outcome.result
    return {
        "id": outcome.id,
        "status": result.status,
        "value": result.value.text if isinstance(result, Ok) else None,
        "error": None if isinstance(result, Ok) else problem(outcome),
    }
