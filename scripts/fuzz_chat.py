"""Types damaged requests and commands into a chat with real weights; counts what broke.

    .venv/bin/python scripts/fuzz_chat.py --lines 50

The chat is the real command in a process of its own, on a made-up world in a
folder of its own; the model is the one that is already on this machine. Lines
are the hand-written requests, whole or damaged, commands, and what no person
types. Exit code 1 if there was a traceback, a crash report or another end than
a proper one. The same seed types the same lines.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
REQUESTS = ROOT / "data" / "handwritten" / "tune.jsonl"
COMMANDS = ("/help", "/tools", "/plan", "/why", "/undo", "/retry", "/stats", "/trace", "/new", "/x")
JUNK = (
    *("\x00", "\x1b[2J", "\u202e", "\ud800", "\U0001f4a5" * 50, "'; DROP TABLE notes; --"),
    *(
        "${1} $2",
        "<|im_end|>",
        "1. join()",
        "(" * 300,
        '"',
        "%s %n {0}",
        "a" * 5_000,
        "\u65e5\u672c",
    ),
    *("make it 4pm", "and invite Tom", "cancel it", "2", "join()", "../../etc/passwd"),
)


def damaged(rng: random.Random, text: str) -> str:
    """Return a request with letters lost, doubled or swapped, words mixed, or junk put in."""
    match rng.randrange(4):
        case 0:
            return "".join(char for char in text if rng.random() > 0.15)
        case 1:
            return "".join(char * rng.choice((1, 1, 1, 2, 3)) for char in text)
        case 2:
            words = text.split()
            rng.shuffle(words)
            return " ".join(words)
    place = rng.randrange(len(text) + 1)
    return f"{text[:place]} {rng.choice(JUNK)} {text[place:]}"


def lines(rng: random.Random, requests: Sequence[str], count: int) -> Iterator[str]:
    """Yield what is typed: three in four are requests, half of them damaged."""
    for _ in range(count):
        kind = rng.random()
        request = rng.choice(requests)
        if kind < 0.375:
            yield request
        elif kind < 0.75:
            yield damaged(rng, request)
        elif kind < 0.875:
            yield f"{rng.choice(COMMANDS)} {rng.choice(('', '1', 'send_sms', rng.choice(JUNK)))}"
        else:
            yield rng.choice(JUNK)


def main() -> int:
    """Type, wait, count."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--lines", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--model", default="smollm2-135m", help="alias or folder")
    parser.add_argument("--minutes", type=float, default=60, help="ends it, as a failure")
    given = parser.parse_args()

    from mlx_tinyagent.models.registry import local_path

    model = local_path(given.model)
    if model is None:
        parser.error(f"{given.model} is not on this machine; mlx-tinyagent models pull fetches it")
    requests = [json.loads(line)["query"] for line in REQUESTS.read_text().splitlines()]
    rng = random.Random(given.seed)
    typed = [line.replace("\n", " ") for line in lines(rng, requests, given.lines)]
    program = [sys.executable, "-m", "mlx_tinyagent"]
    with tempfile.TemporaryDirectory() as home:
        environment = {**os.environ, "MLX_TINYAGENT_HOME": home, "NO_COLOR": "1"}
        subprocess.run([*program, "demo-data"], env=environment, check=True, capture_output=True)
        started = time.monotonic()
        try:
            done = subprocess.run(
                [*program, "chat", "--model", str(model)],
                input="\n".join([*typed, '"""', "/quit", "/quit", ""]).encode(
                    errors="surrogatepass"
                ),
                env=environment,
                capture_output=True,
                timeout=60 * given.minutes,
                check=False,
            )
        except subprocess.TimeoutExpired:
            print(f"not done after {given.minutes:g} minutes")
            return 1
        seconds = time.monotonic() - started
        crashes = len(list(Path(home).glob("**/crashes/*")))
    said = done.stderr.decode("utf-8", "replace")
    broken = said.count("Traceback") + said.count("internal error") + crashes
    print(
        f"{len(typed)} lines, seed {given.seed}: {broken} tracebacks, exit code {done.returncode}, "
        f"{seconds:.0f} s, {said.count('prompt tokens computed')} plans"
    )
    return int(bool(broken) or done.returncode != 0)


if __name__ == "__main__":
    sys.exit(main())
