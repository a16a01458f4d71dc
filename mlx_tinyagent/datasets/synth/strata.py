"""The kinds of examples: compound requests, short commands, follow-ups, questions, refusals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from random import Random
from typing import Any, Literal, get_args

from mlx_tinyagent.datasets.record import Call, ExampleKind
from mlx_tinyagent.datasets.synth import grammar, surface
from mlx_tinyagent.datasets.synth.assemble import Assembler, texts_of
from mlx_tinyagent.datasets.synth.book import Book, packaged_extra
from mlx_tinyagent.datasets.synth.clause import Borrowed, Clause, Key, Said, Segment, text_of
from mlx_tinyagent.datasets.synth.compose import CALL_WEIGHTS, CALLS, Composer
from mlx_tinyagent.datasets.synth.derive import Voice, books_for, voice_of
from mlx_tinyagent.datasets.synth.fill import Maker, find_param
from mlx_tinyagent.datasets.synth.lexicon import Lexicons, packaged
from mlx_tinyagent.datasets.synth.spread import spread
from mlx_tinyagent.datasets.synth.wording import EXISTING, LEXICONS
from mlx_tinyagent.plan.graph import from_calls
from mlx_tinyagent.plan.schema import Plan
from mlx_tinyagent.plan.text import write
from mlx_tinyagent.prompt.render import Turn
from mlx_tinyagent.tools.base import Tool, ToolSet

Stratum = Literal["compound", "short", "follow", "ask", "near", "far"]
STRATA: tuple[Stratum, ...] = get_args(Stratum)

MINED_SHARE = 0.85  # of short requests, at most, where mined phrases are given
FEW_MINED = 12  # with so many different mined templates, half of a tool's requests use them

# Share of drafts of each stratum. The last three are requests that no plan of calls
# serves; short as they are, they repeat more, and of 80,000 rows a good third is left.
SHARES: Mapping[Stratum, float] = {
    "compound": 0.29,
    "short": 0.21,
    "follow": 0.05,
    "ask": 0.11,
    "near": 0.17,
    "far": 0.17,
}
# The same for tools without phrases of their own, where nobody's habits are known: more
# requests that the tools serve, and fewer that they do not.
OWN_SHARES: Mapping[Stratum, float] = {
    "compound": 0.15,
    "short": 0.52,
    "follow": 0.05,
    "ask": 0.08,
    "near": 0.07,
    "far": 0.13,
}
SPREAD = 0.12  # share of such short requests that name two of something
OWN_CALLS = (2, 2, 2, 3, 3, 4)  # calls of compound requests for such tools
LOWER = {"near": 0.84, "far": 0.42}  # share in lower case; people's far requests keep capitals

KINDS: Mapping[Stratum, ExampleKind] = {
    "compound": "tool",
    "short": "tool",
    "follow": "tool",
    "ask": "ask",
    "near": "none_near",
    "far": "none_far",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """An example before it is checked.

    Attributes:
        query: The request.
        calls: Its plan.
        stratum: What kind of example it is.
        ask: The right question, where something is missing.
        history: Earlier turns.
        about: Tools that the request is about, though it calls none.
        templates: The templates it was made from.
    """

    query: str
    stratum: Stratum
    calls: tuple[Call, ...] = ()
    ask: str | None = None
    history: tuple[Turn, ...] = ()
    about: tuple[str, ...] = ()
    templates: tuple[str, ...] = ()


@dataclass
class Studio:
    """Makes drafts for one tool set.

    Attributes:
        tools: The tool set.
        mined_templates: Further short templates per tool.
        mined_lexicons: Further entries per word list.
    """

    tools: ToolSet
    mined_templates: Mapping[str, Sequence[str]] = field(default_factory=dict)
    mined_lexicons: Mapping[str, Sequence[str]] = field(default_factory=dict)

    @cached_property
    def books(self) -> dict[str, Book]:
        """Phrase books by tool."""
        return books_for(self.tools)

    @cached_property
    def lexicons(self) -> Lexicons:
        """Word lists."""
        lists = packaged().merged(self.mined_lexicons)
        own = [book.lexicons for book in self.books.values() if book.derived]
        for more in (*own, LEXICONS) if own else ():
            lists = lists.merged(more)
        return lists

    @cached_property
    def voices(self) -> dict[str, Voice]:
        """How tools are spoken of, by tool."""
        return {tool.name: voice_of(tool) for tool in self.tools}

    @cached_property
    def shares(self) -> Mapping[Stratum, float]:
        """Share of each stratum that suits the tool set."""
        return SHARES if self.is_packaged else OWN_SHARES

    @cached_property
    def refusals(self) -> dict[str, Any]:
        """Groups of requests that the tools do not serve."""
        return packaged_extra("refusals")

    def draft(self, stratum: Stratum, rng: Random) -> Draft | None:
        """Make one draft; None if this try led nowhere."""
        match stratum:
            case "compound":
                return self.compound(rng)
            case "short":
                return self.short(rng)
            case "follow":
                return self.answer(rng) if rng.random() < 0.55 else self.follow_up(rng)
            case "ask":
                return self.question(rng)
            case "near":
                return self.near(rng)
            case _:
                return self.far(rng)

    # Requests with a plan

    def compound(self, rng: Random) -> Draft | None:
        """Make a request of two to eight calls."""
        written = rng.random() < 0.7
        maker = self._maker(rng, written=written)
        composer = Composer(self.tools, self.books, maker.lexicons, rng, maker)
        target = rng.choices(CALLS, CALL_WEIGHTS)[0] if written else rng.choice((2, 2, 3, 3, 4, 5))
        if not self.is_packaged:
            target = rng.choice(OWN_CALLS)
        composer.grow(target)
        if not composer.clauses or composer.count() < 2:
            return None
        segments = composer.request()
        return self._draft("compound", segments, composer.clauses)

    def short(self, rng: Random) -> Draft | None:
        """Make a quick command of one clause."""
        written = rng.random() < 0.05
        maker = self._maker(rng, written=written)
        tool = self._any_tool(rng)
        book = self.books[tool.name]
        texts = book.compound if written else book.short
        mined = self.mined_templates.get(tool.name, ())
        if mined and not written and rng.random() < _mined_share(mined):
            texts = tuple(mined)
        template = grammar.parse(rng.choice(texts))
        clause = maker.clause(tool, template)
        if clause is None:
            return None
        if book.derived and rng.random() < SPREAD:
            spread(clause, maker, rng)
        if written:
            segments = surface.tidy(surface.ended(surface.capitalized(clause.segments), "."))
        else:
            segments = self._quick(clause, rng)
        return self._draft("short", segments, [clause])

    def follow_up(self, rng: Random) -> Draft | None:
        """Make a second request that leans on the first."""
        options = [tool for tool in self.tools if self.books[tool.name].follow_ups]
        if not options:
            return None
        tool = rng.choice(options)
        wanted = rng.choice(self.books[tool.name].follow_ups)
        maker = self._maker(rng, written=False)
        first = maker.clause(tool, grammar.parse(wanted.first))
        if first is None:
            return None
        maker.people.clear()
        second = maker.clause(tool, grammar.parse(wanted.then))
        if second is None:
            return None
        for name in wanted.keep:
            if name in first.sources:
                second.sources[name] = Borrowed(first, name)
        earlier = self._quick(first, rng)
        later = surface.quick(second.segments, rng, maker.lexicons, imperative=False)
        history = (
            Turn(query=text_of(earlier), plan=write(self._plan([first], texts_of(earlier)))),
        )
        return self._draft("follow", later, [second], history=history, earlier=earlier)

    def answer(self, rng: Random) -> Draft | None:
        """Make the answer to a question that was asked before."""
        found = self._incomplete(rng)
        if found is None or not found.missing:
            return None
        clause, maker = found.clause, found.maker
        param = find_param(clause.tool, found.missing)
        words = maker.words(clause.tool, param)
        earlier = self._quick(clause, rng)
        answer = list(maker.joined(clause, param, words))
        if any(word.value is not None for word in words):
            return None
        clause.sources[param.name] = Said()
        if any(word.untimed for word in words):
            clause.untimed.add(param.name)
        maker.decide_flags(clause)
        segments = surface.tidy(surface.plain(answer))
        segments = surface.lowered(segments) if rng.random() < 0.75 else segments
        history = (Turn(query=text_of(earlier), plan=write(Plan(ask=found.ask))),)
        return self._draft("follow", segments, [clause], history=history, earlier=earlier)

    # Requests without one

    def question(self, rng: Random) -> Draft | None:
        """Make a request that lacks something."""
        found = self._incomplete(rng)
        if found is None:
            return None
        segments = self._quick(found.clause, rng)
        return Draft(
            query=text_of(segments),
            stratum="ask",
            ask=found.ask,
            about=(found.clause.tool.name,),
            templates=(found.clause.template,),
        )

    def near(self, rng: Random) -> Draft | None:
        """Make a request that sounds like the tools but is not theirs."""
        if not self.is_packaged or rng.random() < 0.1:
            return self._generic_near(rng)
        if rng.random() < 0.1:
            text = rng.choice(self.refusals["near_written"])
            return Draft(query=self.lexicons.expand(text, rng), stratum="near", templates=(text,))
        if self.mined_templates.get("near") and rng.random() < MINED_SHARE:
            return self._mined_refusal("near", rng)
        groups = [group for group in self.refusals["near"] if self._unserved(group)]
        return self._refusal("near", groups, rng)

    def far(self, rng: Random) -> Draft | None:
        """Make a request that has nothing to do with the tools, or small talk."""
        groups = [group for group in self.refusals["far"] if self._unserved(group)]
        if self.mined_templates.get("far") and rng.random() < MINED_SHARE:
            return self._mined_refusal("far", rng)
        chat = [group for group in groups if group["about"] == "chat"]
        if chat and rng.random() < 0.22:
            return self._refusal("far", chat, rng)
        return self._refusal("far", groups, rng)

    def _refusal(self, stratum: Stratum, groups: list[dict[str, Any]], rng: Random) -> Draft | None:
        if not groups:
            return None
        weights = [len(group["texts"]) for group in groups]
        group = rng.choices(groups, weights)[0]
        text = rng.choice(group["texts"])
        words = self.lexicons.expand(text.removeprefix("!"), rng)
        imperative = not text.startswith("!") and group["about"] != "chat"
        segments = surface.quick(
            [Segment(words)],
            rng,
            self.lexicons,
            imperative=imperative,
            lower=LOWER[stratum],
        )
        return Draft(query=text_of(segments), stratum=stratum, templates=(text,))

    def _mined_refusal(self, stratum: Stratum, rng: Random) -> Draft | None:
        """Make a refusal from a mined pattern."""
        text = rng.choice(self.mined_templates[stratum])
        words = self.lexicons.expand(text, rng)
        segments = surface.quick(
            [Segment(words)], rng, self.lexicons, imperative=True, lower=LOWER[stratum]
        )
        return Draft(query=text_of(segments), stratum=stratum, templates=(text,))

    def _generic_near(self, rng: Random) -> Draft | None:
        """Ask for something else about what a tool is about."""
        tool = rng.choice(list(self.tools))
        if not self.voices[tool.name].nouns:
            return None
        noun = self.voices[tool.name].nouns[0]
        text = rng.choice(self.refusals["generic_near"])
        words = self.lexicons.expand(text.removeprefix("!").replace("{noun}", noun), rng)
        if self._served(tool, words.lower(), noun):
            return None
        segments = surface.quick(
            [Segment(words)], rng, self.lexicons, imperative=not text.startswith("!")
        )
        return Draft(query=text_of(segments), stratum="near", about=(tool.name,), templates=(text,))

    def _unserved(self, group: Mapping[str, Any]) -> bool:
        """Whether no tool of the set does what a group of refusals asks for."""
        names = " ".join(self.tools.names).lower()
        return not any(word in names for word in group["unless"])

    def _served(self, tool: Tool, words: str, noun: str) -> bool:
        """Whether some tool may do that with what is called so."""
        if not self.books[tool.name].derived:
            known = (" ".join(name.split("_")) for name in self.tools.names)
            return any(words.startswith(name) for name in known)
        verb = words.split(" ")[0]
        for voice in self.voices.values():
            if noun not in voice.nouns:
                continue
            if verb in {said.split(" ")[0] for said in voice.verbs}:
                return True
            if voice.kind == "use" and verb in EXISTING:
                return True
        return False

    @cached_property
    def is_packaged(self) -> bool:
        """Whether the packaged phrases and refusals are about this tool set."""
        known = sum(not self.books[tool.name].derived for tool in self.tools)
        return known * 2 >= len(self.tools)

    # Helpers

    def _maker(self, rng: Random, *, written: bool) -> Maker:
        lexicons = self.lexicons
        if written and rng.random() < 0.6:  # longer requests mostly turn around one occasion
            occasion = lexicons.pick("gathering", rng)
            lexicons = lexicons.narrowed(
                {"gathering": (occasion,), "Gathering": (occasion.title(),)}
            )
        return Maker(rng=rng, lexicons=lexicons, books=self.books, written=written)

    def _any_tool(self, rng: Random) -> Tool:
        options = list(self.tools)
        weights = [max(self.books[tool.name].weight, 0.55) for tool in options]
        return rng.choices(options, weights)[0]

    def _quick(self, clause: Clause, rng: Random) -> list[Segment]:
        return surface.quick(clause.segments, rng, self.lexicons, imperative=clause.imperative)

    def _incomplete(self, rng: Random) -> _Incomplete | None:
        """Make a clause that lacks something, with the question for it."""
        options = [tool for tool in self.tools if self.books[tool.name].questions]
        if not options:
            return None
        tool = rng.choice(options)
        wanted = rng.choice(self.books[tool.name].questions)
        maker = self._maker(rng, written=False)
        clause = maker.clause(tool, grammar.parse(wanted.text))
        if clause is None:
            return None
        return _Incomplete(clause=clause, maker=maker, ask=wanted.ask, missing=wanted.missing)

    def _draft(
        self,
        stratum: Stratum,
        segments: list[Segment],
        clauses: list[Clause],
        *,
        history: tuple[Turn, ...] = (),
        earlier: list[Segment] | None = None,
    ) -> Draft:
        texts = texts_of(segments)
        if earlier is not None:
            texts = {**texts_of(earlier), **texts}
        assembler = Assembler(self.tools, texts)
        for clause in clauses:
            assembler.add(clause)
        return Draft(
            query=text_of(segments),
            stratum=stratum,
            calls=tuple(assembler.calls),
            history=history,
            templates=tuple(clause.template for clause in clauses),
        )

    def _plan(self, clauses: list[Clause], texts: dict[Key, str]) -> Plan:
        assembler = Assembler(self.tools, texts)
        for clause in clauses:
            assembler.add(clause)
        return from_calls([call.as_dict() for call in assembler.calls], self.tools)


def _mined_share(templates: Sequence[str]) -> float:
    """Return the share of requests that use mined templates: few of them are used little."""
    distinct = len(set(templates))
    return min(MINED_SHARE, distinct / (distinct + FEW_MINED))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Incomplete:
    """A request that lacks something, and the question for it."""

    clause: Clause
    maker: Maker
    ask: str
    missing: str
