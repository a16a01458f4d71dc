"""The slash commands of a chat. An unknown one is an error with the nearest name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

from mlx_tinyagent.agent.joiner import problem, words
from mlx_tinyagent.cli import chat_file
from mlx_tinyagent.cli.chat_settings import MEANINGS
from mlx_tinyagent.errors import UsageError
from mlx_tinyagent.tools.results import Ok

if TYPE_CHECKING:
    from mlx_tinyagent.cli.chat_loop import Chat

KEYS = """\
Enter sends · Esc Enter a new line · Ctrl-G your editor · Tab completes people, notes and files
\"\"\" opens and closes a request of several lines · Ctrl-C stops, twice in a second leaves"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """A slash command.

    Attributes:
        takes: What may follow its name.
        says: What it does.
        run: Does it; returns what to show.
    """

    takes: str = ""
    says: str
    run: Callable[[Chat, str], str]


class Leave(Exception):  # noqa: N818 - not an error: the user is done
    """The user leaves."""


def run_command(chat: Chat, line: str) -> str:
    """Do what a slash command says.

    Args:
        chat: The chat.
        line: The command, with its slash.

    Returns:
        What to show; may be empty.

    Raises:
        UsageError: There is no such command, or it does not take what follows.
        TinyAgentError: What it did failed.
        Leave: The user leaves.
    """
    name, _, rest = line.strip().partition(" ")
    return COMMANDS[_named(name.casefold())].run(chat, rest.strip())


def options(chat: Chat) -> Mapping[str, tuple[str, ...]]:
    """Return what may follow each command, for completion."""
    return dict.fromkeys(COMMANDS, ()) | {
        "/set": tuple(f"{name} " for name in MEANINGS),
        "/why": chat.tools.names,
        "/tools": chat.tools.names,
    }


def _named(name: str) -> str:
    known = _ALIASES.get(name, name)
    if known in COMMANDS:
        return known
    near = get_close_matches(known, COMMANDS, n=1, cutoff=0.6)
    hint = f"did you mean {near[0]}?" if near else "/help lists them"
    raise UsageError(f"There is no command {name[:40]}; {hint}")


def _help(chat: Chat, rest: str) -> str:
    width = max(len(f"{name} {command.takes}") for name, command in COMMANDS.items())
    lines = [
        f"{f'{name} {command.takes}'.strip():<{width}}  {command.says}"
        for name, command in COMMANDS.items()
    ]
    return "\n".join(["Type a request: remind me to call mom tomorrow at 5pm", *lines, KEYS])


def _tools(chat: Chat, rest: str) -> str:
    if rest:
        return chat.tools[rest].text().rstrip()
    width = max(len(tool.name) for tool in chat.tools)
    return "\n".join(f"{tool.name:<{width}}  {tool.summary}" for tool in chat.tools)


def _plan(chat: Chat, rest: str) -> str:
    if rest:  # a dry run
        return chat.dry_run(rest)
    if chat.last is None:
        return "There is no plan yet."
    return chat.last.plan_text


def _why(chat: Chat, rest: str) -> str:
    planned = chat.session.planned
    if chat.last is None:
        return "There is no plan yet."
    lines = []
    if planned is None:
        lines.append("The last request was read as a follow-up, without the model.")
    else:
        retrieved = planned.retrieved
        scores = sorted(retrieved.scores.items(), key=lambda pair: -pair[1])
        lines.append(f"{len(retrieved.tools)} of {len(chat.tools)} tools were offered:")
        width = max((len(name) for name in chat.tools.names), default=0)
        for name, score in scores:
            reason = retrieved.reasons.get(name, "")
            if rest and name != rest:
                continue
            if reason or rest or score > 0:
                kept = _REASONS.get(reason, reason) if reason else "not offered"
                lines.append(f"  {name:<{width}}  {score:6.3f}  {kept}")
        if planned.plan.ask is not None:
            lines.append("The model asked, because it found something missing.")
        elif not planned.plan.steps:
            lines.append("The model found that no tool serves the request.")
    for outcome in chat.last.results:
        if not isinstance(outcome.result, Ok):
            lines.append(f"  step {outcome.id}, {words(outcome.tool)}: {problem(outcome)}")
    return "\n".join(lines)


_REASONS = {
    "score": "fits the words of the request",
    "producer": "another tool needs what it gives",
    "always": "is always offered",
    "small-set": "there are few tools, so all are offered",
    "asked for": "the model asked for it",
}


def _undo(chat: Chat, rest: str) -> str:
    return chat.undo(rest)


def _retry(chat: Chat, rest: str) -> str:
    if chat.last_query is None:
        return "There is no request yet."
    chat.again(chat.last_query)
    return ""


def _model(chat: Chat, rest: str) -> str:
    if not rest:
        return f"{chat.model_name} with {chat.adapter_name}"
    chat.use(rest, None)
    return f"Now {chat.model_name} with {chat.adapter_name}."


def _adapter(chat: Chat, rest: str) -> str:
    if not rest:
        return chat.adapter_name
    chat.use(chat.model_name, rest)
    return f"Now {chat.model_name} with {chat.adapter_name}."


def _set(chat: Chat, rest: str) -> str:
    name, _, value = rest.replace("=", " ", 1).partition(" ")
    if not name:
        width = max(map(len, MEANINGS))
        return "\n".join(
            f"{name:<{width}}  {getattr(chat.settings, name)!s:<6}  {meaning}"
            for name, meaning in MEANINGS.items()
        )
    settings = chat.settings.changed(name, value.strip())
    chat.apply(settings)
    return f"{name} is now {getattr(settings, name)!s}."


def _stats(chat: Chat, rest: str) -> str:
    totals = chat.totals
    if not totals.requests:
        return "There is nothing to count yet."
    share = totals.computed / totals.prompt if totals.prompt else 0.0
    return "\n".join(
        (
            f"{totals.requests} requests, {totals.planned} planned by the model",
            f"{totals.computed:,} of {totals.prompt:,} prompt tokens computed ({share:.0%})"
            + (f", {totals.ahead:,} more while you typed" if totals.ahead else ""),
            f"{totals.plan:,} plan tokens in {totals.passes:,} passes",
            f"plan {totals.plan_s:.1f} s, run {totals.run_s:.1f} s",
        )
    )


def _trace(chat: Chat, rest: str) -> str:
    if chat.last is None:
        return "There is nothing to trace yet."
    reply = chat.last
    lines = [f"{name:<10}  {seconds:8.4f} s" for name, seconds in reply.trace.rounded().items()]
    if reply.counts is not None:
        counts: dict[str, Any] = {
            name: getattr(reply.counts, name) for name in type(reply.counts).__slots__
        }
        lines += [f"{name:<24}  {value:6}" for name, value in counts.items()]
    lines += [
        f"step {outcome.id} {words(outcome.tool)}: {outcome.result.status}, {outcome.seconds:.4f} s"
        for outcome in reply.results
    ]
    return "\n".join(lines)


def _new(chat: Chat, rest: str) -> str:
    chat.begin_anew()
    return "A new chat: what was said before is forgotten here."


def _save(chat: Chat, rest: str) -> str:
    if not chat.session.exchanges:
        return "There is nothing to save yet."
    name = rest or chat.saved_as or chat_file.LAST
    path = chat_file.save(name, chat.session.exchanges)
    chat.saved_as = name
    return f"Saved to {path}; 'mlx-tinyagent chat --resume {name}' goes on from here."


def _quit(chat: Chat, rest: str) -> str:
    raise Leave


_ALIASES = {"/exit": "/quit", "/bye": "/quit", "/q": "/quit", "/?": "/help", "/h": "/help"}
COMMANDS = {
    "/help": Command(says="this text", run=_help),
    "/tools": Command(
        takes="[NAME]", says="what may be used; one as the model sees it", run=_tools
    ),
    "/plan": Command(
        takes="[REQUEST]", says="the last plan, or a plan without running it", run=_plan
    ),
    "/why": Command(
        takes="[TOOL]", says="why these tools were offered and what went wrong", run=_why
    ),
    "/undo": Command(takes="[ID]", says="take back what the last request did", run=_undo),
    "/retry": Command(says="plan the last request again", run=_retry),
    "/model": Command(takes="[NAME]", says="the model, or another one", run=_model),
    "/adapter": Command(takes="[DIR|none]", says="the adapter, or another one", run=_adapter),
    "/set": Command(takes="[NAME VALUE]", says="settings of this chat", run=_set),
    "/stats": Command(says="what this chat has cost so far", run=_stats),
    "/trace": Command(says="where the time of the last request went", run=_trace),
    "/new": Command(says="forget what was said and start anew", run=_new),
    "/save": Command(takes="[NAME]", says="save this chat, to go on with --resume NAME", run=_save),
    "/quit": Command(says="leave (also Ctrl-D)", run=_quit),
}
