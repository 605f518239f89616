"""Many calls of many shapes on one model: nothing is compiled again, bits never change, memory stays."""

from __future__ import annotations

import gc
import re
import sys
from pathlib import Path

import numpy as np
import pytest
from compare import Array, lengths_mask
from test_threads import Program, encoder, same

from rlxflow.backends.cpu import backend, object_cache
from rlxflow.backends.cpu.executable import CpuExecutable
from rlxflow.profile.load import load_profile

WIDTH = 40


@pytest.fixture(scope="module")
def teams() -> dict[int, CpuExecutable]:
    program: Program = encoder()
    return {
        n: program.compile(checked=False, profile=load_profile("exact", [f"backend.cpu.threads={n}"]))
        for n in (1, 2, 3)
    }


@pytest.fixture(autouse=True)
def nothing_is_compiled(teams: dict[int, CpuExecutable], monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> bytes:
        raise AssertionError("compiled again")

    monkeypatch.setattr(backend, "compile_text", refuse)
    monkeypatch.setattr(object_cache, "cached_code", refuse)


def random_call(rng: np.random.Generator) -> dict[str, Array]:
    batch, tokens = int(rng.integers(1, 7)), int(rng.integers(1, 60))
    lengths = tuple(int(n) for n in rng.integers(0, tokens + 1, batch))
    mask = lengths_mask(lengths, tokens, left=bool(rng.integers(2)))
    return {"x": rng.standard_normal((batch, tokens, WIDTH)).astype(np.float32), "mask": mask}


def test_a_thousand_random_shapes(teams: dict[int, CpuExecutable]) -> None:
    """Any number of threads gives the same bits; so does a sequence alone, without its padding."""
    rng = np.random.default_rng(0)
    for number in range(1000):
        call = random_call(rng)
        got = teams[1](call)
        other = teams[2 + number % 2](call)
        assert same(got, other), number
        row = int(rng.integers(len(call["x"])))
        valid = np.flatnonzero(call["mask"][row])
        if len(valid) == 0:
            assert not got["pooled"][row].any()
            continue
        span = slice(valid[0], valid[-1] + 1)
        alone = teams[1]({n: a[row : row + 1, span] for n, a in call.items()})
        assert np.array_equal(alone["tokens"][0], got["tokens"][row, span]), number
        assert np.array_equal(alone["pooled"][0], got["pooled"][row]), number


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
@pytest.mark.parametrize("threads", [1, 2])
def test_ten_thousand_calls_hold_no_more_memory(threads: int, teams: dict[int, CpuExecutable]) -> None:
    rng = np.random.default_rng(1)
    calls = [random_call(rng) for _ in range(50)]

    def many(count: int) -> int:
        for number in range(count):
            teams[threads](calls[number % len(calls)])
        gc.collect()
        found = re.search(r"RssAnon:\s+(\d+) kB", Path("/proc/self/status").read_text())
        assert found
        return int(found[1])

    before = many(1000)
    assert many(10_000) - before < 8192  # kB; results that were kept would be 200 MB


def test_calls_keep_no_objects(teams: dict[int, CpuExecutable]) -> None:
    rng = np.random.default_rng(2)
    calls = [random_call(rng) for _ in range(20)]
    for call in calls:
        teams[2](call)
    gc.collect()
    before = sys.getallocatedblocks()
    for number in range(1000):
        teams[2](calls[number % len(calls)])
    gc.collect()
    assert sys.getallocatedblocks() - before < 500  # one object a call would be 1000
