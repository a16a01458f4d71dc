"""How a request looks: spoken to an assistant, in lower case, politely, with slips.

Works on segments, so every argument is read off the request as it ends up.
"""

from __future__ import annotations

import re
from random import Random

from mlx_tinyagent.datasets.synth.clause import Segment, text_of
from mlx_tinyagent.datasets.synth.lexicon import Lexicons

_NEAR_KEYS = {
    "a": "sq", "b": "vn", "c": "xv", "d": "sf", "e": "wr", "f": "dg", "g": "fh", "h": "gj",
    "i": "uo", "j": "hk", "k": "jl", "l": "k", "m": "n", "n": "bm", "o": "ip", "p": "o",
    "q": "w", "r": "et", "s": "ad", "t": "ry", "u": "yi", "v": "cb", "w": "qe", "x": "zc",
    "y": "tu", "z": "x",
}  # fmt: skip


def lowered(segments: list[Segment]) -> list[Segment]:
    """Write everything in lower case."""
    return [segment.reworded(segment.text.lower()) for segment in segments]


def capitalized(segments: list[Segment]) -> list[Segment]:
    """Write the first letter as a capital."""
    out = list(segments)
    for number, segment in enumerate(out):
        if segment.text.strip():
            text = segment.text
            at = len(text) - len(text.lstrip())
            out[number] = segment.reworded(text[:at] + text[at : at + 1].upper() + text[at + 1 :])
            break
    return out


def plain(segments: list[Segment], *, keep_stops: bool = False) -> list[Segment]:
    """Drop the quotes around arguments and the punctuation of plain words."""
    marks = r"[\"“”]" if keep_stops else r"[\"“”,;:!?]"
    out = []
    for segment in segments:
        text = segment.text if segment.key else re.sub(marks, "", segment.text)
        out.append(segment.reworded(text))
    return out


def polite(segments: list[Segment], rng: Random, lexicons: Lexicons) -> list[Segment]:
    """Put a call word or a polite opening before a command, or "please" behind it."""
    if "mined_opening" in lexicons and rng.random() < 0.75:
        opening, closing = lexicons.pick("mined_opening", rng), ""
        if "mined_closing" in lexicons:
            closing = lexicons.pick("mined_closing", rng)
        called = opening.split(" ")[-1] in lexicons.entries("wake")
        comma = "," if called and rng.random() < 0.4 else ""
        front = [Segment(f"{opening}{comma} ")] if opening else []
        return [*front, *segments, *([Segment(" " + closing)] if closing else [])]
    text = text_of(segments).lower().strip()
    verbs = lexicons.entries("imperative_verb")
    command = text.split(" ")[0] in verbs
    roll = rng.random()
    if roll < 0.05:
        return [Segment(lexicons.pick("wake", rng) + " "), *segments]
    if roll < 0.11:
        return [*segments, Segment(" " + lexicons.pick("closing", rng))]
    if not command:
        return segments
    if roll < 0.22:
        return [Segment("please "), *segments]
    if roll < 0.36:
        return [Segment(lexicons.pick("opening", rng) + " "), *segments]
    if roll < 0.38:
        both = f"{lexicons.pick('wake', rng)} {lexicons.pick('opening', rng)} "
        return [Segment(both), *segments]
    if roll < 0.43 and not re.search(r"\bme\b", text):
        return [Segment(lexicons.pick("opening_self", rng) + " "), *segments]
    return segments


def slips(segments: list[Segment], rng: Random, rate: float) -> list[Segment]:
    """Misspell single words; arguments stay as they are, since they are copied.

    Args:
        segments: The request.
        rng: Random numbers.
        rate: Chance per word of four letters or more.
    """
    out = []
    for segment in segments:
        if segment.key is not None:
            out.append(segment)
            continue
        words = re.split(r"(\W+)", segment.text)
        words = [
            _slip(w, rng) if len(w) > 3 and w.isalpha() and rng.random() < rate else w
            for w in words
        ]
        out.append(segment.reworded("".join(words)))
    return out


def _slip(word: str, rng: Random) -> str:
    """Swap, drop, double or mistype one letter."""
    at = rng.randrange(1, len(word) - 1)
    roll = rng.random()
    if roll < 0.4:
        return word[:at] + word[at + 1] + word[at] + word[at + 2 :]
    if roll < 0.65:
        return word[:at] + word[at + 1 :]
    if roll < 0.8:
        return word[:at] + word[at] + word[at:]
    near = _NEAR_KEYS.get(word[at].lower(), word[at])
    return word[:at] + rng.choice(near) + word[at + 1 :]


def articles(segments: list[Segment]) -> list[Segment]:
    """Write "a" or "an" before an argument as its first letter wants."""
    out: list[Segment] = []
    for segment in segments:
        match = re.search(r"\b(an?) $", out[-1].text, re.IGNORECASE) if out else None
        if match is not None and segment.text:
            sound = re.match(r"(?!one\b|uni|eu|use)[aeiou]", segment.text, re.IGNORECASE)
            right = match[1][0] + ("n" if sound else "")
            out[-1] = out[-1].reworded(out[-1].text[: match.start()] + right + " ")
        out.append(segment)
    return out


def tidy(segments: list[Segment]) -> list[Segment]:
    """Squeeze blanks between segments and trim the ends; arguments keep their words."""
    out: list[Segment] = []
    last = " "
    for segment in articles(segments):
        text = segment.text
        if segment.key is None:
            text = re.sub(r"\s+", " ", text)
            text = re.sub(r" ([,.?!])", r"\1", text)
        if last.endswith(" "):
            text = text.lstrip(" ")
        if text:
            out.append(segment.reworded(text))
            last = text
    while out and not out[-1].text.rstrip():
        out.pop()
    if out:
        out[-1] = out[-1].reworded(out[-1].text.rstrip())
    return out


def ended(segments: list[Segment], mark: str) -> list[Segment]:
    """End a request with a mark, unless one stands there."""
    text = text_of(segments)
    return segments if text.endswith((".", "?", "!")) else [*segments, Segment(mark)]


def quick(
    segments: list[Segment],
    rng: Random,
    lexicons: Lexicons,
    *,
    imperative: bool,
    lower: float = 0.78,
) -> list[Segment]:
    """Give a request the looks of a quick command.

    Args:
        segments: The request.
        rng: Random numbers.
        lexicons: Word lists, for call words and politeness.
        imperative: Whether "please" and the like may stand before it.
        lower: Share of requests all in lower case.
    """
    out = plain(segments, keep_stops=rng.random() < 0.3)
    if imperative:
        out = polite(out, rng, lexicons)
    elif rng.random() < 0.08:
        out = [Segment(lexicons.pick("wake", rng) + " "), *out]
    if rng.random() < 0.10:
        out = slips(out, rng, 0.18)
    small = rng.random() < lower
    if small:
        out = lowered(out)
    elif rng.random() < 0.9:
        out = capitalized(out)
    if _asks(out) and rng.random() < (0.25 if small else 0.7):
        out = ended(out, "?")
    elif rng.random() < (0.02 if small else 0.36):
        out = ended(out, ".")
    return tidy(out)


def _asks(segments: list[Segment]) -> bool:
    first = text_of(segments).lower().lstrip().split(" ")[0]
    return first in (
        "what",
        "whats",
        "what's",
        "where",
        "who",
        "how",
        "can",
        "could",
        "would",
        "is",
        "do",
        "will",
        "when",
        "which",
    )
