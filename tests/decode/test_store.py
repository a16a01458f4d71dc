"""The KV cache on disk: nothing that is not exactly what was written is ever used."""

from __future__ import annotations

import json
import os
import random
import resource
import signal
import stat
import struct
import subprocess
import sys
import warnings
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import mlx.core as mx
import pytest

from mlx_tinyagent.decode import store as store_module
from mlx_tinyagent.decode.engine import Engine, EngineOptions
from mlx_tinyagent.decode.kv import SegmentKV
from mlx_tinyagent.decode.store import CacheWarning, KVStore
from mlx_tinyagent.models.language import LanguageModel
from mlx_tinyagent.tools.base import ToolSet
from tests.decode.tiny import QUERIES, TOOLSETS, constraint_for, identity, prompt_for

ROOT = Path(__file__).resolve().parents[2]
PATH, TOKENS = ["a" * 64, "b" * 64], [1, 2, 3]


def segment(seed: int = 0, *, dtype: mx.Dtype = mx.float32, tokens: int = 3) -> SegmentKV:
    """Return random KV of two layers."""
    keys = [mx.random.normal((1, 2, tokens, 4), key=mx.random.key(seed + i)) for i in range(4)]
    arrays = [array.astype(dtype) for array in keys]
    return SegmentKV(tuple(arrays[:2]), tuple(arrays[2:]))


def same(first: SegmentKV, second: SegmentKV) -> bool:
    """Whether two segments are equal bit for bit, number formats included."""
    pairs = zip((*first.keys, *first.values), (*second.keys, *second.values), strict=True)
    return all(a.dtype == b.dtype and a.shape == b.shape and mx.array_equal(a, b) for a, b in pairs)


@pytest.fixture
def store(tiny: LanguageModel, tmp_path: Path) -> KVStore:
    """A store in a folder that does not exist yet."""
    return KVStore(tmp_path / "deep" / "kv", tiny)


def file_of(store: KVStore, key: str) -> Path:
    """Return the file of a key."""
    return store.folder / f"{key}.safetensors"


def fresh(store: KVStore, tiny: LanguageModel) -> KVStore:
    """Return a store of the same folder that has not warned yet."""
    return KVStore(store.folder, tiny)


def refused(store: KVStore, key: str) -> bool:
    """Whether a file is not used; raises if that goes unsaid or is said twice."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        first, second = store.load(key), store.load(key)
    assert [w.category for w in caught] == ([CacheWarning] if first is None else [])
    assert (first is None) == (second is None)
    return first is None


# What is written comes back


@pytest.mark.parametrize("dtype", [mx.float32, mx.float16, mx.bfloat16])
def test_every_number_format_comes_back_bit_for_bit(store: KVStore, dtype: mx.Dtype) -> None:
    """The extremes of the format too."""
    kv = segment(dtype=dtype)
    odd = mx.array([[[[float("inf"), -0.0, 1e-40, 65504.0]] * 3] * 2]).astype(dtype)
    kv = SegmentKV((*kv.keys[:1], odd), kv.values)
    key = store.key(PATH, TOKENS)
    assert store.load(key) is None
    store.save(key, kv)
    loaded = store.load(key)
    assert loaded is not None
    assert same(loaded, kv)


def test_the_file_is_safetensors_for_the_owner_alone(store: KVStore) -> None:
    """Other programs can read it; other users cannot."""
    from safetensors.numpy import load_file

    key = store.key(PATH, TOKENS)
    store.save(key, segment())
    path = file_of(store, key)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert sorted(load_file(path)) == ["k.0", "k.1", "v.0", "v.1"]
    assert list(store.folder.iterdir()) == [path]  # no temporary file is left


def test_an_absent_file_is_no_reason_to_warn(store: KVStore) -> None:
    """The first run has none."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert store.load(store.key(PATH, TOKENS)) is None


# Damage


def flips(size: int, header: int, chance: random.Random) -> Iterator[tuple[int, int]]:
    """Yield places and bits: everywhere in length and start, and by chance all over the file."""
    for place in range(16):
        for bit in range(8):
            yield place, bit
    for region in (range(8, 8 + header), range(8 + header, size)):
        for _ in range(250):
            yield chance.choice(region), chance.randrange(8)


def test_every_flipped_bit_is_noticed(store: KVStore, tiny: LanguageModel) -> None:
    """628 flips in length, table, metadata, padding and data: all found, one warning each."""
    key = store.key(PATH, TOKENS)
    store.save(key, segment())
    path = file_of(store, key)
    raw = path.read_bytes()
    (header,) = struct.unpack("<Q", raw[:8])
    count = 0
    for place, bit in flips(len(raw), header, random.Random(0)):
        damaged = bytearray(raw)
        damaged[place] ^= 1 << bit
        path.write_bytes(damaged)
        assert refused(fresh(store, tiny), key), (place, bit)
        count += 1
    assert count == 628
    path.write_bytes(raw)
    assert not refused(fresh(store, tiny), key)


@pytest.mark.slow
def test_every_bit_of_a_file_is_watched(store: KVStore, tiny: LanguageModel) -> None:
    """All of them, one after the other."""
    key = store.key(PATH, TOKENS)
    one = mx.ones((1, 1, 1, 2))
    store.save(key, SegmentKV((one,), (one,)))
    path = file_of(store, key)
    raw = path.read_bytes()
    for place in range(len(raw)):
        for bit in range(8):
            damaged = bytearray(raw)
            damaged[place] ^= 1 << bit
            path.write_bytes(damaged)
            assert refused(fresh(store, tiny), key), (place, bit)


def test_a_file_of_another_length_is_noticed(store: KVStore, tiny: LanguageModel) -> None:
    """Empty, cut anywhere, or with something after its end."""
    key = store.key(PATH, TOKENS)
    store.save(key, segment())
    path = file_of(store, key)
    raw = path.read_bytes()
    for size in [0, 1, 7, 8, 9, *range(10, len(raw), 37), len(raw) - 1]:
        path.write_bytes(raw[:size])
        assert refused(fresh(store, tiny), key), size
    path.write_bytes(raw + b"\0")
    assert refused(fresh(store, tiny), key)


@pytest.mark.parametrize(
    "content",
    [
        b"null",
        b"3",
        b"[]",
        b'"text"',
        b"{}",
        b'{"__metadata__": 3}',
        b'{"__metadata__": {"key": 1}}',
        b'{"__metadata__": null, "k.0": null}',
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b"\xff\xfe\x00",
        b"NaN",
        b"9" * 10_000,
    ],
)
def test_any_header_is_survived(store: KVStore, tiny: LanguageModel, content: bytes) -> None:
    """JSON of every shape, and what is none."""
    key = store.key(PATH, TOKENS)
    store.folder.mkdir(parents=True)
    file_of(store, key).write_bytes(struct.pack("<Q", len(content)) + content)
    assert refused(fresh(store, tiny), key)


def test_a_table_that_does_not_fit_is_survived(store: KVStore, tiny: LanguageModel) -> None:
    """Even with the right key and checksum, as a faulty writer would leave them."""
    key = store.key(PATH, TOKENS)
    store.folder.mkdir(parents=True)
    good = {"dtype": "F32", "shape": [1, 1, 1, 1], "data_offsets": [0, 4]}
    tables: list[dict[str, Any]] = [
        {"k.0": good},
        {"k.0": good, "k.1": good},
        {"k.0": {**good, "dtype": "I64"}, "v.0": good},
        {"k.0": {**good, "shape": [1, 1, 1, 9]}, "v.0": good},
        {"k.0": {**good, "data_offsets": [0, 3]}, "v.0": good},
        {"k.0": {**good, "data_offsets": None}, "v.0": good},
        {"k.0": 3, "v.0": good},
    ]
    for table in tables:
        metadata = {"key": key, "digest": store_module._digest(table, b"\0" * 4)}
        header = json.dumps({"__metadata__": metadata, **table}).encode()
        raw = struct.pack("<Q", len(header)) + header + b"\0" * 4
        file_of(store, key).write_bytes(raw)
        assert refused(fresh(store, tiny), key), table


def test_what_is_no_plain_file_is_not_read(
    store: KVStore, tiny: LanguageModel, tmp_path: Path
) -> None:
    """A folder, a link to a good file, a link to nothing, a pipe."""
    key = store.key(PATH, TOKENS)
    store.save(key, segment())
    path = file_of(store, key)
    good = tmp_path / "good"
    path.rename(good)
    for make in (
        lambda: path.mkdir(),
        lambda: path.symlink_to(good),
        lambda: path.symlink_to(tmp_path / "nothing"),
        lambda: os.mkfifo(path),
    ):
        make()
        assert refused(fresh(store, tiny), key)
        path.rmdir() if path.is_dir() and not path.is_symlink() else path.unlink()
    path.symlink_to(good)
    before = good.read_bytes()
    fresh(store, tiny).save(key, segment(9))
    assert not path.is_symlink()  # the link is replaced, what it led to is not written
    assert good.read_bytes() == before


# Files made for something else


def test_everything_that_matters_is_in_the_key(
    tiny: LanguageModel, store: KVStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Weights, adapter, number format, packing, prompt format, libraries, text, tokens."""
    others = [
        replace(tiny, fingerprint="other"),
        replace(tiny, adapter_fingerprint="other"),
        replace(tiny, adapter_fingerprint="different"),
        replace(tiny, dtype="bfloat16"),
        replace(tiny, packed=True),
    ]
    keys = [KVStore(store.folder, model).key(PATH, TOKENS) for model in (tiny, *others)]
    keys += [
        store.key(["a" * 64, "c" * 64], TOKENS),
        store.key(PATH[:1], TOKENS),
        store.key([*PATH, "c"], TOKENS),
        store.key(PATH, [1, 2]),
        store.key(PATH, [1, 23]),
        store.key(PATH, [12, 3]),
    ]
    for name in ("mlx", "mlx-lm"):
        with monkeypatch.context() as patch:
            patch.setattr(store_module, "version", lambda n, name=name: "9" if n == name else "1")
            keys.append(KVStore(store.folder, tiny).key(PATH, TOKENS))
    for name in ("FORMAT", "_LAYOUT"):
        with monkeypatch.context() as patch:
            patch.setattr(store_module, name, "mlx-tinyagent/99")
            keys.append(KVStore(store.folder, tiny).key(PATH, TOKENS))
    assert len(set(keys)) == len(keys) == 16
    assert KVStore(store.folder, replace(tiny, name="renamed")).key(PATH, TOKENS) == keys[0]


def test_a_file_under_another_name_is_noticed(store: KVStore, tiny: LanguageModel) -> None:
    """A good file of one key, renamed or copied to another."""
    first, second = store.key(PATH, TOKENS), store.key(PATH, [4])
    store.save(first, segment())
    file_of(store, second).write_bytes(file_of(store, first).read_bytes())
    assert refused(fresh(store, tiny), second)
    assert not refused(fresh(store, tiny), first)


def test_a_segment_of_another_length_is_not_used(tiny: LanguageModel, store: KVStore) -> None:
    """Should the counts ever differ, the tiers compute anew."""
    prompt = prompt_for(tiny.tokenizer, QUERIES[0], TOOLSETS["one"])
    wanted = plan(Engine(tiny), TOOLSETS["one"])
    for tier in ("exact", "blocks"):
        ids = prompt.segments[0].encode(tiny.tokenizer)
        store.save(store.key([prompt.segments[0].digest], ids), segment())
        engine = Engine(tiny, store=store, options=EngineOptions(tier=tier))  # type: ignore[arg-type]
        if tier == "exact":
            assert plan(engine, TOOLSETS["one"]) == wanted
        else:
            other = Engine(tiny, options=EngineOptions(tier="blocks"))
            assert plan(engine, TOOLSETS["one"]) == plan(other, TOOLSETS["one"])


# The engine over a damaged, shared, full or read-only store


def plan(engine: Engine, tools: ToolSet, query: str = "????") -> tuple[int, ...]:
    """Write one plan; returns its tokens."""
    prompt = prompt_for(engine.model.tokenizer, query, tools)
    constraint = constraint_for(engine.model.tokenizer, query, tools)
    return engine.plan(prompt, constraint, max_tokens=3000).tokens


@pytest.mark.parametrize("tier", ["exact", "blocks"])
def test_damage_costs_one_warning_and_no_token(
    tiny: LanguageModel, store: KVStore, tier: str
) -> None:
    """Every file flipped: a cold run, one warning for all, and good files afterwards."""
    tools = TOOLSETS["linked"]
    options = EngineOptions(tier=tier)  # type: ignore[arg-type]
    wanted = plan(Engine(tiny, options=options), tools)
    assert plan(Engine(tiny, store=store, options=options), tools) == wanted
    files = sorted(store.folder.iterdir())
    assert len(files) == (1 if tier == "exact" else 6)
    chance = random.Random(0)
    for path in files:
        raw = bytearray(path.read_bytes())
        raw[chance.randrange(len(raw))] ^= 1 << chance.randrange(8)
        path.write_bytes(raw)
    with pytest.warns(CacheWarning, match="is not used") as caught:
        assert plan(Engine(tiny, store=fresh(store, tiny), options=options), tools) == wanted
    assert len(caught) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        again = Engine(tiny, store=fresh(store, tiny), options=options)
        assert plan(again, tools) == wanted
    assert sorted(store.folder.iterdir()) == files


def test_other_identities_run_cold_and_silently(tiny: LanguageModel, store: KVStore) -> None:
    """Another adapter's files are simply not found."""
    tools = TOOLSETS["one"]
    wanted = plan(Engine(tiny, store=store), tools)
    other = replace(tiny, adapter_fingerprint="other")
    engine = Engine(other, store=KVStore(store.folder, other))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert plan(engine, tools) == wanted
    assert len(list(store.folder.iterdir())) == 2


def test_a_place_that_cannot_be_written_costs_one_warning(
    tiny: LanguageModel, tmp_path: Path
) -> None:
    """A file where the folder should be, a file system that takes none; the plan is the same."""
    (tmp_path / "kv").write_text("in the way")
    tools = TOOLSETS["few"]
    options = EngineOptions(tier="blocks")
    wanted = plan(Engine(tiny, options=options), tools)
    for place in (
        tmp_path / "kv",
        Path("/proc/kv") if sys.platform == "linux" else tmp_path / "kv",
    ):
        engine = Engine(tiny, store=KVStore(place, tiny), options=options)
        with pytest.warns(CacheWarning, match="not kept on disk") as caught:
            assert plan(engine, tools) == wanted
        assert len(caught) == 1


@pytest.mark.skipif(os.geteuid() == 0, reason="the superuser writes into read-only folders")
def test_a_read_only_folder_costs_one_warning(tiny: LanguageModel, store: KVStore) -> None:
    """The plan is the same."""
    store.folder.mkdir(parents=True)
    store.folder.chmod(0o500)
    try:
        with pytest.warns(CacheWarning, match="permission denied") as caught:
            assert plan(Engine(tiny, store=store), TOOLSETS["one"]) == plan(
                Engine(tiny), TOOLSETS["one"]
            )
    finally:
        store.folder.chmod(0o700)
    assert len(caught) == 1


@pytest.mark.skipif(not hasattr(resource, "RLIMIT_FSIZE"), reason="no limit of file sizes here")
@pytest.mark.skipif(sys.platform == "win32", reason="no signals of this kind")
def test_a_full_disk_costs_one_warning(tiny: LanguageModel, store: KVStore) -> None:
    """No file may grow beyond a few bytes: nothing is left of what was begun."""
    wanted = plan(Engine(tiny), TOOLSETS["one"])
    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, old[1]))
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            tokens = plan(Engine(tiny, store=store), TOOLSETS["one"])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old)
        signal.signal(signal.SIGXFSZ, handler)
    assert [w.category for w in caught] == [CacheWarning]
    assert tokens == wanted
    assert list(store.folder.iterdir()) == []


# Other processes. They know no model: a store only needs its identity.

CHILD = """
import sys
from pathlib import Path
import mlx.core as mx
from mlx_tinyagent.decode.kv import SegmentKV
from mlx_tinyagent.decode.store import KVStore
from tests.decode.tiny import identity
store = KVStore(Path(sys.argv[1]), identity())
key = store.key(["p"], [1])
kv = SegmentKV(*(tuple(mx.full((1, 2, 512, 64), float(n)) for n in (1, 2)) for _ in range(2)))
print("ready", flush=True)
for _ in range(int(sys.argv[2])):
    store.save(key, kv)
    assert store.load(key) is not None
"""


def child(folder: Path, rounds: int) -> subprocess.Popen[str]:
    """Start a process that writes and reads one segment again and again."""
    command = [sys.executable, "-W", "error", "-c", CHILD, str(folder), str(rounds)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT)


def any_store(folder: Path) -> tuple[KVStore, str]:
    """Return the children's store and key."""
    store = KVStore(folder, identity())
    return store, store.key(["p"], [1])


@pytest.mark.slow
def test_writers_at_the_same_time_leave_one_good_file(tmp_path: Path) -> None:
    """Three processes write and read: none ever sees a half-written file."""
    children = [child(tmp_path / "kv", 40) for _ in range(3)]
    assert [process.wait(120) for process in children] == [0, 0, 0]
    store, key = any_store(tmp_path / "kv")
    assert not refused(store, key)
    assert [path.name for path in store.folder.iterdir()] == [f"{key}.safetensors"]


@pytest.mark.slow
def test_killed_while_writing_leaves_a_good_file_or_none(tmp_path: Path) -> None:
    """SIGKILL at ten moments: what is there can be used, and the next writer succeeds."""
    chance = random.Random(0)
    store, key = any_store(tmp_path / "kv")
    for _ in range(10):
        process = child(store.folder, 100_000)
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(chance.uniform(0.0, 0.1))
        process.kill()
        process.wait()
        process.stdout.close()
        reader, _ = any_store(store.folder)
        if file_of(reader, key).exists():
            assert not refused(reader, key)
    store.save(key, segment())
    loaded = store.load(key)
    assert loaded is not None
    assert same(loaded, segment())
