"""Bodies of mails and notes, and summaries, by rules: the same input, the same text.

Everything written comes from the request, from results or from the document;
nothing is invented. Knows no backend and no model.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterator, Sequence

from mlx_tinyagent.tools.intent import COMMANDS, intent
from mlx_tinyagent.tools.match import fold

SUMMARY_SENTENCES = 5
MAX_SENTENCES = 300  # of a longer document only the beginning is ranked
MAX_REQUEST = 4_000  # characters in which the request's own words are looked for
_MIN_WORDS = 4  # shorter ones, and those without an end mark, are headings or fragments
_HEADING_CHARACTERS = 60
_POSITION_BONUS = 0.05  # for the first sentence, falling with its place

# The start of another command in the same request.
_NEXT_COMMAND = re.compile(
    r"(?:[,;.]|\s)\s*(?:(?:and|then|also|finally|next|after that|please),?\s+){1,3}"
    rf"(?=(?:{COMMANDS.replace(' ', '|')})\b)",
    re.IGNORECASE,
)
# Where a request says what a text should say, in the order they are looked for at one place.
_CONTENT = re.compile(
    r"\b(?:content|text|message|body)\b[^.?!\"\u201c]{0,20}[\"\u201c](?P<quoted>[^\"\u201c\u201d]+)"
    r"|\b(?:say|tell|reply|answer|mention|explain|confirm|inform|write|let|e-?mail|mail|message)"
    r"(?:s|ing|ting)?\b"
    r"(?:(?!\babout\b)[^.?!\"]){0,40}?\b(?:that|know(?: that)?|saying)\s+(?P<said>[^.?!]+)"
    r"|\bask(?:s|ing)?\s+(?:\S+\s+){1,4}?(?P<asked>(?:to|if|whether|for)\s+[^.?!]+)"
    r"|\bsaying,?\s+(?P<bare>[^.?!]+)"
    r"|\b(?P<about>(?:about|regarding|concerning)\s+[^.?!,]+)",
    re.IGNORECASE,
)
# The same, said of somebody who was named before: it goes before what the text is about.
_TOLD = re.compile(
    r"\b(?:tell|let)\s+(?:him|her|them)\s+(?:know\s+)?(?:that\s+)?(?!about\b)(?P<told>[^.?!]+)"
    r"|\band\s+say\s+(?:that\s+)?(?P<say>[^.?!]+)",
    re.IGNORECASE,
)
_SENTENCE_END = re.compile(
    r"(?<![A-Z]\.)(?<!\bDr\.)(?<!\bMr\.)(?<!\bMs\.)(?<!Mrs\.)(?<!\bNo\.)(?<!\bvs\.)"
    r"(?<=[.!?\u2026])[\"')\u201d\u00bb]*\s+(?=[\"'(\u201c\u00ab]*[^\W_])|(?<=[\u3002\uff01\uff1f])"
)


class PlainWriter:
    """Implements ``tools.backend.Writer`` without a model."""

    def mail(self, *, request: str, subject: str, context: str, greeting: str) -> str:
        """Write a mail: greeting, then the context, else what the request says, else the subject.

        Args:
            request: The user's words.
            subject: Subject of the mail.
            context: What the mail must contain; taken word for word.
            greeting: Whom to greet; nobody by name if empty.
        """
        own = intent(request, names=greeting, about=(subject, context))
        said = context.strip() or sentence(said_in(own, besides=(subject, greeting)))
        return framed(said or sentence(subject), greeting)

    def note(self, *, request: str, name: str, content: str) -> str:
        """Write a note: the content word for word, else what the request says about it.

        Args:
            request: The user's words.
            name: Title of the note.
            content: What to write.
        """
        own = intent(request, about=(name, content))
        return content.strip() or sentence(said_in(own, besides=(name,)))

    def summary(self, *, text: str, most: int = SUMMARY_SENTENCES) -> str:
        """Choose the sentences that say most of what the others say, in their order.

        Args:
            text: The document.
            most: Most sentences to choose.

        Returns:
            At most ``most`` of its sentences; all of a short document.

        Source:
            Degree centrality on cosine similarities with inverse sentence
            frequencies, as in Erkan and Radev 2004, LexRank.
        """
        sentences = list(split_sentences(text))[:MAX_SENTENCES]
        full = [s for s in sentences if len(s.split()) >= _MIN_WORDS and not s[-1].isalnum()]
        ranked = full if len(full) >= most else sentences
        if len(ranked) > most:
            scores = _centrality(ranked)
            best = sorted(range(len(ranked)), key=lambda at: (-scores[at], at))
            ranked = [ranked[at] for at in sorted(best[:most])]
        return " ".join(ranked)


def framed(body: str, greeting: str) -> str:
    """Put greeting and closing around the body of a mail.

    Args:
        body: What it says; may be empty.
        greeting: Whom to greet; nobody by name if empty.
    """
    opening = f"Hi {greeting}," if greeting.strip() else "Hello,"
    return "\n\n".join(part for part in (opening, body, "Best regards") if part)


def said_in(request: str, *, besides: Sequence[str]) -> str:
    """Return the span of a request that says what a text should say; empty if there is none.

    Args:
        request: The user's words, possibly several commands.
        besides: Texts that already stand elsewhere, such as the subject.
    """
    known = {fold(text) for text in besides}
    text = request[:MAX_REQUEST]
    for match in (*_TOLD.finditer(text), *_CONTENT.finditer(text)):
        span = next(group for group in match.groups() if group)
        span = _NEXT_COMMAND.split(span)[0].strip(" ,;:\"'")
        if span and fold(span) not in known and fold(span.partition(" ")[2]) not in known:
            return span
    return ""


def sentence(text: str) -> str:
    """Write a span as a sentence."""
    text = " ".join(text.split())
    if not text:
        return ""
    ended = text if text[-1] in ".!?\u2026\u3002" else f"{text}."
    return ended[0].upper() + ended[1:]


def split_sentences(text: str) -> Iterator[str]:
    """Split a document into sentences; broken lines are joined, headings stand alone."""
    for block in re.split(r"\n\s*\n", text):
        for paragraph in _joined_lines(block.splitlines()):
            for piece in _SENTENCE_END.split(paragraph):
                if re.search(r"\w", piece):
                    yield " ".join(piece.split())


def _joined_lines(lines: Sequence[str]) -> Iterator[str]:
    """Join a block's lines, apart from headings and list items."""
    pending = ""
    for line in (line.strip() for line in lines):
        starts_item = re.match(r"(?:[-*\u2022]|\d{1,3}[.)])\s+|#", line)
        after_heading = (
            pending
            and len(pending) < _HEADING_CHARACTERS
            and pending[-1] not in ".!?,;:-"
            and line[:1].isupper()
        )
        if pending and (starts_item or after_heading):
            yield pending
            pending = ""
        pending = f"{pending} {line}".strip()
    if pending:
        yield pending


def _centrality(sentences: Sequence[str]) -> list[float]:
    """Score sentences by their mean similarity to the others, early ones a little more."""
    bags = [Counter(fold(sentence).split()) for sentence in sentences]
    spread = Counter(word for bag in bags for word in bag)
    total = len(sentences)
    vectors = [
        {word: count * math.log(1 + total / spread[word]) for word, count in bag.items()}
        for bag in bags
    ]
    norms = [math.sqrt(sum(weight * weight for weight in v.values())) or 1.0 for v in vectors]
    mean: dict[str, float] = {}
    for vector, norm in zip(vectors, norms, strict=True):
        for word, weight in vector.items():
            mean[word] = mean.get(word, 0.0) + weight / norm / total
    return [
        sum(weight * mean[word] for word, weight in vector.items()) / norm
        + _POSITION_BONUS * (1 - at / total)
        for at, (vector, norm) in enumerate(zip(vectors, norms, strict=True))
    ]
