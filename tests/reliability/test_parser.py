"""G2: the plan reader is total, quick and blind to how a text is cut."""

from __future__ import annotations

import random
import time
from collections.abc import Callable

from mlx_tinyagent.errors import PlanError
from mlx_tinyagent.plan.graph import bind, parse
from mlx_tinyagent.plan.schema import Plan
from mlx_tinyagent.plan.text import PlanReader, RawStep
from mlx_tinyagent.tools.catalog import TINYAGENT16

SEED = 20260302
BYTES = 65_536
SLOW_S = 0.05  # of processor time, for one text

PIECES = (
    *("1. ", "2. ", "10. ", "0. ", "-1. ", "999999. ", "1.", "\n", "\r\n", "\t", " "),
    *("join()", "join", "ask(", "more_tools(", "create_note(", "send_sms(", "open_note(", "nope("),
    *('"', "'", "\\", '\\"', "\\u2028", "\\x", "\\N{DASH}", "\u2028", "\0", "\ufeff", "é", "😀"),
    *("(", ")", "[", "]", "{", "}", ",", "=", "#", "$1", "${2}", "$1.field", "${1.name}", "$99999"),
    *("None", "True", "null", "1e999", "-0.0", "1_000", "0x10", "٣", "9" * 60, "\ud800"),
    *("Thought: ", "<END_OF_PLAN>", "title=", "f'", "lambda: 0", "__import__('os')"),
)
SEEDS = (
    '1. get_email_address("Dana")\n2. create_calendar_event("Review", "tomorrow at 3pm", "", "", '
    '["$1"], "", None)\n3. join()<END_OF_PLAN>',
    '1. get_phone_number("Kate")\n2. send_sms(["$1"], "I\'m \\"late\\", pay $15")\n3. join()',
    'Thought: one\n1. open_note("Shopping", "")\n2. create_note("n", "got ${1}", "")\n3. join()',
    '1. ask("Which Dana?")\n2. join()',
    "1. maps_show_directions('', 'Rome', 'd')\n2. join()",
)


def mutant(rng: random.Random) -> str:
    """Return a text that is nearly a plan, or nothing like one."""
    kind = rng.random()
    if kind < 0.1:  # grammar alone
        return "".join(rng.choice(PIECES) for _ in range(rng.randrange(1, 60)))
    if kind < 0.13:  # deep or long
        unit = rng.choice(("[", "(", '"', "\\", "[(", "${", "1. a(", "\n"))
        return f"1. create_note({unit * rng.randrange(1, BYTES // len(unit) - 20)}"[:BYTES]
    text = list(rng.choice(SEEDS))
    for _ in range(rng.randrange(1, 8)):
        at = rng.randrange(len(text) + 1)
        match rng.randrange(4):
            case 0:
                text[at:at] = rng.choice(PIECES)
            case 1:
                del text[at : at + rng.randrange(1, 6)]
            case 2:
                text[at : at + 1] = chr(rng.choice((rng.randrange(256), rng.randrange(0x2FFFF))))
            case _:
                other = rng.randrange(len(text) + 1)
                text[at:at] = text[min(at, other) : max(at, other)]
    return "".join(text)[:BYTES]


def cut(text: str, rng: random.Random) -> list[str]:
    """Cut a text anywhere."""
    places = sorted(rng.randrange(len(text) + 1) for _ in range(rng.randrange(1, 12)))
    return [text[a:b] for a, b in zip([0, *places], [*places, len(text)], strict=True)]


def outcome(text: str, pieces: list[str]) -> object:
    """Return the plan of a text fed piece by piece, or its error."""
    reader, steps = PlanReader(), list[RawStep]()
    try:
        for piece in pieces:
            steps += reader.feed(piece)
        steps += reader.close()
        return bind(steps, TINYAGENT16)
    except PlanError as error:
        return str(error)


def whole(text: str) -> object:
    """Return the plan of a text, or its error."""
    try:
        return parse(text, TINYAGENT16)
    except PlanError as error:
        return str(error)


def test_every_text_is_a_plan_or_a_plan_error(
    cases: Callable[[str, int], int], figure: Callable[[str, str], None]
) -> None:
    """Grammar and byte mutants up to 64 KiB: no other exception, none slow, cuts do not count."""
    rng = random.Random(SEED)
    count, plans, cuts, slowest = cases("G2", 20_000), 0, 0, 0.0
    for number in range(count):
        text = mutant(rng)
        start = time.thread_time()
        found = whole(text)
        slowest = max(slowest, time.thread_time() - start)
        plans += isinstance(found, Plan)
        if number % 4 == 0 and len(text) < 4000:
            cuts += 1
            assert outcome(text, cut(text, rng)) == found, repr(text[:300])
    assert plans > count / 100
    assert slowest < 10 * SLOW_S  # of a busy machine; the figure is printed
    figure(
        "G2",
        f"{count:,} mutants: 0 other exceptions, {plans:,} valid plans, {cuts:,} cut at random "
        f"with the same outcome, slowest {slowest * 1000:.0f} ms",
    )
