"""Tool sets by name, from a Python file, and from JSON function schemas."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from mlx_tinyagent.errors import ConfigError, InputError, UsageError
from mlx_tinyagent.tools.base import Effect, Kind, Type
from mlx_tinyagent.tools.catalog import TINYAGENT16
from mlx_tinyagent.tools.loading import from_schemas, load_tools

MINE = '''
from typing import Literal
from mlx_tinyagent import tool

Side = Literal["left", "right"]

@tool(effect="read")
def look(side: Side) -> str:
    """Look somewhere."""
    return side

@tool
def mark(text: str, times: int = 2) -> None:
    """Mark something."""

again = mark
'''


def python(tmp_path: Path, text: str) -> str:
    """Write a file of tools."""
    file = tmp_path / "mine.py"
    file.write_text(text)
    return str(file)


def test_a_built_in_set_has_a_name() -> None:
    """The set itself is returned."""
    assert load_tools("tinyagent16") is TINYAGENT16


class TestPython:
    """A file's tools are those of its module, each once, in the order of definition."""

    def test_decorated_functions_are_taken(self, tmp_path: Path) -> None:
        """Type hints may name what the file defines; a second name is no second tool."""
        tools = load_tools(python(tmp_path, MINE))

        assert tools.name == "mine"
        assert tools.names == ("look", "mark")
        assert tools["look"].params[0].choices == ("left", "right")
        assert tools["look"].effect is Effect.READ

    def test_tools_may_be_chosen(self, tmp_path: Path) -> None:
        """``TOOLS`` says which, and in which order; it may be a set of its own."""
        assert load_tools(python(tmp_path, f"{MINE}\nTOOLS = [mark]")).names == ("mark",)
        assert load_tools(python(tmp_path, f"{MINE}\nTOOLS = (mark, look)")).names == (
            "mark",
            "look",
        )
        made = "from mlx_tinyagent.tools.base import ToolSet\nTOOLS = ToolSet('own', [look])"
        assert load_tools(python(tmp_path, f"{MINE}\n{made}")).name == "own"

    def test_two_tools_of_one_name_are_refused(self, tmp_path: Path) -> None:
        """With the file's name."""
        text = f"{MINE}\nfrom mlx_tinyagent import tool\nother = tool(name='look')(mark.function)"

        with pytest.raises(ConfigError, match=r"mine\.py: .* two tools are called look"):
            load_tools(python(tmp_path, text))

    def test_a_file_that_fails_leaves_nothing_behind(self, tmp_path: Path) -> None:
        """No half module, no output on stdout; the line that failed is named."""
        file = python(tmp_path, "def broken():\n    return 1 / 0\n\n\nbroken()\n")

        with pytest.raises(InputError, match=r"mine\.py:2: ZeroDivisionError: division by zero"):
            load_tools(file)
        assert "mlx_tinyagent_user_mine" not in sys.modules

    def test_what_it_prints_goes_to_standard_error(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """Standard output carries answers alone."""
        load_tools(python(tmp_path, f"{MINE}\nprint('hello')"))

        assert capsys.readouterr() == ("", "hello\n")

    def test_ctrl_c_is_not_caught(self, tmp_path: Path) -> None:
        """It is the user's, not the file's."""
        with pytest.raises(KeyboardInterrupt):
            load_tools(python(tmp_path, "raise KeyboardInterrupt"))


def schema(**properties: Any) -> dict[str, Any]:
    """Make a function schema with these arguments; ``a`` is required."""
    parameters = {"type": "object", "properties": properties, "required": ["a"]}
    return {"name": "f", "description": "Do it.", "parameters": parameters}


class TestSchemas:
    """OpenAI-style schemas give tools that can be planned with but not run."""

    @pytest.mark.parametrize("wrap", ["list", "tools", "functions", "function"])
    def test_the_usual_wrappings_are_read(self, tmp_path: Path, wrap: str) -> None:
        """A list, an object with one, or entries of type function."""
        one = schema(a={"type": "string"})
        data: Any = {
            "list": [one],
            "tools": {"tools": [one]},
            "functions": {"functions": [one]},
            "function": [{"type": "function", "function": one}],
        }[wrap]
        file = tmp_path / "mine.json"
        file.write_text(json.dumps(data))

        for source in (str(file), f"  {json.dumps(data)}"):
            tools = load_tools(source)
            assert tools.names == ("f",)
            assert tools["f"].signature() == "f(a: text) -> status"
            assert tools["f"].invoke(None, {"a": ""}).status == "failed"

    @pytest.mark.parametrize(
        ("argument", "kind", "signature"),
        [
            ({"type": "string"}, Kind.TEXT, 'b: text = ""'),
            ({"type": "integer"}, Kind.INT, "b: int = 0"),
            ({"type": "number", "default": 1.5}, Kind.FLOAT, "b: float = 1.5"),
            ({"type": "boolean"}, Kind.BOOL, "b: bool = False"),
            ({"enum": ["x", "y"]}, Kind.CHOICE, 'b: x|y = "x"'),
            ({"type": "string", "enum": ["x", None]}, Kind.CHOICE, 'b: x = "x"'),
            ({"type": ["string", "null"]}, Kind.TEXT, "b: text = None"),
            ({"type": ["integer", "null"], "default": 3}, Kind.INT, "b: int = 3"),
            ({"type": "array", "items": {"type": "integer"}}, Kind.INT, "b: list[int] = []"),
            ({"type": "array"}, Kind.TEXT, "b: list[text] = []"),
            ({}, Kind.TEXT, 'b: text = ""'),
        ],
    )
    def test_arguments(self, argument: dict[str, Any], kind: Kind, signature: str) -> None:
        """Types, choices, lists, defaults and null."""
        tools = from_schemas("x", [schema(a={"type": "string"}, b=argument)])

        param = tools["f"].params[1]
        assert param.kind is kind
        assert param.signature() == signature

    def test_required_arguments_come_first(self) -> None:
        """As positional arguments have to."""
        tools = from_schemas("x", [schema(b={"type": "string"}, a={"type": "string"})])

        assert [param.name for param in tools["f"].params] == ["a", "b"]

    def test_our_own_schemas_come_back(self) -> None:
        """Names, order, lists, choices and defaults survive the way through JSON."""
        back = from_schemas("x", json.loads(json.dumps([t.schema() for t in TINYAGENT16])))

        assert back.names == TINYAGENT16.names
        for ours, theirs in zip(TINYAGENT16, back, strict=True):
            assert theirs.summary == ours.summary
            assert theirs.returns is Type.STATUS
            for mine, read in zip(ours.params, theirs.params, strict=True):
                assert (read.name, read.is_list, read.choices, read.required, read.optional) == (
                    (mine.name, mine.is_list, mine.choices, mine.required, mine.optional)
                )
                if not mine.required:
                    default = list(mine.default) if mine.is_list else mine.default
                    assert read.default == default

    @pytest.mark.parametrize("name", ["a b.c-d", "weather.get"])
    def test_names_are_made_callable(self, name: str) -> None:
        """Dots, dashes and blanks become underscores."""
        (made,) = from_schemas("x", [{"name": name}])

        assert made.name.isidentifier()

    @pytest.mark.parametrize("name", ["", "1st", "ask", "naïve", "x" * 65])
    def test_names_that_no_plan_could_write_are_refused(self, name: str) -> None:
        """With what would do."""
        with pytest.raises(ConfigError, match="cannot be used: letters, digits and _ only"):
            from_schemas("x", [{"name": name}])


@pytest.mark.parametrize("source", ["nothing", "nothing.py", "nothing.json", "/tmp", "x" * 300])
def test_what_is_not_there_is_a_matter_of_usage(source: str) -> None:
    """The message names what would do and stays short."""
    with pytest.raises(UsageError, match=r"a \.json file|A \.py file") as raised:
        load_tools(source)
    assert len(str(raised.value)) < 300


@pytest.mark.parametrize(
    ("data", "said"),
    [(b"\xff\xfe[]", r"is not UTF-8 text \(byte 0\)"), (b'[{"name": "f",]', r":1:15: ")],
)
def test_json_that_cannot_be_read(tmp_path: Path, data: bytes, said: str) -> None:
    """File, line and column."""
    file = tmp_path / "tools.json"
    file.write_bytes(data)

    with pytest.raises(InputError, match=said):
        load_tools(str(file))
