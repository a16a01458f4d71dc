"""G26: the same request gives the same transcript, wherever and however often it is asked."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.decode.tiny import write_model

# Plans requests with a model and runs what it planned on world v1, then runs plans written by
# hand. Prints one hash over every plan, preview, result, answer and the store at the end.
TRANSCRIPT = """
import hashlib, os, re, sys
from datetime import datetime
from pathlib import Path
os.chdir(sys.argv[4])
from mlx_tinyagent.act.executor import Callbacks
from mlx_tinyagent.agent.agent import Agent
from mlx_tinyagent.agent.planner import Planner
from mlx_tinyagent.decode.engine import Engine
from mlx_tinyagent.decode.store import KVStore
from mlx_tinyagent.errors import TinyAgentError
from mlx_tinyagent.models.language import load
from mlx_tinyagent.plan.graph import parse
from mlx_tinyagent.retrieval.default import make
from mlx_tinyagent.tools.catalog import TINYAGENT16
from mlx_tinyagent.tools.local import LocalBackend, content_hash, memory_world
from mlx_tinyagent.tools.writer import PlainWriter

folder, count, cache = Path(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3])
REQUESTS = [
    "what is Sarah's email address?", "remind me to buy milk tomorrow at 5pm",
    "text Julia that I am late", "open the lease agreement", "summarize the lease agreement",
    "write Sarah an email about the lease", "show me the way to the harbor",
    "lunch with Noor on friday at noon", "make a note called Ideas", "add eggs to my shopping list",
    "reply that I agree", "forward this to Julia", "where is Lisbon?", "David's phone number",
    "a zoom meeting with Sarah tomorrow at 10", "open my travel notes",
    "email Sarah and Julia the budget", "remind me on sunday to call mom",
    "text Sarah the address of the office", "create an event for my birthday",
]
PLANS = [
    ['get_email_address("Sarah")', 'compose_new_email(["$1", "Julia"], [], "x")'],
    ['open_and_get_file_path("Lease Agreement")', 'summarize_pdf("$1")',
     'forward_email(["Sarah"], [], "", ["$1"])'],
    ['create_calendar_event("x", "friday at 3", "", "", ["Sarah", "Julia"])',
     'create_note("n", "t", "F")'],
    ['append_note_content("Shopping List", "t")', 'create_reminder("x", "tomorrow", "", "L")',
     'send_sms(["Sarah", "Julia"], "t")'],
    ['maps_show_directions("", "Rome")', 'reply_to_email([], "yes")'],
]
model = load(folder, adapter=None)
planner = Planner(Engine(model, store=KVStore(cache, model)), TINYAGENT16, make("on"))
lines = []

def approve(shown):
    seen = repr([(s.id, s.args, s.warnings) for s in shown.steps])
    # The zone's name is the user's own and has to differ.
    lines.append(re.sub(r"(\\d\\d:\\d\\d) [A-Z0-9+-]{2,6}", r"\\1 ZONE", seen))
    return True

def agent(store):
    return Agent(tools=TINYAGENT16, backend=LocalBackend(store), writer=PlainWriter(),
                 planner=planner, clock=lambda: datetime(2026, 3, 2, 9, 0))

with memory_world() as store:
    for request in REQUESTS[:count]:
        try:
            reply = agent(store).ask(request, Callbacks(approve=approve))
            lines.append(repr((reply.plan_text, reply.text, reply.exit_code)))
        except TinyAgentError as error:
            lines.append(repr(error))
    for calls in PLANS:
        text = "\\n".join(f"{n}. {call}" for n, call in enumerate([*calls, "join()"], start=1))
        plan = parse(text, TINYAGENT16)
        reply = agent(store).run_plan(plan, text, "", Callbacks(approve=approve), typed=True)
        lines.append(repr((reply.plan_text, reply.text, reply.exit_code)))
    lines.append(content_hash(store))
print(hashlib.sha256("\\n".join(lines).encode()).hexdigest(), len(lines))
"""

# What must make no difference; the first is asked twice, so that its cache is warm.
WORLDS: list[dict[str, str]] = [
    {"PYTHONHASHSEED": "0"},
    {"PYTHONHASHSEED": "1", "TZ": "Asia/Kathmandu", "LC_ALL": "C"},
    {"PYTHONHASHSEED": "0"},
    {"PYTHONHASHSEED": "4711", "TZ": "America/New_York", "LC_ALL": "C.UTF-8"},
    {"TZ": "Pacific/Auckland", "LANG": "de_DE.UTF-8", "LC_ALL": "tr_TR.UTF-8"},
    {"PYTHONOPTIMIZE": "1", "TZ": "UTC"},
    {"PYTHONHASHSEED": "random", "TZ": "Europe/London"},
    {"PYTHONUTF8": "1", "COLUMNS": "20", "NO_COLOR": "1"},
]


def transcript(folder: Path, requests: int, world: dict[str, str], cache: Path, cwd: Path) -> str:
    """Return the hash of a transcript made by a process of its own."""
    done = subprocess.run(
        [sys.executable, "-c", TRANSCRIPT, *map(str, (folder, requests, cache, cwd))],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": os.getcwd(), **world},
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout.strip()


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_nothing_around_it_changes_a_transcript(
    tmp_path: Path, cases: Callable[[str, int], int], figure: Callable[[str, str], None]
) -> None:
    """Hash seed, time zone, locale, folder, a warm cache: one hash over all that was said."""
    model, requests = write_model(tmp_path / "tiny"), min(cases("G26", 3), 20)
    runs = 3 if requests <= 3 else len(WORLDS)

    made = [
        transcript(model, requests, world, tmp_path / f"cache{n % 2}", tmp_path if n % 2 else model)
        for n, world in enumerate(WORLDS[:runs])
    ]

    assert len(set(made)) == 1, made
    lines = made[0].split()[1]
    figure("G26", f"{requests} requests and 5 plans, {lines} lines, {runs} processes: 1 transcript")


@pytest.mark.slow
@pytest.mark.weights
@pytest.mark.timeout(3600)
def test_the_real_model_says_the_same_each_time(
    weights: Path,
    tmp_path: Path,
    cases: Callable[[str, int], int],
    figure: Callable[[str, str], None],
) -> None:
    """Every attempt is the first one again: pass^8 is pass^1. ``scripts/bars`` alone runs it."""
    if "BARS" not in os.environ:
        pytest.skip("it takes minutes; scripts/bars runs it")
    requests, runs = cases("G26w", 4), 2

    made = [
        transcript(weights, requests, world, tmp_path / f"cache{n}", tmp_path)
        for n, world in enumerate(WORLDS[:runs])
    ]

    assert len(set(made)) == 1, made
    figure("G26w", f"default model: {requests} requests, {runs} processes: 1 transcript")
