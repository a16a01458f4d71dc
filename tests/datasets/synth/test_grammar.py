"""Templates, lexicons and phrase books: what parses, what is refused, what the package ships."""

from __future__ import annotations

from collections.abc import Iterator
from random import Random

import pytest

from mlx_tinyagent.datasets.synth import grammar
from mlx_tinyagent.datasets.synth.book import fits, packaged_extra
from mlx_tinyagent.datasets.synth.derive import books_for, derived
from mlx_tinyagent.datasets.synth.lexicon import Lexicons, packaged
from mlx_tinyagent.datasets.synth.wording import words_of
from mlx_tinyagent.errors import ConfigError
from mlx_tinyagent.tools.catalog import TINYAGENT16


def picks(nodes: tuple[grammar.Node, ...]) -> Iterator[str]:
    """Yield the lexicons that a template can pick from."""
    for node in nodes:
        if isinstance(node, grammar.Pick):
            yield node.lexicon
        elif isinstance(node, grammar.Choice):
            for option in node.options:
                yield from picks(option)
        elif isinstance(node, grammar.Group):
            yield from picks(node.nodes)


def test_a_template_parses_into_its_parts() -> None:
    """Choices nest; slots carry filler, part and whether they mention a result."""
    found = grammar.parse('!(a|b (c|)) {x=when} {y.day} {*z} [t=<w> {x}] ;; p=1 q=@x r="s"')
    assert not found.imperative
    assert found.fixed == (("p", 1), ("r", "s"))
    assert found.copies == (("q", "x"),)
    slots = [(s.param, s.filler, s.part, s.result) for s in found.slots()]
    assert slots == [
        ("x", "when", "", False),
        ("y", "", "day", False),
        ("z", "", "", True),
        ("t", "", "", False),
        ("x", "", "", False),
    ]


@pytest.mark.parametrize("text", ["(a", "a)", "{a", "a}", "{a b}", "[a]", "[a=b", "a;;b", "<a"])
def test_a_malformed_template_is_a_config_error(text: str) -> None:
    """The message shows the template."""
    with pytest.raises(ConfigError, match="template"):
        grammar.parse(text)


def test_expanding_takes_every_branch_in_the_long_run() -> None:
    """All combinations of choices come up."""
    nodes = grammar.parse("(a|b)(c|d|)").nodes
    rng = Random(0)
    seen = {"".join(map(str, grammar.expand(nodes, rng))) for _ in range(200)}
    assert seen == {"ac", "ad", "a", "bc", "bd", "b"}


def test_lexicons_expand_entries_inside_entries() -> None:
    """An entry may pick from another list; an unknown list is named."""
    words = Lexicons({"a": ["x <b>"], "b": ["(y|z)"]})
    assert {words.pick("a", Random(n)) for n in range(20)} == {"x y", "x z"}
    with pytest.raises(ConfigError, match="no lexicon is called 'c'"):
        words.pick("c", Random(0))


def test_every_packaged_list_picks_from_lists_that_exist() -> None:
    """No entry names a list that is not there."""
    lexicons = packaged()
    for name in lexicons.names():
        for entry in lexicons.entries(name):
            for pick in picks(grammar.parse(entry).nodes):
                assert pick in lexicons, (name, entry)


@pytest.mark.parametrize("tool", list(TINYAGENT16), ids=lambda tool: tool.name)
def test_every_tool_has_a_rich_book_of_its_own(tool: object) -> None:
    """At least 25 short templates and 15 compound ones, all of arguments that exist."""
    book = books_for(TINYAGENT16)[tool.name]  # type: ignore[attr-defined]
    assert fits(book, tool)  # type: ignore[arg-type]
    assert len(book.short) >= 25
    assert len(book.compound) >= 15
    for text in (*book.short, *book.compound, *book.inline, *(q.text for q in book.questions)):
        for pick in picks(grammar.parse(text).nodes):
            assert pick in packaged(), text


def test_the_packaged_refusals_parse() -> None:
    """Every refusal picks from lists that exist, none is empty."""
    data = packaged_extra("refusals")
    texts = [t for part in ("near", "far") for group in data[part] for t in group["texts"]]
    assert len(texts) > 150
    for text in texts:
        assert all(pick in packaged() for pick in picks(grammar.parse(text).nodes)), text


def test_names_split_into_words() -> None:
    """Underscores, capitals and prefixes all count."""
    assert words_of("getMovieTimes") == ["get", "movie", "times"]
    assert words_of("calendar__create_event") == ["create", "event"]


def test_a_derived_book_speaks_of_every_required_argument() -> None:
    """Each short template has all of them but those that may be empty."""
    for tool in TINYAGENT16:
        book = derived(tool)
        needed = {p.name for p in tool.params if p.required and not p.empty}
        for text in book.short:
            assert needed <= {slot.param for slot in grammar.parse(text).slots()}
