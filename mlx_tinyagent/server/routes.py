"""The routes: OpenAI's chat completions and models, plans, and runs that somebody watches."""

from __future__ import annotations

import asyncio
import json
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping
from dataclasses import dataclass
from datetime import datetime
from importlib.resources import files
from typing import TYPE_CHECKING, Any, TypeVar

from mlx_tinyagent.errors import (
    ConfigError,
    ContextError,
    InputError,
    RefusedError,
    TinyAgentError,
    UsageError,
)
from mlx_tinyagent.server.chat import (
    MAX_CHARS,
    Chat,
    ChatAnswer,
    ChatRequest,
    ModelNameError,
    NoCallError,
    read_request,
)
from mlx_tinyagent.server.desk import BusyError, Desk
from mlx_tinyagent.server.guard import Access, App, Guard, Refusal, error_body
from mlx_tinyagent.server.planning import plan_row, read_plan_request
from mlx_tinyagent.server.rounds import Ledger
from mlx_tinyagent.server.runs import Runs
from mlx_tinyagent.tools.base import ToolSet

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

    from mlx_tinyagent.agent.session import Session

KEEP_S = 5.0  # how often a stream says that it is alive
FIRST_LOOK_S = 0.05  # before a stream begins
PAGE = {
    "/": ("index.html", "text/html; charset=utf-8"),
    "/page.js": ("page.js", "text/javascript; charset=utf-8"),
    "/page.css": ("page.css", "text/css; charset=utf-8"),
}
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    "require-trusted-types-for 'script'"
)

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """What is served.

    Attributes:
        model: The model's name.
        tools: The server's own tools; clients of the chat endpoint bring theirs.
        desk: Plans.
        session: Makes a conversation that runs plans; None serves no page and runs nothing.
        bug: Reports an unexpected error; returns one line for the user.
        clock: Gives the moment a request refers to; local time.
    """

    model: str
    tools: ToolSet
    desk: Desk
    session: Callable[[], Session] | None
    bug: Callable[[], str]
    clock: Callable[[], datetime] = datetime.now


def make_app(service: Service, access: Access) -> App:
    """Return the application with its checks."""
    from starlette.applications import Starlette
    from starlette.routing import Route

    routes = _Routes(service)
    table: dict[str, tuple[str, Callable[[Request], Coroutine[Any, Any, Response]]]] = {
        "/health": ("GET", routes.health),
        "/v1/models": ("GET", routes.models),
        "/v1/chat/completions": ("POST", routes.chat),
        "/plan": ("POST", routes.plan),
    }
    if service.session is not None:
        table |= dict.fromkeys(PAGE, ("GET", routes.page))
        table |= {
            "/run": ("POST", routes.run),
            "/approve": ("POST", routes.approve),
            "/answer": ("POST", routes.answer),
        }
    app = Starlette(
        routes=[
            Route(path, _readable(endpoint, service.bug), methods=[method])
            for path, (method, endpoint) in table.items()
        ]
    )
    app.router.redirect_slashes = False
    methods = {path: method for path, (method, _) in table.items()}
    return Guard(app, access, methods.get, PAGE.keys() & table.keys())


class _Gone(Exception):  # noqa: N818 - nobody is there to be told
    """The client has left."""


class _Routes:
    """What each path answers."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._chat = Chat(service.desk, Ledger(), service.clock)
        self._runs = Runs(service.session, service.bug) if service.session is not None else None

    async def health(self, request: Request) -> Response:
        return _json({"status": "ok"})

    async def models(self, request: Request) -> Response:
        entry = {"id": self._service.model, "object": "model", "created": 0, "owned_by": "local"}
        return _json({"object": "list", "data": [entry]})

    async def chat(self, request: Request) -> Response:
        chat = read_request(await _body(request), self._service.model)
        if not chat.stream:
            answer = await _unless_gone(request, self._chat.answer(chat))
            return _json(_completion(self._service.model, answer))
        task = asyncio.ensure_future(self._chat.answer(chat))
        await asyncio.wait({task}, timeout=FIRST_LOOK_S)
        if task.done():
            task.result()  # what is refused at once is refused with its own status
        return _events(_chunks(self._service, task, chat))

    async def plan(self, request: Request) -> Response:
        wanted = read_plan_request(await _body(request), self._service.clock())
        tools = self._service.tools
        work = self._service.desk.plan(tools, wanted.request, offered=wanted.tools)
        planned = await _unless_gone(request, work)
        return _json({"id": wanted.id, **plan_row(planned, wanted.request, tools)})

    async def page(self, request: Request) -> Response:
        from starlette.responses import Response

        name, kind = PAGE[request.url.path]
        content = files("mlx_tinyagent.server").joinpath("page", name).read_bytes()
        return Response(content, headers={"content-type": kind, "content-security-policy": POLICY})

    async def run(self, request: Request) -> Response:
        data = await _body(request)
        conversation, query = _text(data, "conversation"), _text(data, "query")
        if self._runs is None:
            raise InputError("this server runs nothing")
        if not query.strip():
            raise InputError("the request is empty")
        if len(query) > MAX_CHARS:
            raise ContextError(f"the request has {len(query):,} characters, {MAX_CHARS:,} at most")
        self._runs.check(conversation)
        return _events(_lines(self._runs.run(conversation, query)))

    async def approve(self, request: Request) -> Response:
        data = await _body(request)
        if not isinstance(data.get("approve"), bool):
            raise InputError("approve is true or false")
        run = self._find(data)
        run.approve(_text(data, "digest"), yes=data["approve"])
        return _json({"status": "ok"})

    async def answer(self, request: Request) -> Response:
        data = await _body(request)
        number, value = data.get("number"), data.get("answer")
        plain = value is None or (isinstance(value, str | int) and not isinstance(value, bool))
        if not isinstance(number, int) or not plain:
            raise InputError("expected number, the question's, and answer: text, a place or null")
        self._find(data).answer(number, value)
        return _json({"status": "ok"})

    def _find(self, data: Mapping[str, Any]) -> Any:
        if self._runs is None:
            raise InputError("this server runs nothing")
        return self._runs.find(_text(data, "run"))


# Answers


def _completion(model: str, answer: ChatAnswer) -> dict[str, Any]:
    """Return the documented object of a whole answer."""
    message: dict[str, Any] = {"role": "assistant", "content": answer.text}
    if answer.calls:
        message["tool_calls"] = _calls(answer)
    choice = {
        "index": 0,
        "message": message,
        "logprobs": None,
        "finish_reason": answer.finish_reason,
    }
    return {**_head(model, "chat.completion"), "choices": [choice], "usage": answer.usage()}


async def _chunks(
    service: Service, task: asyncio.Task[ChatAnswer], chat: ChatRequest
) -> AsyncIterator[str]:
    """Yield an answer as OpenAI's events.

    No call is told before the whole plan has been checked, so what comes
    meanwhile are comments, which show a client that is gone.
    """
    head = _head(service.model, "chat.completion.chunk")

    def chunk(delta: Mapping[str, Any], reason: str | None = None) -> str:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": reason}
        return _data({**head, "choices": [choice], **({"usage": None} if chat.usage else {})})

    try:
        yield chunk({"role": "assistant", "content": None})
        while not (await asyncio.wait({task}, timeout=KEEP_S))[0]:
            yield ": planning\n\n"
        answer = task.result()
        if answer.text is not None:
            yield chunk({"content": answer.text})
        for index, call in enumerate(_calls(answer)):
            yield chunk({"tool_calls": [{"index": index, **call}]})
        yield chunk({}, answer.finish_reason)
        if chat.usage:
            yield _data({**head, "choices": [], "usage": answer.usage()})
        yield "data: [DONE]\n\n"
    except TinyAgentError as error:
        refusal = _refusal(error)
        yield _data(error_body(refusal.reason, status=refusal.status, code=refusal.code))
    except Exception:  # a bug: one line for the user
        yield _data(error_body(service.bug(), status=500, code="internal_error"))
    finally:
        task.cancel()


def _calls(answer: ChatAnswer) -> list[dict[str, Any]]:
    return [
        {
            "id": own,
            "type": "function",
            "function": {"name": name, "arguments": json.dumps(args, ensure_ascii=False)},
        }
        for own, name, args in answer.calls
    ]


def _head(model: str, kind: str) -> dict[str, Any]:
    number = f"chatcmpl-{secrets.token_hex(12)}"
    return {"id": number, "object": kind, "created": int(time.time()), "model": model}


async def _lines(events: AsyncIterator[dict[str, Any]]) -> AsyncIterator[str]:
    """Yield a run's events, and comments while nothing happens."""
    waiting: asyncio.Future[dict[str, Any]] | None = None
    try:
        while True:
            waiting = waiting or asyncio.ensure_future(anext(events))
            if not (await asyncio.wait({waiting}, timeout=KEEP_S))[0]:
                yield ": waiting\n\n"
                continue
            try:
                event, waiting = waiting.result(), None
            except StopAsyncIteration:
                return
            except TinyAgentError as error:
                event, waiting = {"event": "error", "message": str(error), "code": 1}, None
            yield _data(event)
    finally:
        if waiting is not None:
            waiting.cancel()
            await asyncio.wait({waiting})
        await events.aclose()  # type: ignore[attr-defined] # of an async generator


def _events(lines: AsyncIterator[str]) -> Response:
    from starlette.responses import StreamingResponse

    return StreamingResponse(lines, media_type="text/event-stream")


def _data(document: Mapping[str, Any]) -> str:
    return f"data: {json.dumps(document, ensure_ascii=False)}\n\n"


def _json(document: Mapping[str, Any]) -> Response:
    from starlette.responses import Response

    return Response(json.dumps(document, ensure_ascii=False), media_type="application/json")


# Requests


async def _body(request: Request) -> dict[str, Any]:
    """Return the body's JSON object.

    Raises:
        InputError: It is none.
    """
    raw = await request.body()
    try:
        data = json.loads(raw.decode("utf-8"), parse_constant=_no_constant)
    except UnicodeDecodeError as error:
        raise InputError(f"the body is not UTF-8 text (byte {error.start})") from error
    except json.JSONDecodeError as error:
        raise InputError(f"the body, line {error.lineno}: {error.msg}") from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"the body is not readable JSON: {error}") from error
    if not isinstance(data, dict):
        raise InputError(f"the body is a JSON object, found {type(data).__name__}")
    return data


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is no JSON")


def _text(data: Mapping[str, Any], name: str) -> str:
    value = data.get(name)
    if not isinstance(value, str) or not value:
        raise InputError(f"{name} is missing or no text")
    if any("\ud800" <= char <= "\udfff" for char in value):
        raise InputError(f"{name} is no UTF-8 text")
    return value


async def _unless_gone(request: Request, work: Coroutine[Any, Any, T]) -> T:
    """Wait for something as long as the client waits for it.

    Raises:
        _Gone: The client has left; the work is cancelled.
    """
    task = asyncio.ensure_future(work)
    leaving = asyncio.ensure_future(_disconnect(request))
    try:
        await asyncio.wait({task, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise _Gone
        return task.result()
    finally:
        task.cancel()
        leaving.cancel()


async def _disconnect(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _readable(
    endpoint: Callable[[Request], Awaitable[Response]], bug: Callable[[], str]
) -> Callable[[Request], Awaitable[Response]]:
    """Return an endpoint whose errors are answers."""

    async def answering(request: Request) -> Response:
        try:
            return await endpoint(request)
        except _Gone:
            return _error(Refusal(499, "the client has left", code="gone"))
        except TinyAgentError as error:
            return _error(_refusal(error))
        except Exception:  # a bug: one line for the user, the rest in a private file
            return _error(Refusal(500, bug(), code="internal_error"))

    return answering


def _error(refusal: Refusal) -> Response:
    from starlette.responses import Response

    body = error_body(refusal.reason, status=refusal.status, code=refusal.code)
    return Response(
        json.dumps(body, ensure_ascii=False),
        status_code=refusal.status,
        headers=refusal.headers,
        media_type="application/json",
    )


def _refusal(error: TinyAgentError) -> Refusal:
    """Return the status of an error."""
    match error:
        case BusyError():
            return Refusal(429, str(error), code="busy", headers={"retry-after": "1"})
        case ModelNameError():
            return Refusal(404, str(error), code="model_not_found")
        case NoCallError():
            return Refusal(422, str(error), code="no_call")
        case ContextError():
            return Refusal(400, str(error), code="context_length_exceeded")
        case RefusedError():
            return Refusal(403, str(error), code="refused")
        case InputError() | ConfigError() | UsageError():
            return Refusal(400, str(error), code="invalid_request")
    return Refusal(500, str(error), code="failed")
