"""Puts clauses together: data flows between them, words that join them, one request."""

from __future__ import annotations

from dataclasses import dataclass, field
from random import Random

from mlx_tinyagent.datasets.synth import grammar, surface
from mlx_tinyagent.datasets.synth.assemble import Assembler, texts_of
from mlx_tinyagent.datasets.synth.book import Book
from mlx_tinyagent.datasets.synth.clause import Borrowed, Clause, ResultOf, Segment, text_of
from mlx_tinyagent.datasets.synth.fill import Maker
from mlx_tinyagent.datasets.synth.lexicon import Lexicons
from mlx_tinyagent.tools.base import ANY_TEXT, Param, Tool, ToolSet, Type

MAX_CALLS = 8
MAX_CLAUSES = 6
# Calls per compound request, as TinyAgent's 1,007 public training rows have them.
CALLS = (2, 3, 4, 5, 6, 7, 8)
CALL_WEIGHTS = (48, 114, 176, 202, 190, 175, 93)


@dataclass(slots=True)
class Composer:
    """Builds requests of several clauses.

    Attributes:
        tools: The tool set.
        books: Phrase books by tool.
        lexicons: Word lists.
        rng: The request's own random numbers.
        maker: Fills templates.
        clauses: The clauses so far.
    """

    tools: ToolSet
    books: dict[str, Book]
    lexicons: Lexicons
    rng: Random
    maker: Maker
    clauses: list[Clause] = field(default_factory=list)
    read: set[int] = field(default_factory=set)  # serials whose value a later clause reads

    def grow(self, target: int) -> None:
        """Add clauses until the plan has about ``target`` calls."""
        misses = 0
        while len(self.clauses) < MAX_CLAUSES and misses < 12:
            if self.clauses and self.count() >= target:
                return
            clause = self._next()
            if clause is None:
                misses += 1
                continue
            self.clauses.append(clause)
            if self.count() > min(MAX_CALLS, target + 1):
                self._drop()
                misses += 1

    def _drop(self) -> None:
        dropped = self.clauses.pop()
        for source in dropped.sources.values():
            if isinstance(source, ResultOf):
                self.read.discard(source.clause.serial)

    def count(self) -> int:
        """Return how many calls the clauses so far mean."""
        assembler = Assembler(self.tools, texts_of([s for c in self.clauses for s in c.segments]))
        for clause in self.clauses:
            assembler.add(clause)
        return len(assembler.calls)

    def _next(self) -> Clause | None:
        """Make one more clause, preferably one that reads an earlier value."""
        waiting = [
            c for c in self.clauses if self.books[c.tool.name].later and c.serial not in self.read
        ]
        reading = self.rng.random() < (0.62 if waiting else 0.16)
        tool = self._tool(reading, waiting)
        if tool is None:
            return None
        template = self._template(tool, reading)
        if template is None:
            return None
        clause = self.maker.clause(tool, template, self.mention)
        if clause is not None:
            self._companion(clause)
        return clause

    def _tool(self, reading: bool, waiting: list[Clause]) -> Tool | None:
        """Pick a tool: one that can read what is waiting, or any; rarely one used before."""
        used = {clause.tool.name for clause in self.clauses}
        options = [
            tool for tool in self.tools if not (tool.name in used and self.rng.random() < 0.93)
        ]
        if reading:
            kinds = {clause.tool.returns for clause in waiting} or ANY_TEXT
            options = [
                tool
                for tool in options
                if any(kinds & p.accepts for p in tool.params if not p.entity)
            ] or options
        if not options:
            return None
        weights = [self.books[tool.name].weight for tool in options]
        return self.rng.choices(options, weights)[0]

    def _template(self, tool: Tool, reading: bool) -> grammar.Template | None:
        """Pick a template that reads another value, or one that does not."""
        book = self.books[tool.name]
        texts = book.compound
        if not self.maker.written:
            texts = (book.quick or book.compound) if reading else book.short
        options = [grammar.parse(text) for text in texts]
        options = [
            template
            for template in options
            if any(slot.result for slot in template.slots()) == reading and template.imperative
        ]
        return self.rng.choice(options) if options else None

    def mention(self, param: Param) -> tuple[list[Segment], Clause] | None:
        """Find a value that an argument can read, and words for it."""
        stated = [
            c for c in self.clauses if self._fits(c.tool, param) and self._later(c.tool, param)
        ]
        fresh = [c for c in stated if c.serial not in self.read]
        stated = fresh or stated
        inline = [
            tool
            for tool in self.tools
            if param.entity is None and self._fits(tool, param) and self.books[tool.name].inline
        ]
        if stated and (not inline or self.rng.random() < 0.85):
            clause = self.rng.choice(stated)
            self.read.add(clause.serial)
            words = self.lexicons.expand(self.rng.choice(self._later(clause.tool, param)), self.rng)
            return [Segment(words)], clause
        if not inline:
            return None
        weights = [1.0 if tool.returns in (Type.TEXT, Type.URL) else 0.25 for tool in inline]
        tool = self.rng.choices(inline, weights)[0]
        template = grammar.parse(self.rng.choice(self.books[tool.name].inline))
        nested = self.maker.clause(tool, template)
        if nested is None:
            return None
        return nested.segments, nested

    def _fits(self, tool: Tool, param: Param) -> bool:
        """Whether a tool's value makes sense in an argument."""
        if tool.returns not in param.accepts:
            return False
        return param.entity == "file" if tool.returns is Type.PATH else True

    def _later(self, tool: Tool, param: Param) -> tuple[str, ...]:
        book = self.books[tool.name]
        return book.entity if param.entity is not None else book.later

    def _companion(self, clause: Clause) -> None:
        """Add the second call that a written clause means without saying it."""
        companion = self.books[clause.tool.name].companion
        if companion is None or not self.maker.written or companion.tool not in self.tools:
            return
        if any(word in text_of(clause.segments).lower() for word in companion.unless):
            return
        tool = self.tools[companion.tool]
        extra = Clause(serial=self.maker.serial, tool=tool, template="companion")
        self.maker.serial += 1
        for name, other in companion.args.items():
            if other in clause.sources:
                extra.sources[name] = Borrowed(clause, other)
        extra.sources[companion.result] = ResultOf(clause)
        clause.extra.append(extra)

    def request(self) -> list[Segment]:
        """Join the clauses into one request."""
        return (
            joined_written(self.clauses, self.rng, self.lexicons)
            if self.maker.written
            else (joined_quick(self.clauses, self.rng, self.lexicons))
        )


def joined_written(clauses: list[Clause], rng: Random, lexicons: Lexicons) -> list[Segment]:
    """Join clauses as people write longer requests: sentences, commas, "then"."""
    out: list[Segment] = []
    for number, clause in enumerate(clauses):
        segments = list(clause.segments)
        if number == 0:
            if rng.random() < 0.06:
                segments = [Segment("please "), *segments]
            segments = surface.capitalized(segments)
        else:
            last = number == len(clauses) - 1
            joiner = lexicons.pick("joiner_last_written" if last else "joiner_written", rng)
            if joiner == ". " or joiner.endswith(". "):
                segments = surface.capitalized(segments)
            out = _american(out, joiner, rng)
            joiner = joiner if not text_of(out).endswith(',"') else joiner.lstrip(",")
            out.append(Segment(joiner))
        out.extend(segments)
    return surface.tidy(surface.ended(out, "."))


def _american(segments: list[Segment], joiner: str, rng: Random) -> list[Segment]:
    """Sometimes move a comma inside the closing quote, as American style has it."""
    if not joiner.startswith(",") or not segments or rng.random() > 0.3:
        return segments
    last = segments[-1]
    if last.key is not None or not last.text.endswith('"'):
        return segments
    return [*segments[:-1], last.reworded(last.text[:-1] + ',"')]


def joined_quick(clauses: list[Clause], rng: Random, lexicons: Lexicons) -> list[Segment]:
    """Join clauses as people type quickly: "and", "then", a comma."""
    out: list[Segment] = []
    for number, clause in enumerate(clauses):
        if number:
            out.append(Segment(lexicons.pick("joiner_quick", rng)))
        out.extend(clause.segments)
    keep_joins = rng.random() < 0.5
    if not keep_joins:
        out = surface.plain(out)
    return surface.quick(out, rng, lexicons, imperative=all(c.imperative for c in clauses))
