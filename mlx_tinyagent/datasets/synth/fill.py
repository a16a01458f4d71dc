"""Fills templates: picks words for every slot and notes which argument they are."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from random import Random
from typing import Any

from mlx_tinyagent.datasets.synth import grammar, moments
from mlx_tinyagent.datasets.synth.book import Book
from mlx_tinyagent.datasets.synth.clause import (
    Clause,
    CopyOf,
    Fixed,
    Key,
    ResultOf,
    Said,
    Segment,
    Source,
)
from mlx_tinyagent.datasets.synth.lexicon import Lexicons
from mlx_tinyagent.datasets.synth.wording import words_of
from mlx_tinyagent.errors import ConfigError
from mlx_tinyagent.tools.base import Kind, Param, Tool, Type

# Finds words for another step's value: gives segments and the clause behind them.
Mention = Callable[[Param], tuple[list[Segment], Clause] | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Words:
    """What a filler found for one argument or one item of it.

    Attributes:
        text: The words.
        lead: Words before them that are no part of the value: "my ", "on ".
        tail: Words after them that are no part of the value.
        value: The value where it is not the words themselves, such as 30 for "half an hour".
        untimed: Whether a date phrase says no time of day.
    """

    text: str
    lead: str = ""
    tail: str = ""
    value: Any = None
    untimed: bool = False


@dataclass(slots=True)
class Maker:
    """Makes clauses for one request.

    Attributes:
        rng: The request's own random numbers.
        lexicons: Word lists.
        books: Phrase books by tool.
        written: Whether the style is written (names, quotes) or a person's quick command.
        people: Names used so far, so that a request can come back to them.
        serial: Number of clauses made.
    """

    rng: Random
    lexicons: Lexicons
    books: dict[str, Book]
    written: bool
    people: list[Words] = field(default_factory=list)
    serial: int = 0

    def clause(
        self, tool: Tool, template: grammar.Template, mention: Mention | None = None
    ) -> Clause | None:
        """Fill a template.

        Args:
            tool: The tool it asks for.
            template: The template.
            mention: Finds other steps' values for ``{*param}`` slots.

        Returns:
            The clause; None if another step's value is wanted and there is none.
        """
        clause = Clause(
            serial=self.serial,
            tool=tool,
            imperative=template.imperative,
            template=template.source,
        )
        self.serial += 1
        for name, value in template.fixed:
            clause.sources[name] = Fixed(value)
        halves: dict[str, moments.Moment] = {}
        opened: dict[str, int] = {}
        for part in grammar.expand(template.nodes, self.rng):
            if isinstance(part, str):
                clause.segments.append(Segment(part))
            elif isinstance(part, grammar.Pick):
                clause.segments.append(Segment(self.lexicons.pick(part.lexicon, self.rng)))
            elif isinstance(part, grammar.Edge):
                if part.opens:
                    opened[part.param] = len(clause.segments)
                else:
                    _enclose(clause, part.param, opened[part.param])
            elif part.result:
                if not self._result(clause, tool, part, mention):
                    return None
            else:
                self._slot(clause, tool, part, halves)
        for name, other in template.copies:
            clause.sources[name] = CopyOf(other)
        self.decide_flags(clause)
        return clause

    def _slot(
        self,
        clause: Clause,
        tool: Tool,
        slot: grammar.Slot,
        halves: dict[str, moments.Moment],
    ) -> None:
        """Fill one slot with words and note the argument's source."""
        param = find_param(tool, slot.param)
        found = self._half(param, slot.part) if slot.part else self.words(tool, param, slot.filler)
        if slot.part:  # both halves together decide whether a time of day is said
            clause.untimed.discard(param.name)
            if found[0].untimed and f"{param.name}.clock" not in halves:
                clause.untimed.add(param.name)
            halves[f"{param.name}.{slot.part}"] = moments.Moment(text=found[0].text, timed=True)
            if f"{param.name}.clock" in halves:
                clause.untimed.discard(param.name)
        elif found[0].untimed:
            clause.untimed.add(param.name)
        clause.segments.extend(self.joined(clause, param, found))
        clause.sources[param.name] = self.source_of(found, param)

    def source_of(self, found: list[Words], param: Param) -> Source:
        """Return where an argument comes from that was filled with these words."""
        values = [word.value for word in found]
        if any(value is not None for value in values):
            return Fixed(values if param.is_list else values[0])
        return Said()

    def _half(self, param: Param, part: str) -> list[Words]:
        """Fill the day or the clock of a date that stands in two places."""
        if part == "day":
            day = moments.day(self.rng, written=self.written)
            return [Words(text=day.text, lead=day.lead, untimed=True)]
        if part == "clock":
            return [Words(text=moments.clock(self.rng, written=self.written))]
        raise ConfigError(f"slot {param.name}.{part}: a part is day or clock")

    def joined(self, clause: Clause, param: Param, found: list[Words]) -> Iterable[Segment]:
        """Write the items of an argument as people list them."""
        for number, word in enumerate(found):
            if number:
                last = number == len(found) - 1
                if not last:
                    yield Segment(", ")
                elif len(found) > 2 and self.written:
                    yield Segment(", and ")
                else:
                    yield Segment(" and ")
            if word.lead:
                yield Segment(word.lead)
            yield Segment(word.text, Key(clause.serial, param.name, number))
            if word.tail:
                yield Segment(word.tail)

    def _result(
        self, clause: Clause, tool: Tool, slot: grammar.Slot, mention: Mention | None
    ) -> bool:
        """Put a mention of another step's value in place of a slot."""
        param = find_param(tool, slot.param)
        found = mention(param) if mention is not None else None
        if found is None:
            return False
        segments, source = found
        key = Key(clause.serial, param.name)
        clause.segments.extend(Segment(s.text, s.key, key) for s in segments)
        clause.sources[param.name] = ResultOf(source)
        return True

    def decide_flags(self, clause: Clause) -> None:
        """Decide flags such as all-day from whether a time of day was said."""
        for flag, date in self.books[clause.tool.name].untimed.items():
            said = date in clause.sources
            if flag not in clause.sources and said:
                clause.sources[flag] = Fixed(date in clause.untimed)

    def words(self, tool: Tool, param: Param, filler: str = "") -> list[Words]:
        """Find words for one argument: several items for a list."""
        name = filler or self.books[tool.name].fillers.get(param.name) or self.default(tool, param)
        if name in ("person", "people", "one", "two", "full"):
            return self._people(param, name)
        count = 1
        if param.is_list and self.rng.random() < 0.12:
            count = 2
        found = [self._one(name, param, tool) for _ in range(count)]
        if param.kind in (Kind.SPAN, Kind.TEXT):
            found = [without_article(word) for word in found]
        return found

    def default(self, tool: Tool, param: Param) -> str:
        """Choose a filler from the declaration alone."""
        if param.entity in ("contact-email", "contact-phone"):
            return "people" if param.is_list else "one"
        if param.entity == "file":
            return "file"
        if param.kind is Kind.WHEN:
            return "when"
        if param.kind is Kind.CHOICE:
            return "choice"
        if param.kind is Kind.BOOL:
            return "yes"
        if param.kind in (Kind.INT, Kind.FLOAT):
            return "minutes" if "minute" in f"{param.name} {param.meaning}" else "number"
        return guess_lexicon(param, tool)

    def _one(self, name: str, param: Param, tool: Tool) -> Words:
        """Fill one value by the filler of that name."""
        rng, written = self.rng, self.written
        match name:
            case "when" | "bare" | "timed" | "untimed":
                wanted = {"timed": True, "untimed": False}.get(name)
                found = moments.moment(rng, written=written, timed=wanted)
                lead = "" if name == "bare" else found.lead
                return Words(text=found.text, lead=lead, untimed=not found.timed)
            case "mined_timed" | "mined_untimed":
                return self._mined_moment(timed=name == "mined_timed")
            case "day" | "bare_day":
                found = moments.day(rng, written=written)
                return Words(
                    text=found.text, lead="" if name == "bare_day" else found.lead, untimed=True
                )
            case "range" | "lasting":
                found = moments.stretch(rng, written=written, lasting=name == "lasting")
                return Words(text=found.text, lead=found.lead)
            case "clock":
                return Words(text=moments.clock(rng, written=written))
            case "minutes":
                text, value = moments.minutes(rng, written=written)
                return Words(text=text, value=value)
            case "number":
                value = rng.choice((1, 2, 3, 5, 10, 12, 15, 20, 25, 30, 50, 60, 75, 100))
                return Words(
                    text=str(value), value=float(value) if param.kind is Kind.FLOAT else value
                )
            case "choice":
                choice = rng.choice([c for c in param.choices if c] or list(param.choices))
                return Words(text=choice.replace("_", " "), value=choice)
            case "choice_said":
                choice = rng.choice([c for c in param.choices if c] or list(param.choices))
                return Words(text=_said_choice(choice, rng), value=choice)
            case "yes":
                value = rng.random() < 0.5
                return Words(text="on" if value else "off", value=value)
            case "email":
                return Words(text=self.address())
            case "phone":
                return Words(text=self.phone())
            case "file" | "pdf":
                return self._file(pdf=name == "pdf")
            case _ if name.startswith("mined_said_") and (
                name not in self.lexicons or rng.random() < 0.2
            ):
                own = self.books[tool.name].fillers.get(param.name) or self.default(tool, param)
                return Words(text=self.lexicons.pick(own, rng))
            case _:
                return Words(text=self.lexicons.pick(name, rng))

    def _mined_moment(self, *, timed: bool) -> Words:
        """Take a date phrase that people used, or make one."""
        name = f"mined_{'timed' if timed else 'untimed'}_list"
        if name in self.lexicons and self.rng.random() < 0.6:
            return Words(text=self.lexicons.pick(name, self.rng), untimed=not timed)
        found = moments.moment(self.rng, written=False, timed=timed)
        return Words(text=found.text, untimed=not timed)

    def _people(self, param: Param, name: str) -> list[Words]:
        """Name one to three people; some were named before."""
        if not param.is_list or name in ("one", "person", "full"):
            count = 1
        elif name == "two":
            count = 2
        else:
            weights = (30, 45, 25) if self.written else (78, 18, 4)
            count = self.rng.choices((1, 2, 3), weights)[0]
        literal = 0.13 if self.written else 0.05
        if param.entity == "contact-email" and self.rng.random() < literal:
            return [Words(text=self.address()) for _ in range(min(count, 2))]
        if param.entity == "contact-phone" and self.rng.random() < (0.12 if self.written else 0.05):
            return [Words(text=self.phone()) for _ in range(min(count, 2))]
        found: list[Words] = []
        while len(found) < count:
            known = [p for p in self.people if p not in found]
            again = known and self.rng.random() < (0.25 if self.written else 0.1)
            word = self.rng.choice(known) if again else self.person(full=name == "full")
            if all(word.text.casefold() != other.text.casefold() for other in found):
                found.append(word)
        self.people.extend(found)
        return found

    def person(self, *, full: bool = False) -> Words:
        """Name one person: first name, full name, or relation."""
        rng = self.rng
        if not self.written and "mined_person" in self.lexicons and rng.random() < 0.45:
            return Words(text=self.lexicons.pick("mined_person", rng))
        roll = rng.random()
        if full or roll < (0.10 if self.written else 0.16):
            first, last = self.lexicons.pick("first", rng), self.lexicons.pick("last", rng)
            return Words(text=f"{first} {last}")
        if roll < (0.22 if self.written else 0.40):
            if rng.random() < 0.55:
                return Words(text=self.lexicons.pick("family", rng))
            return Words(text=self.lexicons.pick("relation", rng), lead="my ")
        if self.written and roll < 0.62:
            return Words(text=self.lexicons.pick("common", rng))
        return Words(text=self.lexicons.pick("first", rng))

    def address(self) -> str:
        """Make an e-mail address of a reserved or well-known shape."""
        rng = self.rng
        first = _ascii(self.lexicons.pick("first", rng))
        last = _ascii(self.lexicons.pick("last", rng))
        local = rng.choice(
            (f"{first}.{last}", f"{first}{last}", first, f"{first[0]}.{last}", f"{first}_{last}")
        )
        local = local if self.written and rng.random() < 0.5 else local.lower()
        return f"{local}@{self.lexicons.pick('domain', rng)}"

    def phone(self) -> str:
        """Make a phone number from the range that is reserved for fiction."""
        rng = self.rng
        area, last = rng.choice((212, 415, 617, 312, 206, 305)), f"{rng.randint(100, 199):04d}"
        return rng.choice(
            (
                f"{area}-555-{last}",
                f"({area}) 555-{last}" if self.written else f"{area} 555 {last}",
                f"555-{last}",
                f"+1 {area} 555 {last}",
            )
        )

    def _file(self, *, pdf: bool) -> Words:
        """Name a file: with extension, or loosely."""
        rng = self.rng
        loose = rng.random() < (0.25 if self.written else 0.6)
        if loose and (not pdf or rng.random() < 0.5):
            return Words(text=self.lexicons.pick("loose_file", rng))
        stem = self.lexicons.pick("file_stem", rng)
        if not self.written:
            stem = rng.choice((stem, stem.replace(" ", "_"), stem.replace(" ", "-"))).lower()
        else:
            joined = "".join(word[:1].upper() + word[1:] for word in stem.split())
            stem = rng.choice((joined, joined, stem, stem.replace(" ", "_")))
        extension = "pdf" if pdf else self.lexicons.pick("extension", rng)
        return Words(text=f"{stem}.{extension}")


def _enclose(clause: Clause, param: str, first: int) -> None:
    """Make the segments from one on, as a whole, the words of an argument."""
    key = Key(clause.serial, param)
    clause.segments[first:] = [Segment(s.text, s.key, key) for s in clause.segments[first:]]
    clause.sources[param] = Said()


_ARTICLE = re.compile(r"(?:the|my|a|an|our) (?=\S)", re.IGNORECASE)


def without_article(word: Words) -> Words:
    """Move a leading article out of a value: "the library" is named "library"."""
    match = _ARTICLE.match(word.text)
    if match is None or word.value is not None:
        return word
    return replace(word, lead=word.lead + match[0], text=word.text[match.end() :])


_UNITS = frozenset(("seconds", "minutes", "hours", "usd", "percent", "id"))


def _said_choice(choice: str, rng: Random) -> str:
    """Say a choice as people do: without its unit, and often the other way round."""
    words = choice.replace("_", " ").split()
    said = [word for word in words if word.lower() not in _UNITS] or words
    if "_" in choice and len(said) == 2 and rng.random() < 0.5:
        said.reverse()
    return " ".join(said)


def _ascii(name: str) -> str:
    """Write a name as it stands in an address."""
    import unicodedata

    plain = unicodedata.normalize("NFKD", name)
    return "".join(char for char in plain if char.isascii() and char.isalnum()) or "user"


def find_param(tool: Tool, name: str) -> Param:
    """Return the argument of that name.

    Raises:
        ConfigError: The tool has none.
    """
    for param in tool.params:
        if param.name == name:
            return param
    names = ", ".join(param.name for param in tool.params)
    raise ConfigError(f"{tool.name} has no argument {name!r}; it has {names}")


_HINTS = (
    ("_how_long", ("duration", "how long")),
    ("city", ("city", "town")),
    ("room", ("room", "hall")),
    (
        "person",
        (
            "name of a person",
            "person",
            "employee",
            "customer",
            "assignee",
            "attendee",
            "contact",
            "owner",
            "author",
        ),
    ),
    (
        "place",
        (
            "place",
            "location",
            "city",
            "address",
            "country",
            "destination",
            "room",
            "venue",
            "where",
        ),
    ),
    ("message", ("message", "text", "body", "content", "comment", "description", "reason", "note")),
    ("task", ("task", "todo", "reminder")),
    ("folder", ("folder", "list", "board", "project", "label", "category", "playlist")),
    ("event", ("title", "event", "meeting", "topic", "subject", "name")),
    ("item", ("item", "product", "food", "dish", "song", "movie", "book")),
)


def guess_lexicon(param: Param, tool: Tool) -> str:
    """Guess from an argument's name and meaning which list its values come from."""
    name = " ".join(words_of(param.name))
    if tool.returns in (Type.EMAIL, Type.PHONE):
        return "person"
    for text in (name.removesuffix(" name"), param.meaning.lower(), name):
        for lexicon, hints in _HINTS:
            if any(hint in text for hint in hints):
                return lexicon
    return "topic"
