"""What a plan probably says next: guesses that the engine verifies and may reject.

Nothing here can change a plan, only the number of passes it takes. Guesses
are text; the engine turns them into tokens in their context. They come from
the place in the line (``decode.slots``): names of tools that are still
unused, defaults, earlier results that fit, words of the request.
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from typing import Any

from mlx_tinyagent.decode.grammar import Written
from mlx_tinyagent.decode.slots import Slot, slot
from mlx_tinyagent.tools.base import Kind, Param, Tool, ToolSet, Type, literal

_QUOTED = re.compile(r"[\"\u201c']((?:[^\"\u201c\u201d\n']|'(?=\w)){1,80})[\"\u201d'](?!\w)")
_NAME = re.compile(r"\b[A-Z][\w'\u2019-]*(?:\s+[A-Z][\w'\u2019-]*){0,3}")
_FILE = re.compile(
    r"(?<![\w-])[\w-]++\.(?:pdf|docx?|xlsx?|pptx?|txt|csv|md|png|jpe?g|key|pages|numbers)\b"
)
_ADDRESS = re.compile(r"(?<![\w.+-])[\w.+-]++@[\w-]++(?:\.[\w-]++)+")
_COPIED = (Kind.SPAN, Kind.WHEN)
_RELATIVES = re.compile(
    r"\b(?:mom|mum|mother|dad|father|brother|sister|wife|husband|boss|grandma|grandpa|aunt|uncle)\b",
    re.IGNORECASE,
)
_CALENDAR = frozenset(
    "monday tuesday wednesday thursday friday saturday sunday january february march april may "
    "june july august september october november december today tomorrow".split()
)
_SMALL = frozenset(
    "a an the and or but to of in on at for with from by about then also please can could i "
    "it my me is are as that this after before finally create schedule send email text open "
    "show get set add append forward reply remind compose summarize new next directions find "
    "make afterward afterwards additionally once lastly later note apple maps zoom sms pdf "
    "use let give attach include download share invite".split()
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Hints:
    """What is known about a request beside its words.

    Attributes:
        dates: Date phrases of the request, in order.
        scores: Retrieval score per tool.
    """

    dates: tuple[str, ...] = ()
    scores: Mapping[str, float] = field(default_factory=dict)


@dataclass(slots=True)
class Drafter:
    """Guesses how one request's plan goes on.

    Attributes:
        tools: Offered tools.
        query: The request.
        hints: What else is known.
    """

    tools: ToolSet
    query: str
    hints: Hints = field(default_factory=Hints)
    _quoted: list[str] = field(init=False)
    _names: list[str] = field(init=False)
    _files: list[str] = field(init=False)
    _addresses: list[str] = field(init=False)

    def __post_init__(self) -> None:
        self._quoted = [match[1] for match in _QUOTED.finditer(self.query)]
        self._files = [match[0] for match in _FILE.finditer(self.query)]
        self._addresses = [match[0] for match in _ADDRESS.finditer(self.query)]
        self._names = _capitalized(self.query)

    def complete(self, line: str, written: Sequence[Written], earlier: str, most: int) -> str:
        """Return text that may follow, over line ends if need be; empty for no guess.

        Args:
            line: The current line so far.
            written: Finished steps.
            earlier: Text of the finished lines.
            most: About how many characters are wanted.
        """
        steps = list(written)
        guessed = ""
        while len(guessed) < most:
            place = slot(line, self.tools)
            if place is None and line.endswith(")\n"):
                name = line.partition(". ")[2].partition("(")[0]
                if name not in self.tools:
                    break
                steps.append(Written(len(steps) + 1, self.tools[name]))
                earlier, line = earlier + line, ""
                piece = f"{len(steps) + 1}. "
            else:
                piece = self._guess(place, line, steps, earlier) if place else ""
            if not piece:
                break
            guessed += piece
            line += piece
        return guessed

    def _guess(self, place: Slot, line: str, written: Sequence[Written], earlier: str) -> str:
        match place.where:
            case "name":
                return self._tool(place.prefix, written)
            case "value":
                return self._value(place, written, earlier + line)
            case "item":
                return self._item(place, written, earlier + line)
            case "after-item":
                return self._after_item(place, written, earlier + line)
            case "text":
                return self._text(place, written, earlier + line)
            case "after-value":
                last = place.tool is not None and place.param == place.tool.params[-1]
                return ")\n" if last else ", "

    # Tool names

    def _tool(self, prefix: str, written: Sequence[Written]) -> str:
        for name in self._ranked(written):
            if name.startswith(prefix):
                return name[len(prefix) :] + ("(" if name != "join" else "()")
        return ""

    def _ranked(self, written: Sequence[Written]) -> list[str]:
        """Rank what may come next: what usually follows, is still unused, is named first."""
        used = [step.tool.name for step in written]
        last = used[-1] if used else "start"
        follows = priors()["next"].get(last, {})
        unused = [name for name in self.tools.names if name not in used]
        order = self._mention_order(unused)

        def rank(name: str) -> float:
            usual: float = follows.get(name, 0.0 if follows else 0.3)
            fresh = 1.0 if name not in used else 0.1 * (1 + self._repeatable(name, used))
            return (usual + 0.05) * fresh * (2.0 if order and name == order[0] else 1.0)

        ranked = sorted(self.tools.names, key=rank, reverse=True)
        return ranked if unused or self._people_left(used) else ["join", *ranked]

    def _mention_order(self, names: Sequence[str]) -> list[str]:
        """Sort tools by where the request first speaks of them; producers before their readers."""
        lowered = self.query.lower()

        def place(name: str) -> int:
            cues = [word for word in name.split("_") if word not in _SMALL or word in _CUES]
            cues += _MORE_CUES.get(name, ())
            found = [at for cue in cues if (at := lowered.find(cue)) >= 0]
            return min(found, default=len(lowered))

        places = {name: place(name) for name in names}
        for name in names:  # what a producer is for is where it is needed
            needed = [
                places[other]
                for other in names
                for param in self.tools[other].params
                if param.entity and _PREFERRED[param.entity] == self.tools[name].returns
            ]
            if needed:
                places[name] = min(needed) - 1
        return sorted(names, key=lambda name: places[name])

    def _repeatable(self, name: str, used: Sequence[str]) -> float:
        lookup = self.tools[name].returns in (Type.EMAIL, Type.PHONE)
        return 6.0 if lookup and self._people_left(used) else 0.0

    def _people_left(self, used: Sequence[str]) -> bool:
        looked_up = sum(1 for name in used if self.tools[name].returns in (Type.EMAIL, Type.PHONE))
        return 0 < looked_up < len(self._people())

    def _people(self) -> list[str]:
        """Return what may be names of people, in order of mention."""
        quoted = " ".join(self._quoted)
        plain = [name for name in self._names if name not in quoted]
        relatives = [match[0] for match in _RELATIVES.finditer(self.query)]
        found = [
            name
            for name in (*plain, *relatives)
            if not name.isupper() and name.lower() not in _CALENDAR
        ]
        return sorted(dict.fromkeys(found), key=self.query.find)

    # Arguments

    def _value(self, place: Slot, written: Sequence[Written], text: str) -> str:
        param, tool = place.param, place.tool
        assert param is not None
        assert tool is not None
        usual: str = priors()["argument"].get(f"{tool.name}.{param.name}", "")
        if usual.startswith("="):
            return usual[1:]
        refs = self._refs(param, written, text)
        if param.is_list:
            wanted = usual == "ref" if usual else bool(param.entity)
            if (refs and wanted) or not param.empty:
                return "["
            return "[]"
        if refs and usual == "ref":
            return f'"${refs[-1]}"'
        spans = self._labelled(param, tool, text)
        if param.required or usual == "span":
            spans = spans or self._spans(param, place, text)
        copied = param.kind in _COPIED or (param.kind is Kind.TEXT and usual == "span")
        if spans and copied and usual != "text":
            return literal(spans[0])
        if param.kind is Kind.BOOL:
            return "False"
        if not param.required and usual != "text":
            return literal(param.default)
        return '"'

    def _item(self, place: Slot, written: Sequence[Written], text: str) -> str:
        assert place.param is not None
        refs = [
            number
            for number in self._refs(place.param, written, text)
            if f"${number}" not in place.items
        ]
        if refs:
            return f'"${refs[0]}"'
        spans = self._spans(place.param, place, text)
        return literal(spans[0]) if spans else '"'

    def _after_item(self, place: Slot, written: Sequence[Written], text: str) -> str:
        assert place.param is not None
        refs = [
            number
            for number in self._refs(place.param, written, text)
            if f"${number}" not in place.items
        ]
        return f', "${refs[0]}"' if refs else "]"

    def _refs(self, param: Param, written: Sequence[Written], text: str) -> list[int]:
        """Return earlier steps whose value fits; those not read yet, else all, in order."""
        fitting = [step.id for step in written if step.tool.returns in param.accepts]
        exact = [
            step.id
            for step in written
            if param.entity and step.tool.returns == _PREFERRED.get(param.entity)
        ]
        pool = exact or fitting
        fresh = [number for number in pool if f'"${number}"' not in text]
        return fresh or (pool if exact else pool[-1:])

    def _spans(self, param: Param, place: Slot, text: str) -> list[str]:
        """Return words of the request that may fill an argument, likeliest first."""
        lookup = place.tool is not None and place.tool.returns in (Type.EMAIL, Type.PHONE)
        if param.kind is Kind.WHEN:
            pool = list(self.hints.dates)
        elif lookup:
            pool = self._people()
        elif param.entity == "contact-email":
            pool = self._addresses
        elif "file" in param.name or param.entity == "file":
            pool = self._files + self._quoted
        else:
            labelled = self._labelled(param, place.tool, text)
            rest = self._quoted + [name for name in self._names if name not in self._people()]
            pool = labelled + [span for span in rest + self._people() if span not in labelled]
        fresh = [span for span in pool if f'"{span}"' not in text]
        return fresh or (pool if not lookup else [])

    def _labelled(self, param: Param, tool: Tool | None, text: str) -> list[str]:
        """Return quoted words of the request that stand beside the argument's name.

        "in the "Work" folder" labels a folder; what was copied before counts
        again for optional arguments, as one folder serves several notes.
        """
        words = {param.name.split("_")[0], *_LABELS.get(param.name, ())}
        found = []
        for match in _QUOTED.finditer(self.query):
            before = self.query[: match.start()].lower().split()[-3:]
            after = self.query[match.end() :].lower().split()[:1]
            near = {word.strip(".,;:") for word in (*before, *after)}
            if words & near:
                found.append(match[1])
        fresh = [span for span in found if f'"{span}"' not in text]
        return fresh or (found if not param.required else [])

    # Inside quotes

    def _text(self, place: Slot, written: Sequence[Written], text: str) -> str:
        """Copy on: a result that fits, the rest of a known span, words that followed before."""
        param = place.param
        assert param is not None
        prefix = place.prefix
        if not prefix:
            fresh = [n for n in self._refs(param, written, text) if f"${n}" not in place.items]
            if param.entity and fresh:
                return f'${fresh[0]}"'
            spans = self._spans(param, place, text) if param.kind in _COPIED else []
            return spans[0] + '"' if spans else ""
        known = (*self.hints.dates, *self._quoted, *self._files, *self._addresses, *self._names)
        for span in known:
            if span.startswith(prefix):
                return span[len(prefix) :] + '"'
        return self._copy(prefix) if param.kind in _COPIED else self._lookup(prefix)

    def _copy(self, prefix: str) -> str:
        """Go on in the request after this prefix, up to a word that seldom belongs to a name."""
        at = self.query.find(prefix)
        if at < 0:
            return ""
        end = at + len(prefix)
        rest = re.match(r"[\w'\u2019-]*", self.query[end:])
        inside = rest[0] if rest else ""
        following = re.match(r"\s+([\w'\u2019-]+)", self.query[end + len(inside) :])
        if following is None or following[1].lower() in _SMALL:
            return inside + '"'
        return inside + following[0]

    def _lookup(self, prefix: str) -> str:
        """Go on as the request does after the last two words."""
        tail = re.search(r"(\S+\s+\S*|\S{3,})$", prefix)
        if tail is None:
            return ""
        at = self.query.lower().find(tail[0].lower())
        if at < 0:
            return ""
        following = re.match(r"\S*(?:\s+\S+){0,3}", self.query[at + len(tail[0]) :])
        return following[0].split('"')[0] if following else ""


_CUES = frozenset("note zoom sms pdf email forward reply directions maps".split())
_MORE_CUES = {
    "send_sms": ("text ", "message"),
    "create_calendar_event": ("meeting", "schedule", "invite"),
    "create_reminder": ("remind",),
    "open_and_get_file_path": (".pdf", "file", "document", "attach"),
    "maps_open_location": ("location", "address", "map"),
}
# Words that stand beside a value of this argument in requests.
_LABELS = {"location": ("at",), "list_name": ("list",), "name": ("titled", "named", "called")}
_PREFERRED = {"contact-email": Type.EMAIL, "contact-phone": Type.PHONE, "file": Type.PATH}


@functools.cache
def priors() -> dict[str, Any]:
    """Return how often tools follow each other and how arguments are usually filled.

    Counted on plans of the public TinyAgent training rows by
    ``scripts/make_priors.py``; other tools have none and do without.
    """
    text = files("mlx_tinyagent.decode").joinpath("priors.json").read_text(encoding="utf-8")
    loaded: dict[str, Any] = json.loads(text)
    return loaded


def _capitalized(query: str) -> list[str]:
    """Return capitalized words that are no sentence starts or commands, in order, each once."""
    found = []
    for match in _NAME.finditer(query):
        words = match[0].split()
        while words and words[0].lower() in _SMALL:
            words = words[1:]
        name = " ".join(words).removesuffix("'s").removesuffix("\u2019s")
        if name and name not in found:
            found.append(name)
    return found
