"""Declarations: what ``@tool`` reads from a function, and what it refuses."""

from __future__ import annotations

import functools
import inspect
import json
import math
from collections.abc import Callable, Sequence
from typing import Annotated, Any, Literal, Optional

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlx_tinyagent.errors import ConfigError, UsageError
from mlx_tinyagent.tools.base import (
    ANY_TEXT,
    REQUIRED,
    Arg,
    Attachment,
    Effect,
    Email,
    FilePath,
    Kind,
    Param,
    Phone,
    Place,
    Span,
    Template,
    Text,
    Tool,
    ToolSet,
    Type,
    When,
    literal,
    tool,
)
from mlx_tinyagent.tools.docstring import read_docstring
from mlx_tinyagent.tools.results import Failed, NotFound, Ok, Origin, Result, Value

PROPERTY = settings(derandomize=True, database=None, deadline=None, max_examples=150)


@tool(effect="send", returns="url", fields=("url",), app="post", label=3, rules="Once only.")
def post(  # noqa: D417 - meanings are optional
    title: Span,
    to: Sequence[Email],
    size: int = 3,
    mode: Literal["fast", "slow"] = "fast",
    note: str | None = None,
) -> str:
    """Post a
    message.

    More for readers, not for the model.

    Args:
        title: what it
            is about: briefly.
        to (list of addresses): who gets it.

    Returns:
        size: nothing to do with the argument.
    """  # noqa: D205 - broken lines are joined
    return f"{title}:{size}:{mode}:{note}:{len(to)}"


# --- what is read --------------------------------------------------------------------------------


def test_one_declaration_gives_prompt_text_schema_and_classes() -> None:
    """Everything comes from the function and the decorator."""
    assert post.text() == (
        'post(title: span, to: list[span], size: int = 3, mode: fast|slow = "fast", '
        "note: text = None) -> url\n"
        "  Post a message. Once only.\n"
        "  title: what it is about: briefly; to: who gets it.\n"
    )
    assert post.schema() == {
        "name": "post",
        "description": "Post a message.",
        "parameters": {
            "type": "object",
            "properties": {
                "title": {"type": "string", "description": "what it is about: briefly"},
                "to": {
                    "type": "array",
                    "items": {"type": "string"},
                    "description": "who gets it",
                },
                "size": {"type": "integer", "default": 3},
                "mode": {"type": "string", "enum": ["fast", "slow"], "default": "fast"},
                "note": {"type": ["string", "null"], "default": None},
            },
            "required": ["title", "to"],
        },
    }
    assert (post.effect, post.returns, post.fields) == (Effect.SEND, Type.URL, ("url",))
    assert (post.app, post.label, post.needs_host) == ("post", 3, False)


def test_a_plain_function_is_a_writing_tool_of_its_own_name() -> None:
    """Unless said otherwise a call asks for approval and gives what is annotated."""

    @tool
    def plain(text: str) -> str:
        """Do it."""
        return text

    @tool(name="other")
    def silent(text: str) -> None:
        """Do it."""

    assert (plain.name, plain.effect, plain.returns) == ("plain", Effect.WRITE, Type.TEXT)
    assert (silent.name, silent.returns) == ("other", Type.STATUS)


@pytest.mark.parametrize(
    ("hint", "kind", "is_list", "optional"),
    [
        (str, Kind.TEXT, False, False),
        (int, Kind.INT, False, False),
        (float, Kind.FLOAT, False, False),
        (bool, Kind.BOOL, False, False),
        (str | None, Kind.TEXT, False, True),
        (Optional[int], Kind.INT, False, True),  # noqa: UP045 - the old spelling is read too
        (list[str], Kind.TEXT, True, False),
        (list, Kind.TEXT, True, False),
        (Sequence[int], Kind.INT, True, False),
        (list[Span] | None, Kind.SPAN, True, True),
        (Literal["a", "b"], Kind.CHOICE, False, False),
        (list[Literal["a"]], Kind.CHOICE, True, False),
        (Span, Kind.SPAN, False, False),
        (When, Kind.WHEN, False, False),
        (Text, Kind.TEXT, False, False),
        (Template, Kind.TEMPLATE, False, False),
        (Place, Kind.SPAN, False, False),
        (Email, Kind.SPAN, False, False),
        (Phone, Kind.SPAN, False, False),
        (FilePath, Kind.SPAN, False, False),
        (Attachment, Kind.SPAN, False, False),
        (Annotated[int, "how many"], Kind.INT, False, False),
        (Annotated[Literal["a"], "which"], Kind.CHOICE, False, False),
        (list[Annotated[float, "each"]], Kind.FLOAT, True, False),
    ],
)
def test_annotations_say_how_an_argument_is_written(
    hint: Any, kind: Kind, is_list: bool, optional: bool
) -> None:
    """Plain types, lists, optional ones, choices and aliases."""
    (param,) = declared(hint).params
    assert (param.kind, param.is_list, param.optional) == (kind, is_list, optional)
    assert param.required


def test_what_an_argument_may_read() -> None:
    """Free text reads any value, entities their own type, spans and numbers nothing."""
    accepted = {
        hint: declared(hint).params[0].accepts for hint in (str, Span, When, Email, Phone, int)
    }
    assert accepted == {
        str: ANY_TEXT,
        Span: frozenset(),
        When: frozenset(),
        Email: {Type.EMAIL},
        Phone: {Type.PHONE},
        int: frozenset(),
    }
    assert declared(FilePath).params[0].entity == "file"


def test_a_host_comes_first_and_is_no_argument_of_the_plan() -> None:
    """Only the first position counts; the host's type need not be known."""

    @tool
    def first(host: object, name: str) -> str:
        """Do it."""
        return f"{host}{name}"

    assert [param.name for param in first.params] == ["name"]
    value = Value(text="Hn", origin=Origin.UNTRUSTED)  # where a function has it from is unknown
    assert first.invoke("H", {"name": "n"}) == Ok(value=value, note="Hn")


@pytest.mark.parametrize(
    ("doc", "summary", "meanings"),
    [
        ("Do it.", "Do it.", {}),
        ("Do\nit\nnow.\n\nMore.", "Do it now.", {}),
        ("Do it.\nArgs:\n    a: x", "Do it.", {"a": "x"}),
        ("Do it.\n\nArgs:\n    a: x.\n    b: y.\n", "Do it.", {"a": "x", "b": "y"}),
        ("Do it.\n\nArgs:\n  a:\n    x\n    z\n  *b: y", "Do it.", {"a": "x z", "b": "y"}),
        ("Do it.\n\nArgs:\n  a: such as\n    when: now\n", "Do it.", {"a": "such as when: now"}),
        ("Do it.\n\nArgs:\n  a (int): x\n\nRaises:\n  b: y", "Do it.", {"a": "x"}),
        ("Do it.\n\nArgs:\n  a: at 10:30\n  http://x\n", "Do it.", {"a": "at 10:30 http://x"}),
        ("Args:\n    a: x", "", {"a": "x"}),
        ("", "", {}),
    ],
)
def test_docstrings_give_a_summary_and_meanings(
    doc: str, summary: str, meanings: dict[str, str]
) -> None:
    """Entries are told from continuation lines by their indentation."""
    assert read_docstring(doc) == (summary, meanings)


@pytest.mark.parametrize(
    ("value", "written"),
    [
        (None, "None"),
        (True, "True"),
        (60, "60"),
        (0.5, "0.5"),
        ("", '""'),
        ('a "b" \\ c', '"a \\"b\\" \\\\ c"'),
        ("a\nb\rc\td", '"a\\nb\\rc\\td"'),
        ([], "[]"),
        (("a", 1), '["a", 1]'),
    ],
)
def test_defaults_are_written_as_in_plans(value: object, written: str) -> None:
    """The prompt shows the text that a plan would hold."""
    assert literal(value) == written


# --- what is refused -----------------------------------------------------------------------------


def declared(hint: Any, default: Any = inspect.Parameter.empty, name: str = "argument_x") -> Tool:
    """Declare ``tool_x`` with one argument of a type and default."""

    def tool_x(**given: object) -> None:
        """Do it."""

    tool_x.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        [inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default)]
    )
    tool_x.__annotations__ = {name: hint, "return": None}
    return tool()(tool_x)


@pytest.mark.parametrize(
    ("hint", "default"),
    [
        (dict, None),
        (dict[str, int], None),
        (bytes, None),
        (tuple[str, ...], ()),
        (set[str], None),
        (list[list[str]], ()),
        (list[str | None], ()),
        (str | int, ""),
        (str | int | None, None),
        (Literal[1, 2], 1),
        (Literal["a", None], "a"),
        (Annotated[dict, "x"], None),
        (Annotated[list[str], Arg(kind=Kind.SPAN)], ()),
        (complex, None),
        (Any, None),
        (object, None),
        (type(None), None),
        (int, "3"),
        (int, True),
        (int, 1.0),
        (int, math.inf),
        (float, math.nan),
        (float, math.inf),
        (float, "1"),
        (bool, 0),
        (str, 5),
        (str, b""),
        (str, object()),
        (str, ["a"]),
        (list[str], "abc"),
        (list[str], [1]),
        (list[str], [None]),
        (list[str], {"a"}),
        (list[int], [1, "2"]),
        (Literal["a", "b"], "c"),
        (Literal["a", "b"], 1),
        (list[Literal["a"]], ["b"]),
    ],
)
def test_a_bad_argument_is_refused_with_tool_and_argument(hint: Any, default: Any) -> None:
    """Types that plans cannot write, and defaults that are not of the type."""
    with pytest.raises(ConfigError) as caught:
        declared(hint, default)
    assert "tool_x" in str(caught.value)
    assert "argument_x" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_bad_signature_is_refused_with_tool_and_argument() -> None:
    """Arguments without annotation, without name or without a way to be named."""

    def bare(x) -> None:  # type: ignore[no-untyped-def]
        """Do it."""

    def many(*items: str) -> None:
        """Do it."""

    def keyed(**items: str) -> None:
        """Do it."""

    def placed(x: str, /) -> None:
        """Do it."""

    cases: dict[Callable[..., object], tuple[str, ...]] = {
        bare: ("bare", "argument x", "no type annotation"),
        many: ("many", "*items", "name each argument"),
        keyed: ("keyed", "**items", "name each argument"),
        placed: ("placed", "argument x", "positional-only"),
    }
    for function, parts in cases.items():
        with pytest.raises(ConfigError) as caught:
            tool(function)
        assert all(part in str(caught.value) for part in parts)


def test_a_bad_tool_is_refused_with_its_name() -> None:
    """Names, docstrings, effects, types, fields, coroutines and unreadable annotations."""

    def good(x: str) -> None:
        """Do it."""

    def silent(x: str) -> None:
        pass

    def lost(x: NoSuchType) -> None:  # type: ignore[name-defined]  # noqa: F821
        """Do it."""

    async def later(x: str) -> None:
        """Do it."""

    cases: list[tuple[Callable[..., object], dict[str, Any], str]] = [
        (good, {"name": "join"}, "'join'"),
        (good, {"name": "ask"}, "'ask'"),
        (good, {"name": "more_tools"}, "'more_tools'"),
        (good, {"name": "a b"}, "'a b'"),
        (good, {"name": "1a"}, "'1a'"),
        (good, {"name": "a" * 65}, "64 at most"),
        (good, {"name": "caf\u00e9"}, "letters, digits"),
        (lambda x: x, {}, "<lambda>"),
        (functools.partial(good, "x"), {}, "''"),
        (silent, {}, "tool silent has no docstring"),
        (good, {"effect": "burn"}, "tool good: 'burn' is not a valid Effect"),
        (good, {"returns": "json"}, "tool good: 'json' is not a valid Type"),
        (good, {"fields": ("Name",)}, "tool good: field 'Name'"),
        (good, {"fields": ("a-b",)}, "tool good: field 'a-b'"),
        (lost, {}, "tool lost: its annotations cannot be read: name 'NoSuchType'"),
        (later, {}, "tool later is a coroutine function"),
    ]
    for function, options, part in cases:
        with pytest.raises(ConfigError) as caught:
            tool(**options)(function)
        assert part in str(caught.value)


# --- calling -------------------------------------------------------------------------------------


def untrusted(text: str) -> Value:
    """Return what a function gave, which may have it from anywhere."""
    return Value(text=text, origin=Origin.UNTRUSTED)


def test_what_a_function_gives_becomes_a_result() -> None:
    """Results pass, plain values become Ok, exceptions become Failed, and no code is a Failed."""
    answers: list[tuple[object, Result]] = [
        ("done", Ok(value=untrusted("done"), note="done")),
        (None, Ok(value=untrusted(""), note="t done.")),
        (5, Ok(value=untrusted("5"), note="5")),
        (NotFound(what="x"), NotFound(what="x")),
        (ValueError("no luck"), Failed(reason="t failed: no luck")),
        (KeyError(), Failed(reason="t failed: KeyError")),
    ]
    for answer, result in answers:

        def run(answer: object = answer) -> object:
            if isinstance(answer, Exception):
                raise answer
            return answer

        made = Tool(name="t", summary="Do it.", params=(), function=run)
        assert made.invoke(None, {}) == result
    assert isinstance(Tool(name="t", summary="", params=()).invoke(None, {}), Failed)


def test_an_interrupt_is_not_swallowed() -> None:
    """Ctrl-C inside a tool reaches the caller."""

    def run() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Tool(name="t", summary="Do it.", params=(), function=run).invoke(None, {})


# --- sets ----------------------------------------------------------------------------------------


def test_a_set_knows_its_tools_by_name_and_offers_near_names() -> None:
    """Order is kept; unknown and double names are errors that name the set."""
    tools = ToolSet("mine", [post])
    assert (len(tools), list(tools), tools.names, "post" in tools) == (1, [post], ("post",), True)
    with pytest.raises(UsageError, match="no tool is called 'pst' in mine; did you mean post"):
        tools["pst"]
    with pytest.raises(UsageError, match=r"'zzz' in mine$"):
        tools.subset(["zzz"])
    with pytest.raises(ConfigError, match="tool set mine: two tools are called post"):
        ToolSet("mine", [post, post])


def test_closure_follows_producers_of_producers() -> None:
    """A look-up that itself needs a file brings the file look-up."""

    def make(name: str, entity: str | None, returns: Type) -> Tool:
        param = Param(name="x", kind=Kind.SPAN, entity=entity)
        return Tool(name=name, summary="Do it.", params=(param,), returns=returns)

    tools = ToolSet(
        "chain",
        [
            make("mail", "contact-email", Type.STATUS),
            make("other", None, Type.PHONE),
            make("address", "file", Type.EMAIL),
            make("path", None, Type.PATH),
        ],
    )
    assert tools.closure(["mail"]).names == ("mail", "address", "path")
    assert tools.closure(["other"]).names == ("other",)


def test_the_fingerprint_follows_what_the_model_sees() -> None:
    """It changes with the text and with nothing else."""
    same = Tool(**{**fields_of(post), "function": None, "effect": Effect.READ, "label": 9})
    other = Tool(**{**fields_of(post), "summary": "Post it."})
    assert same.fingerprint() == post.fingerprint() != other.fingerprint()
    assert len(post.fingerprint()) == 64


def fields_of(item: Tool) -> dict[str, Any]:
    """Return a tool's fields."""
    return {name: getattr(item, name) for name in Tool.__dataclass_fields__}


# --- properties ----------------------------------------------------------------------------------

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
CHOICES: Any = Literal["x", "y z", ""]
HINTS: dict[Any, st.SearchStrategy[Any]] = {
    str: TEXTS,
    int: st.integers(-(10**9), 10**9),
    float: st.floats(allow_nan=False, allow_infinity=False),
    bool: st.booleans(),
    CHOICES: st.sampled_from(["x", "y z", ""]),
    Span: TEXTS,
    When: TEXTS,
    Template: TEXTS,
    Email: TEXTS,
    Attachment: TEXTS,
}


@st.composite
def arguments(draw: st.DrawFn) -> tuple[Any, Any]:
    """An annotation and a fitting default or none."""
    hint: Any = draw(st.sampled_from(list(HINTS)))
    values = HINTS[hint]
    if draw(st.booleans()):
        values = st.lists(values, max_size=3).map(draw(st.sampled_from([list, tuple])))
        hint = list.__class_getitem__(hint)
    if draw(st.booleans()):
        hint, values = hint | None, st.none() | values
    default = draw(st.just(inspect.Parameter.empty) | values)
    return hint, default


@PROPERTY
@given(arguments())
def test_every_schema_is_json_and_every_text_one_block(argument: tuple[Any, Any]) -> None:
    """The schema round-trips, agrees with the declaration, and admits its own default."""
    hint, default = argument
    made = declared(hint, default)
    (param,) = made.params
    schema = made.schema()
    assert json.loads(json.dumps(schema, allow_nan=False)) == schema
    inner = schema["parameters"]["properties"]["argument_x"]
    assert schema["parameters"]["required"] == (["argument_x"] if param.required else [])
    assert ("default" in inner) == (param.default is not REQUIRED)
    if not param.required:
        assert admits(inner, inner["default"])
    assert made.text().count("\n") == 2
    assert made.text() == declared(hint, default).text()


def admits(schema: dict[str, Any], value: Any) -> bool:
    """Check a value against the few words of JSON schema that tools use."""
    kinds = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
    types: dict[str, Any] = {
        "string": str,
        "integer": int,
        "number": int | float,
        "boolean": bool,
        "array": list,
        "null": type(None),
    }
    fits = any(
        isinstance(value, types[kind]) and (kind == "boolean" or not isinstance(value, bool))
        for kind in kinds
    )
    listed = "enum" not in schema or value in schema["enum"]
    items = value if isinstance(value, list) else []
    return fits and listed and all(admits(schema["items"], item) for item in items)
