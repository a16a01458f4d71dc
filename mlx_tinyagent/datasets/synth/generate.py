"""Runs the generator: shards, workers, progress, resuming, files that do not depend on them.

Every example has its own random numbers, made from seed, split and position,
so the files are the same for any number of workers and after any interruption.
"""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime, timedelta
from functools import lru_cache
from pathlib import Path
from random import Random
from typing import Any

from mlx_tinyagent.datasets.dedupe import Known, fingerprint
from mlx_tinyagent.datasets.jsonl import read_objects, write_lines
from mlx_tinyagent.datasets.record import Example, parse_example
from mlx_tinyagent.datasets.synth.derive import VERSION, books_for
from mlx_tinyagent.datasets.synth.scene import execute, failures
from mlx_tinyagent.datasets.synth.strata import KINDS, STRATA, Draft, Stratum, Studio
from mlx_tinyagent.errors import InputError, PlanError, UsageError
from mlx_tinyagent.files import atomic_write
from mlx_tinyagent.tools.base import ToolSet

FORMAT = "synth/1"  # any change of what a seed gives bumps it
SHARD = 500  # examples per shard
SPARE = 1.3  # drafts per wanted example: some repeat others
TRIES = 60  # drafts per example before the tool set is given up
LICENCE = "Apache-2.0"
SPLITS = ("test", "valid", "train")  # in this order, so that the small ones keep their examples

Progress = Callable[[int, int], None]  # examples made, examples wanted


@dataclass(frozen=True, slots=True, kw_only=True)
class SynthConfig:
    """What to generate. Written beside the data; holds no path, time or host name.

    Attributes:
        seed: Seed of everything.
        count: Rows of the training file.
        valid: Rows of the validation file.
        test: Rows of the test file.
        shares: Share of each stratum; None for what suits the tool set.
        mined: Digest of the mined phrases that were used; empty if none.
    """

    seed: int
    count: int
    valid: int = 1_000
    test: int = 1_000
    shares: Mapping[Stratum, float] | None = None
    mined: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Mined:
    """Phrases taken from people's commands; see ``synth.mine``.

    Attributes:
        templates: Short templates per tool.
        lexicons: Entries per word list.
    """

    templates: Mapping[str, Sequence[str]] = field(default_factory=dict)
    lexicons: Mapping[str, Sequence[str]] = field(default_factory=dict)

    def digest(self) -> str:
        """Return a sha256 of the phrases; empty if there are none."""
        if not self.templates and not self.lexicons:
            return ""
        text = json.dumps([dict(self.templates), dict(self.lexicons)], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()


@dataclass(frozen=True, slots=True, kw_only=True)
class SynthReport:
    """What was generated.

    Attributes:
        rows: Rows per file.
        repeated: Drafts left out because an earlier example, or one of another
            split, says the same.
    """

    rows: Mapping[str, int]
    repeated: int


def synthesize(
    out: Path,
    tools: ToolSet,
    config: SynthConfig,
    *,
    mined: Mined | None = None,
    workers: int = 1,
    progress: Progress | None = None,
) -> SynthReport:
    """Write ``train.jsonl``, ``valid.jsonl``, ``test.jsonl`` and ``config.json``.

    An interrupted run leaves its shards under ``.shards`` and goes on from
    there; a run with another configuration starts anew. Memory does not grow
    with the number of examples, but for a fingerprint of each (16 bytes).

    Args:
        out: Folder; made if missing.
        tools: Any tool set.
        config: What to generate.
        mined: Phrases to use beside the packaged ones.
        workers: Processes; the files do not depend on it.
        progress: Told how far the run is.

    Raises:
        UsageError: A count or a share makes no sense.
        InputError: The tool set gives too few different examples.
        StoreError: The file system refuses.
    """
    _check(config, tools)
    mined = mined or Mined()
    shards = _shard_folder(out, tools, config, mined)
    seen: set[bytes] = set()
    repeated = 0
    rows: dict[str, int] = {}
    wanted = {"test": config.test, "valid": config.valid, "train": config.count}
    maker = _Maker(tools, config, mined, shards, workers, progress, sum(wanted.values()))
    held: list[str] = []  # requests of the splits that training must not show
    with maker:
        for split in SPLITS:
            path = out / f"{split}.jsonl"
            merge = _Merge(split, wanted[split], config.seed, seen, Known(held))
            rows[split] = write_lines(path, merge.lines(maker.shards(split, wanted[split])))
            repeated += merge.repeated
            held += merge.queries if split != "train" else ()
    atomic_write(out / "config.json", json.dumps(_written(tools, config), indent=2) + "\n")
    shutil.rmtree(shards.parent)
    return SynthReport(rows=rows, repeated=repeated)


def _check(config: SynthConfig, tools: ToolSet) -> None:
    counts = {"count": config.count, "valid": config.valid, "test": config.test}
    for name, value in counts.items():
        if not 0 <= value <= 10_000_000:
            raise UsageError(f"{name} is {value}; it can be 0 to 10,000,000")
    for name, share in (config.shares or {}).items():
        if name not in STRATA or not 0 <= share <= 1:
            raise UsageError(f"share {name}={share}: strata are {', '.join(STRATA)}, shares 0 to 1")
    if config.shares is not None and sum(config.shares.values()) <= 0:
        raise UsageError("all shares are 0; at least one stratum is needed")
    if not len(tools):
        raise UsageError(f"the tool set {tools.name} is empty; there is nothing to ask for")


def _written(tools: ToolSet, config: SynthConfig) -> dict[str, Any]:
    """Return what ``config.json`` holds."""
    return {
        "format": FORMAT,
        **asdict(config),
        "shares": dict(Studio(tools).shares if config.shares is None else config.shares),
        "tool_set": tools.name,
        "tools": {tool.name: tool.fingerprint() for tool in tools},
        **({"wording": VERSION} if any(b.derived for b in books_for(tools).values()) else {}),
    }


def _shard_folder(out: Path, tools: ToolSet, config: SynthConfig, mined: Mined) -> Path:
    """Return the folder of this very run's shards; those of another run are removed."""
    identity = json.dumps([_written(tools, config), mined.digest()], sort_keys=True)
    name = hashlib.sha256(identity.encode()).hexdigest()[:16]
    root = out / ".shards"
    for other in root.glob("*"):
        if other.name != name:
            shutil.rmtree(other)
    return root / name


class _Merge:
    """Takes examples in order, drops repeated ones and leaks, numbers the rest."""

    def __init__(self, split: str, wanted: int, seed: int, seen: set[bytes], held: Known) -> None:
        self.split, self.wanted, self.seed, self.seen = split, wanted, seed, seen
        self.held = held
        self.repeated = 0
        self.queries: list[str] = []

    def lines(self, shards: Iterator[Path]) -> Iterator[str]:
        taken = 0
        if not self.wanted:
            return
        for path in shards:
            for line in read_objects(path):
                example = parse_example(line)
                key = fingerprint(example)
                if key in self.seen or self.held.closest(example.query) is not None:
                    self.repeated += 1
                    continue
                self.seen.add(key)
                if self.split != "train":
                    self.queries.append(example.query)
                record = {**example.as_dict(), "id": f"synth-{self.seed}-{self.split}-{taken}"}
                yield json.dumps(record, ensure_ascii=False)
                taken += 1
                if taken == self.wanted:
                    return
        raise InputError(
            f"{self.split}: only {taken} of {self.wanted} examples differ; "
            "ask for fewer, or for a larger tool set"
        )


class _Maker:
    """Makes shards in worker processes, in order, each only once."""

    def __init__(
        self,
        tools: ToolSet,
        config: SynthConfig,
        mined: Mined,
        folder: Path,
        workers: int,
        progress: Progress | None,
        total: int,
    ) -> None:
        self.job = (tools, config, mined, folder)
        self.folder, self.workers = folder, workers
        self.progress, self.total, self.made = progress, total, 0.0
        self.pool: Any = None

    def __enter__(self) -> _Maker:
        self.folder.mkdir(parents=True, exist_ok=True)
        if self.workers > 1:
            # Forked, since tools hold functions that cannot be pickled; nothing here
            # loads MLX or another library that does not survive a fork.
            context = multiprocessing.get_context("fork")
            global _JOB
            _JOB = self.job
            self.pool = context.Pool(self.workers)
        return self

    def __exit__(self, *_: object) -> None:
        if self.pool is not None:
            self.pool.terminate()
            self.pool.join()

    def shards(self, split: str, wanted: int) -> Iterator[Path]:
        """Yield a split's shards; further ones than expected only while they are asked for."""
        first = -(-int(wanted * SPARE + 1) // SHARD)
        numbers = [(split, number) for number in range(first)]
        if self.pool is not None:
            results = self.pool.imap(_pooled_shard, numbers)
        else:
            results = (_shard(self.job, *item) for item in numbers)
        for path in results:
            self._tell(SHARD / SPARE, wanted)
            yield path
        for number in range(first, first * 4 + 4):
            yield _shard(self.job, split, number)

    def _tell(self, made: float, wanted: int) -> None:
        self.made = min(self.made + made, self.total)
        if self.progress is not None:
            self.progress(int(self.made), self.total)


_JOB: tuple[ToolSet, SynthConfig, Mined, Path] | None = None


def _pooled_shard(item: tuple[str, int]) -> Path:
    """Make one shard in a worker; the job came with the fork."""
    if _JOB is None:
        raise RuntimeError("the worker was started without a job")
    return _shard(_JOB, *item)


def _shard(job: tuple[ToolSet, SynthConfig, Mined, Path], split: str, number: int) -> Path:
    """Write one shard, unless an earlier run has."""
    tools, config, mined, folder = job
    path = folder / f"{split}-{number:06d}.jsonl"
    if not path.exists():
        studio = _studio(tools, mined)
        first, wanted = number * SHARD, _wanted(config, split)
        last = first + SHARD
        if first < wanted < last:  # the last of the expected shards is not longer than needed
            last = wanted
        examples = (make(studio, config, split, position) for position in range(first, last))
        write_lines(path, (example.to_line() for example in examples))
    return path


def _wanted(config: SynthConfig, split: str) -> int:
    """Return how many drafts a split is expected to need."""
    rows = {"train": config.count, "valid": config.valid, "test": config.test}[split]
    return int(rows * SPARE + 1)


@lru_cache(maxsize=2)
def _studio_of(key: tuple[int, int]) -> Studio:
    tools, mined = _KEPT[key]
    return Studio(tools, mined.templates, mined.lexicons)


_KEPT: dict[tuple[int, int], tuple[ToolSet, Mined]] = {}


def _studio(tools: ToolSet, mined: Mined) -> Studio:
    key = (id(tools), id(mined))
    _KEPT[key] = (tools, mined)
    return _studio_of(key)


def make(studio: Studio, config: SynthConfig, split: str, position: int) -> Example:
    """Make the example at one position of a split: drafted, checked, executed.

    Args:
        studio: Makes drafts.
        config: Seed and shares.
        split: Name of the split.
        position: Number in the split.

    Raises:
        InputError: No draft passed; the tool set does not allow such examples.
    """
    rng = Random(f"{FORMAT}|{config.seed}|{split}|{position}")
    shares = studio.shares if config.shares is None else config.shares
    names = [name for name in STRATA if shares.get(name, 0) > 0]
    weights = [shares[name] for name in names]
    stratum: Stratum = rng.choices(names, weights)[0]
    now = _moment(rng)
    for attempt in range(TRIES):
        if attempt == TRIES // 2:  # the tool set may not allow this stratum
            stratum = rng.choices(names, weights)[0]
        draft = studio.draft(stratum, rng)
        if draft is not None and passes(draft, studio.tools, now):
            return _example(draft, studio.tools, now, rng, position)
    raise InputError(
        f"no {stratum} example passed in {TRIES} tries; the tool set {studio.tools.name} "
        "has no phrases for it"
    )


def passes(draft: Draft, tools: ToolSet, now: datetime) -> bool:
    """Whether a draft's plan is valid and every step of it succeeds when it is run."""
    if not draft.query.strip() or len(draft.query) > 1_000:
        return False
    if not draft.calls:
        return draft.stratum in ("ask", "near", "far")
    try:
        return not failures(execute(draft.calls, tools, query=draft.query, now=now))
    except PlanError:
        return False


def _example(draft: Draft, tools: ToolSet, now: datetime, rng: Random, position: int) -> Example:
    return Example(
        id=str(position),
        query=draft.query,
        now=now.isoformat(),
        history=draft.history,
        tools=offered(draft, tools, rng),
        plan=draft.calls,
        ask=draft.ask,
        source=f"synth/{draft.stratum}",
        licence=LICENCE,
        kind=KINDS[draft.stratum],
    )


def offered(draft: Draft, tools: ToolSet, rng: Random) -> tuple[str, ...]:
    """Choose the tools on offer: those the plan needs and some others, in the set's order."""
    needed = {call.tool for call in draft.calls} | set(draft.about)
    names = set(tools.closure(needed).names)
    rest = [name for name in tools.names if name not in names]
    if rng.random() < 0.3 and len(tools) <= 24:
        return tools.names
    fewest = 0 if names else min(3, len(rest))
    names |= set(rng.sample(rest, min(len(rest), rng.randint(fewest, 7))))
    return tools.subset(names).names


def _moment(rng: Random) -> datetime:
    """Choose when the request is made: any day of four years, in waking hours."""
    day = datetime(2024, 1, 1) + timedelta(days=rng.randrange(4 * 365))
    return day.replace(hour=rng.randint(7, 21), minute=rng.randrange(0, 60, 5))
