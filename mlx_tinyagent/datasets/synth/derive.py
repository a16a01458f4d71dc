"""A phrase book for a tool that has none: worded from its declaration alone.

Names of tool and arguments, the first sentence of its text, types and choices
are all there is. "Rename, move or change a meeting" gives three verbs and a
noun; an argument that says *which* one is referred to as people do ("my next
meeting with Ana"); a choice of fields with a value beside it is worded field by
field ("move it to friday", "reassign it to Ana").
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise

from mlx_tinyagent.datasets.synth.book import Book, Question, fits, packaged_book
from mlx_tinyagent.datasets.synth.wording import (
    EXISTING,
    FIELDS,
    MAKING,
    REFERENCES,
    REMOVING,
    VERBS,
    words_of,
)
from mlx_tinyagent.tools.base import Kind, Param, Tool, ToolSet, Type

VERSION = 2  # any change of what a declaration gives bumps it


@dataclass(frozen=True, slots=True, kw_only=True)
class Voice:
    """How a tool is spoken of.

    Attributes:
        verbs: What people say for what it does.
        nouns: What people call what it is about.
        where: A place that its text names: "from the crm"; empty if none.
        kind: What becomes of the thing: ``make``, ``remove``, ``use`` (it is there
            already) or ``other``.
    """

    verbs: tuple[str, ...]
    nouns: tuple[str, ...]
    where: str
    kind: str


def books_for(tools: ToolSet) -> dict[str, Book]:
    """Return one phrase book per tool: packaged where it fits, else derived.

    A packaged book is used when the tool has every argument that the book
    names, so another tool of the same name gets a book of its own.

    Args:
        tools: The tool set.
    """
    books = {}
    for tool in tools:
        book = packaged_book(tool.name)
        books[tool.name] = book if book is not None and fits(book, tool) else derived(tool)
    return books


def derived(tool: Tool) -> Book:
    """Write a phrase book from a tool's declaration alone."""
    voice = voice_of(tool)
    spoken = [param for param in tool.params if _speakable(param)]
    required = [param for param in spoken if param.required and not param.empty]
    optional = [param for param in spoken if param not in required]
    target = _target(required, voice)
    pair = _pair(required)
    rest = [param for param in required if param is not target and param not in (pair or ())]
    words = _Words(tool, voice, target, rest, optional)
    short = list(words.fields(pair) if pair else words.plain())
    results = [text for param in tool.params for text in words.result(param, required)]
    name = voice.nouns[0] if voice.nouns else " ".join(words_of(tool.name))
    values = tool.returns is not Type.STATUS
    return Book(
        tool=tool.name,
        derived=True,
        fillers={target.name: words.referring} if target is not None and words.refers else {},
        short=tuple(short),
        compound=(*(text for text in short if not text.startswith("!")), *results),
        inline=(f"the {name}{words.phrases(required)}",) if values else (),
        later=(f"the {name}", "the result", f"that {name}") if values else (),
        questions=tuple(words.questions(pair, required)),
        lexicons={words.referring: _references(voice)} if words.refers else {},
    )


def voice_of(tool: Tool) -> Voice:
    """Read verbs, nouns and place off a tool's name and first sentence."""
    named = words_of(tool.name)
    verbs = [named[0]] if named[0] in VERBS or len(named) > 1 else ["use", "run"]
    nouns = [" ".join(named[1:])] if len(named) > 1 else [] if named[0] in VERBS else [named[0]]
    said, noun, where = _sentence(tool.summary)
    kind = _kind(named[0], said)
    known = [verb for verb in said if verb in VERBS or verb.split(" ")[0] in VERBS]
    spoken = [*verbs, *known]
    every = [word for verb in spoken for word in VERBS.get(verb, (verb,))]
    if noun and noun not in nouns and (known or not nouns):
        nouns.append(noun)
    return Voice(
        verbs=tuple(dict.fromkeys(every)),
        nouns=tuple(noun for noun in dict.fromkeys(nouns) if noun),
        where=where,
        kind=kind,
    )


_PREPOSITIONS = "to|from|of|in|into|for|with|about|on|over|at|by|as|and|or|who|that|which"
_OBJECT = re.compile(
    r"(?:a|an|the|your|my|someone's)\s+(?:new\s+)?"
    rf"((?!(?:{_PREPOSITIONS})\b)[a-z-]+(?:\s+(?!(?:{_PREPOSITIONS})\b)[a-z-]+)?)"
)
_WHERE = re.compile(r"\b((?:to|from|in|on) the [a-z]+)\s*$")


def _sentence(text: str) -> tuple[list[str], str, str]:
    """Return the verbs, the object and the place of a first sentence."""
    first = re.split(r"[.;:]", text.lower().replace("e-mail", "email"), maxsplit=1)[0].strip()
    found = _OBJECT.search(first)
    if found is None:
        return [first.split(" ")[0]] if first else [], "", ""
    head = re.split(r",\s*|\s+(?:or|and)\s+", first[: found.start()].strip())
    verbs = [verb.strip() for verb in head if 0 < len(verb.split()) <= 2]
    noun = found[1].split("'")[0].strip()
    place = _WHERE.search(first)
    return verbs, noun, place[1] if place and place.start() > found.start() else ""


def _kind(verb: str, said: Iterable[str]) -> str:
    for word in (verb, *(text.split(" ")[0] for text in said)):
        if word in REMOVING:
            return "remove"
        if word in EXISTING:
            return "use"
        if word in MAKING:
            return "make"
    return "other"


def _target(required: list[Param], voice: Voice) -> Param | None:
    """Return the argument that is the thing itself, if the tool is about one that is there."""
    spans = [p for p in required if p.kind is Kind.SPAN and not p.is_list and p.entity is None]
    if not spans:
        return None
    asked = [p for p in spans if p.meaning.lower().startswith("which")]
    if asked:
        return asked[0]
    return spans[0] if voice.kind in ("remove", "use") else None


def _pair(required: list[Param]) -> tuple[Param, Param] | None:
    """Return a choice of fields and the free value that goes with it."""
    for field, value in pairwise(required):
        if (
            field.kind is Kind.CHOICE
            and {"field", "attribute", "property", "column"} & set(words_of(field.name))
            and value.kind in (Kind.TEXT, Kind.TEMPLATE, Kind.SPAN)
            and value.entity is None
            and "value" in words_of(value.name)
        ):
            return field, value
    return None


class _Words:
    """Writes the templates of one tool."""

    def __init__(
        self,
        tool: Tool,
        voice: Voice,
        target: Param | None,
        rest: list[Param],
        optional: list[Param],
    ) -> None:
        self.tool, self.voice, self.target = tool, voice, target
        self.rest, self.optional = rest, optional
        self.verb = _either(voice.verbs)
        self.noun = _either(voice.nouns)
        self.where = f"( {voice.where}| {_inside(voice.where)}|)" if voice.where else ""
        self.referring = f"_which_{tool.name}"
        self.refers = target is not None and not _is_name(target) and bool(voice.nouns)

    def thing(self) -> str:
        """Return the words for the thing itself, with its slot and what tells which kind it is."""
        if self.target is None:
            return ""
        slot = f"{{{self.target.name}}}"
        if self.refers:
            return f"{{{self.target.name}={self.referring}}}{self.where}"
        if not self.voice.nouns:
            return slot
        known = f"{slot} {self.voice.where}" if self.voice.where else f"{self.noun} {slot}"
        return f"({known}|the {self.noun} {slot}|{slot}, the {self.noun},|{slot} the {self.noun})"

    def phrases(self, params: list[Param]) -> str:
        """Return the words for several arguments."""
        return "".join(phrase_of(param, self.tool) for param in params)

    def plain(self) -> Iterable[str]:
        """Yield templates of a tool without a pair of field and value."""
        thing = self.thing()
        rests = [self.rest] + [[*self.rest, param] for param in self.optional]
        if len(self.optional) > 1:
            rests.append([*self.rest, *self.optional[:3]])
        for number, params in enumerate(rests):
            after = self.phrases(params)
            if thing:
                yield f"{self.verb} {thing}{after}"
                if number == 0:
                    yield from self._around(thing, after)
            else:
                yield from self._making(params, after)

    def _around(self, thing: str, after: str) -> Iterable[str]:
        """Yield other ways to speak of something that is there."""
        yield f"!i need to {self.verb} {thing}{after}"
        yield f"!can you {self.verb} {thing}{after}( for me|)"
        if len(self.rest) == 1 and self.rest[0].entity:
            slot = f"{{{self.rest[0].name}}}"
            yield f"{self.verb} {slot} {thing}"
            yield f"!{slot} needs {thing}. can you {self.verb} it( to them|)"
        if self.voice.kind == "remove" and not self.rest:
            yield f"!{thing} (is no longer needed|is not needed any more|can go)"
            yield f"!we (no longer|don't) need {thing}. can you {self.verb} (it|them)"
            yield f"!we (no longer|don't) need to keep {thing}"
            if self.noun and self.target is not None and not self.refers:
                name = f"{{{self.target.name}}}"
                yield f"!{name} is (no longer|not) a {self.noun}( any more|). {self.verb} them"

    def _making(self, params: list[Param], after: str) -> Iterable[str]:
        """Yield ways to ask for something that is not there yet."""
        noun = self.noun
        if not noun:
            yield f"{self.verb}{after}"
            yield f"!(can you|i need to) {self.verb}{after}"
            return
        article = "(a|the|a new|)" if self.voice.kind == "make" else "(the|a|)"
        yield f"{self.verb} {article} {noun}{after}{self.where}"
        yield f"!i need a {noun}{after}"
        yield f"!(can you|i want to) {self.verb} {article} {noun}{after}{self.where}"
        yield f"{self.voice.nouns[0]}{after}"
        first = params[0] if params else None
        if first is not None and first.kind in (Kind.SPAN, Kind.TEXT) and not first.is_list:
            yield from self._named(first, self.phrases(params[1:]), article)
        for choice in params:
            if choice.kind is Kind.CHOICE and not choice.is_list:
                said = f"{{{choice.name}=choice_said}}"
                others = self.phrases([p for p in params if p is not choice])
                yield f"{self.verb} (a|the|) {said} {noun}{others}"
                yield f"!i need a {said} {noun}{others}"
                yield f"{self.verb} {said}{others}"

    def _named(self, first: Param, others: str, article: str) -> Iterable[str]:
        """Yield ways to ask for something that is spoken of by name."""
        slot, noun = f"{{{first.name}}}", self.noun
        if self.where:
            yield f"{self.verb} {slot} {self.voice.where}{others}"
        if first.entity is None:
            yield f"{self.verb} {article} {noun} (called|named|for|) {slot}{others}"
            yield f"{self.verb} {slot} as a( new|) {noun}{self.where}{others}"
            yield f"!there is a new {noun}, {slot}{others}. can you {self.verb} (it|them)"
        else:
            yield f"{self.verb} {slot} {article} {noun}{others}"

    def fields(self, pair: tuple[Param, Param]) -> Iterable[str]:
        """Yield templates that change one field of something, field by field."""
        field, value = pair
        thing = self.thing() or (self.voice.nouns and f"the {self.noun}") or "it"
        after = self.phrases(self.rest)
        for choice in field.choices:
            if not choice:
                continue
            filler, verbs = _field(choice)
            slot = f"{{{value.name}={filler}}}" if filler else f"{{{value.name}}}"
            spoken = _spoken(choice, self.voice.nouns)
            by = f"{{{value.name}=_how_long}}"
            fixed = f" ;; {field.name}={choice}"
            yield f"{self.verb} the {spoken} of {thing} to {slot}{after}{fixed}"
            yield f"(set|change|update) the {spoken} (of|for) {thing} to {slot}{after}{fixed}"
            yield f"!{thing} has (moved|changed) to {slot}. can you {self.verb} it{after}{fixed}"
            yield f"!(can you|i need to) {self.verb} {thing} to {slot}{after}{fixed}"
            for verb in verbs:
                said = verb.format(thing=thing, value=slot, by=by)
                yield f"{said}{after}{fixed}"

    def result(self, param: Param, required: list[Param]) -> Iterable[str]:
        """Yield templates that read another step's value in an argument."""
        if not param.accepts or param.entity is not None:
            return
        words = " ".join(words_of(param.name))
        read = f" (using|with|based on) {{*{param.name}}} (as the {words}|for the {words}|)"
        head = f"{self.verb} (a|the|) {self.noun}" if self.noun else self.verb
        said = (read if other is param else phrase_of(other, self.tool) for other in required)
        yield f"{head}{''.join(said)}" + ("" if param.required else read)

    def questions(
        self, pair: tuple[Param, Param] | None, required: list[Param]
    ) -> Iterable[Question]:
        """Yield requests that lack one argument, with the question for it."""
        noun = self.voice.nouns[0] if self.voice.nouns else " ".join(words_of(self.tool.name))
        head = f"{self.verb} (a|the|) {self.noun}" if self.noun else self.verb
        for param in required:
            if (param.is_list and not param.entity) or (pair and param is pair[0]):
                continue
            if param is self.target:
                others = self.phrases([p for p in required if p is not param])
                yield Question(text=f"{head}{others}", ask=f"Which {noun}?", missing=param.name)
                continue
            thing = f"{self.verb} {self.thing()}" if self.target else head
            said = [p for p in required if p not in (param, self.target)]
            yield Question(
                text=f"{thing}{self.phrases(said)}",
                ask=question_for(param, noun),
                missing=param.name,
            )


def _is_name(param: Param) -> bool:
    """Whether an argument is a proper name, not a description of which one is meant."""
    return param.meaning.lower().startswith(("name", "full name"))


def _references(voice: Voice) -> tuple[str, ...]:
    """Return how people refer to one of several things of a kind."""
    return tuple(text.replace("NOUN", noun) for noun in voice.nouns for text in REFERENCES)


def _field(choice: str) -> tuple[str, tuple[str, ...]]:
    """Return the filler for a field's values, and sentences that change such a field."""
    words = set(words_of(choice))
    for hints, filler, sentences in FIELDS:
        if words & hints:
            return filler, sentences
    return "", ()


def _spoken(choice: str, nouns: tuple[str, ...]) -> str:
    """Return a field's name without the words that the noun says already."""
    known = {word for noun in nouns for word in noun.split()}
    words = [word for word in words_of(choice) if word not in known]
    return " ".join(words or words_of(choice))


def _inside(where: str) -> str:
    """Say where something is instead of where it goes to."""
    return re.sub(r"^\w+", "in", where)


def _either(words: tuple[str, ...]) -> str:
    return f"({'|'.join(words)})" if len(words) > 1 else "".join(words)


def _speakable(param: Param) -> bool:
    return param.kind is not Kind.BOOL or param.required


def question_for(param: Param, noun: str) -> str:
    """Word the question for a missing argument."""
    words = " ".join(words_of(param.name))
    if param.entity in ("contact-email", "contact-phone"):
        return f"Who is the {noun} for?"
    if param.entity == "file":
        return "Which file?"
    if param.kind is Kind.WHEN:
        return f"When is the {noun}?"
    if param.kind is Kind.CHOICE:
        return f"Which {words}: {', '.join(c for c in param.choices if c)}?"
    return f"What is the {words}?"


def phrase_of(param: Param, tool: Tool) -> str:
    """Return the words and slot for one argument, with the blank before them."""
    slot, words = f"{{{param.name}}}", " ".join(words_of(param.name))
    if param.entity in ("contact-email", "contact-phone"):
        return _person_phrase(slot, words)
    if param.entity == "file":
        return f" (from|with) {slot}"
    if param.kind is Kind.WHEN:
        return _when_phrase(slot, words)
    if param.kind is Kind.BOOL:
        return f" with {words} {slot}"
    if param.kind in (Kind.INT, Kind.FLOAT):
        return f"( with {words} {slot}| with a {words} of {slot}|, {words} {slot}| to {slot})"
    if param.kind is Kind.CHOICE:
        said = f"{{{param.name}=choice_said}}"
        return (
            f"( as {said}| as a {said}| with {words} {said}|, {words} {said}| in {said}|, {said})"
        )
    return _words_phrase(slot, words, tool)


def _person_phrase(slot: str, words: str) -> str:
    if re.search(r"recipient|\bto\b", words):
        return f" (to|to|for) {slot}"
    if re.search(r"participant|attendee|guest|invitee", words):
        return f" (with|with|for|and invite) {slot}"
    if re.search(r"assign|owner|responsible", words):
        return f"( assigned to {slot}| for {slot}|, assign it to {slot}| and assign it to {slot})"
    return f" (for|with|to) {slot}"


def _when_phrase(slot: str, words: str) -> str:
    bare = slot.replace("}", "=bare_day}")
    if re.search(r"\b(since|from|begin)", words):
        return f" (since|from|starting) {bare}"
    if re.search(r"\b(until|till|end|to)\b", words):
        return f" (until|to|till|up to) {bare}"
    if re.search(r"\b(due|deadline|by)\b", words):
        return f"( due {slot}|, due {slot}| by {bare}|. it's due {slot})"
    return f" {slot}"


def _words_phrase(slot: str, words: str, tool: Tool) -> str:
    last = words.split()[-1]
    if tool.returns in (Type.EMAIL, Type.PHONE):
        return f" (for|of|named|) {slot}"
    if last in ("subject",):
        return f" (about|titled|with the subject|with the title) {slot}"
    if last in ("name", "title", "topic"):
        return f" (called|named|titled|) {slot}"
    if last in ("body", "message", "text", "content", "comment"):
        return f"( saying {slot}| with {slot}| that says {slot}| with '{slot}'| and say {slot})"
    if last in ("city", "location", "place", "address", "room", "country"):
        return f" (in|at|for) {slot}"
    if last in ("duration", "length"):
        return f"( for {slot}|, {slot}| lasting {slot})"
    return f"( with {words} {slot}|, {words} {slot}| for {slot}| {slot})"
