"""OpenAI's chat completions, answered with plans.

Of a conversation the planner sees the user's words, the system text and the
plans of earlier turns. Tool results are values that later calls read; they
never enter a prompt.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import TYPE_CHECKING, Any

from mlx_tinyagent.agent.agent import HISTORY_TURNS
from mlx_tinyagent.agent.joiner import NO_TOOL
from mlx_tinyagent.agent.talker import PROMPT, honest
from mlx_tinyagent.errors import ContextError, InputError, ModelError, PlanError
from mlx_tinyagent.plan.graph import from_calls
from mlx_tinyagent.plan.schema import Plan, Step
from mlx_tinyagent.plan.text import write
from mlx_tinyagent.prompt.render import Request, Turn
from mlx_tinyagent.server.declare import Declared, declare
from mlx_tinyagent.server.desk import Desk
from mlx_tinyagent.server.rounds import (
    Kept,
    Ledger,
    call_id,
    conclusion,
    read_call_id,
    read_result,
    ready,
)
from mlx_tinyagent.tools.base import Effect
from mlx_tinyagent.tools.results import Result, explain

if TYPE_CHECKING:
    from mlx_tinyagent.decode.engine import Counts

MAX_CHARS = 16_384  # of a request, and of the system text
TALK_TOKENS = 96  # most tokens of an answer without tools
# What would change the answer, and is not done; other settings are accepted and change nothing.
_UNSUPPORTED: Mapping[str, tuple[Any, ...]] = {
    "n": (None, 1),
    "logprobs": (None, False),
    "response_format": (None, {"type": "text"}),
    "functions": (None, []),
    "function_call": (None, "none", "auto"),
    "audio": (None,),
    "modalities": (None, ["text"]),
}


class ModelNameError(InputError):
    """The request names a model that is not served here."""


class NoCallError(ModelError):
    """A call was required, and the model wrote none."""


@dataclass(frozen=True, slots=True)
class Call:
    """A call that an earlier answer asked for, and its result where there is one."""

    id: str
    name: str
    arguments: Mapping[str, Any]
    result: Result | None = None


@dataclass(slots=True)
class Exchange:
    """One user message and what followed it; ``rounds`` are the calls, answer by answer."""

    query: str
    rounds: list[list[Call]] = field(default_factory=list)

    @property
    def calls(self) -> list[Call]:
        """All calls, in order."""
        return [call for calls in self.rounds for call in calls]


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatRequest:
    """A request as far as it counts here.

    Attributes:
        exchanges: The conversation; the last one is to be answered.
        instructions: System and developer texts.
        declared: The client's tools.
        only: Foreign name of the one tool that may be called; None for any.
        none: Whether no tool may be called.
        required: Whether a call must come.
        parallel: Whether an answer may hold several calls.
        stream: Whether the answer is sent as events.
        usage: Whether a stream ends with token counts.
        max_tokens: Most tokens of an answer without tools.
    """

    exchanges: tuple[Exchange, ...]
    instructions: str
    declared: Declared
    only: str | None = None
    none: bool = False
    required: bool = False
    parallel: bool = True
    stream: bool = False
    usage: bool = False
    max_tokens: int = TALK_TOKENS


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatAnswer:
    """Text, or calls: (identifier, name, arguments)."""

    text: str | None = None
    calls: tuple[tuple[str, str, dict[str, Any]], ...] = ()
    prompt_tokens: int = 0
    cached_tokens: int = 0
    plan_tokens: int = 0

    @property
    def finish_reason(self) -> str:
        """OpenAI's word for why it ends here."""
        return "tool_calls" if self.calls else "stop"

    def usage(self) -> dict[str, Any]:
        """Return the documented token counts."""
        return {
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": self.plan_tokens,
            "total_tokens": self.prompt_tokens + self.plan_tokens,
            "prompt_tokens_details": {"cached_tokens": self.cached_tokens},
        }


def read_request(data: Any, model: str) -> ChatRequest:
    """Read the body of a request.

    Args:
        data: The parsed JSON.
        model: The name of the model that is served.

    Raises:
        InputError: It cannot be used; the message names the field.
        ModelNameError: It names another model.
        ContextError: A text is far too long.
        ConfigError: A tool cannot be declared.
    """
    if not isinstance(data, dict):
        raise InputError(f"the body is a JSON object, found {type(data).__name__}")
    for name, harmless in _UNSUPPORTED.items():
        if data.get(name) not in harmless:
            raise InputError(f"{name} = {str(data[name])[:60]!r} is not supported")
    if (named := data.get("model")) != model:
        raise ModelNameError(f"the model {str(named)[:60]!r} is not served here; {model!r} is")
    tools = _list(data, "tools")
    declared = declare("client", tools, effect=Effect.READ)  # nothing of them runs here
    only, none, required = _choice(data.get("tool_choice"), declared)
    options = data.get("stream_options") or {}
    most = data.get("max_completion_tokens", data.get("max_tokens"))
    if most is not None and (not isinstance(most, int) or isinstance(most, bool) or most < 1):
        raise InputError(f"max_tokens is {most!r}, expected a whole number from 1")
    instructions, exchanges = _conversation(_list(data, "messages"))
    return ChatRequest(
        exchanges=exchanges,
        instructions=instructions,
        declared=declared,
        only=only,
        none=none or not tools,
        required=required,
        parallel=data.get("parallel_tool_calls") is not False,
        stream=data.get("stream") is True,
        usage=isinstance(options, dict) and options.get("include_usage") is True,
        max_tokens=min(most or TALK_TOKENS, TALK_TOKENS),
    )


class Chat:
    """Answers chat requests.

    Args:
        desk: Plans.
        ledger: Remembers plans between the rounds of their calls.
        clock: Gives the moment a request refers to; local time.
    """

    def __init__(self, desk: Desk, ledger: Ledger, clock: Callable[[], datetime]) -> None:
        self._desk = desk
        self._ledger = ledger
        self._clock = clock

    async def answer(self, chat: ChatRequest) -> ChatAnswer:
        """Answer with text or with the calls that can be made now.

        Raises:
            BusyError: Too many requests wait.
            NoCallError: A call was required and none was written.
            TinyAgentError: See ``Planner.plan``.
        """
        exchange = chat.exchanges[-1]
        if chat.none and not exchange.calls:
            return await self._talk(chat, exchange.query)
        request = self._request(chat)
        offered = None if chat.only is None else (str(chat.declared.title(chat.only)),)
        if exchange.calls:
            return await self._go_on(chat, exchange, request, offered)
        planned = await self._desk.plan(chat.declared.tools, request, offered=offered)
        if chat.required and not planned.plan.steps:
            raise NoCallError(
                "a call was required, and the model wrote none for this request; leave "
                "tool_choice at 'auto' to get its question or its answer"
            )
        if not planned.plan.steps:
            text = planned.plan.ask or await self._refuse(exchange.query)
            return _with_counts(ChatAnswer(text=text), planned.counts)
        key = self._ledger.keep(Kept(query=exchange.query, plan=planned.plan, text=planned.text))
        calls = self._calls(chat, key, ready(planned.plan, {}))
        return _with_counts(ChatAnswer(calls=calls), planned.counts)

    async def _go_on(
        self,
        chat: ChatRequest,
        exchange: Exchange,
        request: Request,
        offered: tuple[str, ...] | None,
    ) -> ChatAnswer:
        """Hand out the calls that were waiting for results, or say what came of it all."""
        found = self._plan_of(exchange)
        if (
            found is None and not chat.none
        ):  # made by another process: the same words, the same plan
            planned = await self._desk.plan(chat.declared.tools, request, offered=offered)
            kept = Kept(query=exchange.query, plan=planned.plan, text=planned.text)
            found = (self._ledger.keep(kept), kept.plan)
        key, plan = found if found is not None else ("", Plan())
        results = _results(plan, exchange.calls)
        if results is None:
            return ChatAnswer(text="\n".join(_texts(exchange.calls)))
        waiting = [] if chat.none else ready(plan, results)
        if waiting:
            return ChatAnswer(calls=self._calls(chat, key, waiting))
        return ChatAnswer(text=conclusion(plan, results, chat.declared.tools))

    def _plan_of(self, exchange: Exchange) -> tuple[str, Plan] | None:
        """Return the key and plan that an exchange's first call belongs to, if remembered."""
        read = read_call_id(exchange.calls[0].id)
        kept = self._ledger.find(read[0], exchange.query) if read is not None else None
        return (read[0], kept.plan) if read is not None and kept is not None else None

    def _calls(
        self, chat: ChatRequest, key: str, steps: Sequence[Step]
    ) -> tuple[tuple[str, str, dict[str, Any]], ...]:
        chosen = steps if chat.parallel else steps[:1]
        return tuple((call_id(key, step.id), *chat.declared.call(step)) for step in chosen)

    def _request(self, chat: ChatRequest) -> Request:
        turns = [self._turn(chat.declared, e) for e in chat.exchanges[:-1]]
        return Request(
            query=chat.exchanges[-1].query,
            now=self._clock(),
            history=tuple(turns[-HISTORY_TURNS:]),
            instructions=chat.instructions,
        )

    def _turn(self, declared: Declared, exchange: Exchange) -> Turn:
        """Return an earlier turn with its plan: as it was written, else its first calls.

        Later calls hold results, which others may have written: they stay out.
        """
        if not exchange.calls:
            return Turn(query=exchange.query)
        read = read_call_id(exchange.calls[0].id)
        kept = self._ledger.find(read[0], exchange.query) if read is not None else None
        if kept is not None:
            return Turn(query=exchange.query, plan=kept.text)
        return Turn(query=exchange.query, plan=_first_calls(declared, exchange))

    async def _talk(self, chat: ChatRequest, query: str) -> ChatAnswer:
        system = chat.instructions or PROMPT
        text = await self._desk.talk(system, query, max_tokens=chat.max_tokens)
        return ChatAnswer(text=text)

    async def _refuse(self, query: str) -> str:
        """Say that no tool does it, and what the model says to it; no claims, links or numbers."""
        written = await self._desk.talk(PROMPT, query, max_tokens=TALK_TOKENS)
        return f"{NO_TOOL} {honest(written, query)}".strip()


def _with_counts(answer: ChatAnswer, counts: Counts) -> ChatAnswer:
    return replace(
        answer,
        prompt_tokens=counts.prompt_tokens,
        cached_tokens=counts.prompt_tokens - counts.prompt_tokens_computed,
        plan_tokens=counts.plan_tokens,
    )


def _first_calls(declared: Declared, exchange: Exchange) -> str:
    """Write the calls of a turn's first answer as a plan; empty if they are none of these tools."""
    calls = []
    for number, call in enumerate(exchange.rounds[0], start=1):
        title = declared.title(call.name)
        if title is None:
            return ""
        own = declared.foreign[title].args
        args = [
            call.arguments.get(own[param.name], None if param.required else param.default)
            for param in declared.tools[title].params
        ]
        calls.append({"id": number, "tool": title, "args": args})
    try:
        return write(from_calls(calls, declared.tools))
    except PlanError:  # written by another model
        return ""


def _results(plan: Plan, calls: Sequence[Call]) -> dict[int, Result] | None:
    """Return the results by step; None if the calls are not those of the plan."""
    results: dict[int, Result] = {}
    known = {step.id for step in plan.steps}
    for call in calls:
        read = read_call_id(call.id)
        if read is None or read[1] not in known or call.result is None:
            return None
        results[read[1]] = call.result
    return results


def _texts(calls: Sequence[Call]) -> list[str]:
    return [explain(call.result) for call in calls if call.result is not None]


# Reading a request


def _list(data: Mapping[str, Any], name: str) -> list[Any]:
    value = data.get(name)
    if value is None and name == "tools":
        return []
    if not isinstance(value, list):
        raise InputError(f"{name} is a list, found {type(value).__name__}")
    return value


def _choice(value: Any, declared: Declared) -> tuple[str | None, bool, bool]:
    """Read ``tool_choice``: the one tool that may be called, whether none may, whether one must."""
    match value:
        case None | "auto":
            return None, False, False
        case "none":
            return None, True, False
        case "required" if len(declared.tools):
            return None, False, True
        case {"type": "function", "function": {"name": str(name)}} if declared.title(name):
            return name, False, True
    raise InputError(
        f"tool_choice is {str(value)[:60]!r}, expected 'auto', 'none', 'required' or one of tools"
    )


def _conversation(messages: Sequence[Any]) -> tuple[str, tuple[Exchange, ...]]:
    """Read messages as instructions and exchanges; the last message is to be answered."""
    told: list[str] = []
    exchanges: list[Exchange] = []
    for number, message in enumerate(messages):
        where = f"messages[{number}]"
        if not isinstance(message, Mapping):
            raise InputError(f"{where} is an object, found {type(message).__name__}")
        match message.get("role"):
            case "system" | "developer":
                told.append(_text(where, message.get("content")))
            case "user":
                exchanges.append(Exchange(_text(where, message.get("content"))))
            case "assistant" if exchanges:
                if calls := _calls_of(where, message):
                    exchanges[-1].rounds.append(calls)
            case "assistant":  # a greeting before the first request
                _calls_of(where, message)
            case "tool" if exchanges:
                _take_result(where, message, exchanges[-1])
            case role:
                raise InputError(
                    f"{where}.role is {str(role)[:40]!r}, expected system, user, assistant or "
                    "tool, the first of the latter after a user's"
                )
    _check_end(messages, exchanges)
    instructions = "\n".join(text for text in told if text.strip())
    for what, text in (("system text", instructions), ("request", exchanges[-1].query)):
        if len(text) > MAX_CHARS:
            raise ContextError(f"the {what} has {len(text):,} characters, {MAX_CHARS:,} at most")
    return instructions, tuple(exchanges)


def _check_end(messages: Sequence[Any], exchanges: Sequence[Exchange]) -> None:
    if not exchanges or messages[-1].get("role") not in ("user", "tool"):
        raise InputError("the last message is the user's or a tool's result: nothing to answer")
    if not exchanges[-1].query.strip():
        raise InputError("the request is empty")
    for call in exchanges[-1].calls:
        if call.result is None:
            raise InputError(f"the call {call.id[:60]!r} has no tool message with its result")


def _text(where: str, content: Any) -> str:
    """Return a message's text.

    Raises:
        InputError: It is no text, or holds lone surrogates.
    """
    if isinstance(content, list):
        texts = [part.get("text") if isinstance(part, Mapping) else None for part in content]
        kinds = {part.get("type") for part in content if isinstance(part, Mapping)}
        if not all(isinstance(text, str) for text in texts) or kinds - {"text"}:
            raise InputError(f"{where}.content holds something else than text")
        content = "\n".join(map(str, texts))
    if not isinstance(content, str):
        raise InputError(f"{where}.content is text, found {type(content).__name__}")
    if any("\ud800" <= char <= "\udfff" for char in content):
        raise InputError(f"{where}.content is no UTF-8 text")
    return content


def _calls_of(where: str, message: Mapping[str, Any]) -> list[Call]:
    calls = []
    for number, call in enumerate(message.get("tool_calls") or []):
        match call:
            case {"id": str(own), "function": {"name": str(name), "arguments": str(text)}}:
                try:
                    arguments = json.loads(text)
                except (ValueError, RecursionError):
                    arguments = None
                calls.append(Call(own, name, arguments if isinstance(arguments, dict) else {}))
            case _:
                raise InputError(
                    f"{where}.tool_calls[{number}] has no id, function.name and function.arguments"
                )
    return calls


def _take_result(where: str, message: Mapping[str, Any], exchange: Exchange) -> None:
    """Put a tool's result to its call."""
    wanted = message.get("tool_call_id")
    result = read_result(_text(where, message.get("content")))
    for calls in exchange.rounds:
        for place, call in enumerate(calls):
            if call.id == wanted:
                calls[place] = Call(call.id, call.name, call.arguments, result)
                return
    raise InputError(f"{where}.tool_call_id is {str(wanted)[:60]!r}, which no call has")
