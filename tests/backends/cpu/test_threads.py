"""Threads: the same bits at any count, several callers, forks, idle processors, the way out."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from compare import Array, Program, lengths_mask, rand

from rlxflow.backends.cpu.backend import CpuBackend
from rlxflow.backends.cpu.executable import CpuExecutable
from rlxflow.backends.cpu.regions import FUSIONS
from rlxflow.backends.cpu.team import THREADS_VARIABLE, thread_count
from rlxflow.dtypes import f32, i64
from rlxflow.errors import BackendError
from rlxflow.ir.dims import dim
from rlxflow.ir.values import Value
from rlxflow.ops.activation import gelu
from rlxflow.ops.attention import attention
from rlxflow.ops.elementwise import add
from rlxflow.ops.linear import linear
from rlxflow.ops.norm import layer_norm
from rlxflow.ops.pooling import mean_pool
from rlxflow.ops.shape import reshape
from rlxflow.profile.load import load_profile

WIDTH, HEADS = 40, 4


def encoder() -> Program:
    """Two post-norm layers."""
    rng = np.random.default_rng(0)
    params = {
        f"{layer}.{n}": rand(rng, *s, scale=0.2)
        for layer in range(2)
        for n, s in {"q": (WIDTH, WIDTH), "k": (WIDTH, WIDTH), "v": (WIDTH, WIDTH), "up": (100, WIDTH),
                     "down": (WIDTH, 100), "bias": (100,), "g": (WIDTH,)}.items()
    }  # fmt: skip
    heads = (dim("B"), dim("S"), HEADS, WIDTH // HEADS)

    def build(v: Mapping[str, Value], p: Mapping[str, Value]) -> Mapping[str, Value]:
        x = v["x"]
        for layer in range(2):
            q, k, value = (reshape(linear(x, p[f"{layer}.{n}"]), shape=heads) for n in "qkv")
            context = reshape(attention(q, k, value, v["mask"], scale=0.3), shape=x.shape)
            x = layer_norm(add(x, context), p[f"{layer}.g"], eps=1e-5)
            hidden = gelu(add(linear(x, p[f"{layer}.up"]), p[f"{layer}.bias"]))
            x = layer_norm(add(x, linear(hidden, p[f"{layer}.down"])), p[f"{layer}.g"], eps=1e-5)
        return {"tokens": x, "pooled": mean_pool(x, v["mask"])}

    return Program(build, {"x": (("B", "S", WIDTH), f32), "mask": (("B", "S"), i64)}, params)


def inputs_of(rng: np.random.Generator, batch: int, size: int) -> dict[str, Array]:
    lengths = tuple(int(n) for n in rng.integers(0, size + 1, batch))
    return {"x": rand(rng, batch, size, WIDTH), "mask": lengths_mask(lengths, size, left=bool(batch % 2))}


@pytest.fixture(scope="module")
def program() -> Program:
    return encoder()


@pytest.fixture(scope="module")
def teams(program: Program) -> dict[int, CpuExecutable]:
    return {
        n: program.compile(checked=False, profile=load_profile("exact", [f"backend.cpu.threads={n}"]))
        for n in (1, 2, 3)
    }


def same(a: Mapping[str, Array], b: Mapping[str, Array]) -> bool:
    return all(np.array_equal(a[n], b[n]) for n in a)


def test_any_number_of_threads_gives_the_same_bits(teams: dict[int, CpuExecutable]) -> None:
    """Random shapes; chunks of their own and chunks in common; no shape compiles anything."""
    rng = np.random.default_rng(7)
    for _ in range(150):
        inputs = inputs_of(rng, int(rng.integers(1, 9)), int(rng.integers(1, 130)))
        one, two, three = (teams[n](inputs) for n in (1, 2, 3))
        assert same(one, two) and same(one, three)
        row = int(rng.integers(len(inputs["x"])))
        alone = teams[2]({n: a[row : row + 1] for n, a in inputs.items()})
        assert np.array_equal(alone["pooled"][0], one["pooled"][row])


def test_unfused_regions_give_the_same_bits(program: Program, teams: dict[int, CpuExecutable]) -> None:
    alone = program.compile(profile=load_profile("exact", ["backend.cpu.unfuse_regions=true"]))
    assert len(alone.steps) > len(teams[1].steps)
    inputs = inputs_of(np.random.default_rng(4), 3, 21)
    assert same(alone(inputs), teams[1](inputs))


@pytest.mark.parametrize("fusion", FUSIONS)
def test_each_fusion_can_be_left_out(program: Program, teams: dict[int, CpuExecutable], fusion: str) -> None:
    backend = CpuBackend(checked=True, apart=(fusion,))
    alone = backend.compile(program.graph, program.weights, load_profile("exact"))
    inputs = inputs_of(np.random.default_rng(5), 3, 21)
    assert same(alone(inputs), teams[1](inputs))


def test_empty_batches_and_sequences(program: Program, teams: dict[int, CpuExecutable]) -> None:
    for batch, size in ((0, 4), (3, 0), (1, 0), (0, 0)):
        inputs = {"x": np.zeros((batch, size, WIDTH), np.float32), "mask": np.zeros((batch, size), np.int64)}
        want = program.reference(inputs)
        assert same(teams[1](inputs), want) and same(teams[2](inputs), want)


def test_checked_with_threads(program: Program) -> None:
    run = program.compile(profile=load_profile("exact", ["backend.cpu.threads=2"]))
    rng = np.random.default_rng(8)
    for batch, size in ((1, 1), (1, 40), (5, 30)):
        inputs = inputs_of(rng, batch, size)
        got, want = run(inputs), program.reference(inputs)
        assert all(np.abs(got[n] - want[n]).max() < 1e-5 for n in want)


def test_two_callers_at_once(teams: dict[int, CpuExecutable]) -> None:
    rng = np.random.default_rng(9)
    work = [inputs_of(rng, 1 + i % 4, 20 + i) for i in range(12)]
    want = [teams[1](w) for w in work]
    wrong: list[int] = []

    def caller() -> None:
        for _ in range(10):
            wrong.extend(i for i, w in enumerate(work) if not same(teams[2](w), want[i]))

    callers = [threading.Thread(target=caller) for _ in range(3)]
    for thread in callers:
        thread.start()
    for thread in callers:
        thread.join()
    assert not wrong


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")
def test_a_forked_child_starts_its_own_threads(teams: dict[int, CpuExecutable]) -> None:
    inputs = inputs_of(np.random.default_rng(3), 3, 33)
    want = teams[2](inputs)
    child = os.fork()
    if child == 0:
        os._exit(0 if same(teams[2](inputs), want) else 1)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0
    assert same(teams[2](inputs), want)


def told_of_workers() -> list[str]:
    """Of each thread of a team, its state and how often it was switched to, as Linux tells them."""
    ids = [thread.native_id for thread in threading.enumerate() if thread.name.startswith("rlxflow-")]
    lines = [line for i in ids for line in Path(f"/proc/self/task/{i}/status").read_text().splitlines()]
    return [line for line in lines if line.startswith("State:") or "ctxt_switches" in line]


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="the system tells nothing of threads")
def test_an_idle_team_sleeps(teams: dict[int, CpuExecutable]) -> None:
    """Of 60 whiles there is one in which none runs: not with one that spins, or looks now and then."""
    teams[3](inputs_of(np.random.default_rng(3), 1, 9))
    for _ in range(60):
        before = told_of_workers()
        time.sleep(0.3)
        if told_of_workers() == before and before.count("State:\tS (sleeping)") * 3 == len(before) >= 6:
            return
    pytest.fail("\n".join(before))


def test_the_variable_wins_over_the_profile(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(THREADS_VARIABLE, raising=False)
    assert thread_count(5) == 5 and thread_count(0) >= 1
    monkeypatch.setenv(THREADS_VARIABLE, "3")
    assert thread_count(5) == 3
    for bad in ("0", "-1", "two", "1e3", "99999"):
        monkeypatch.setenv(THREADS_VARIABLE, bad)
        with pytest.raises(BackendError) as caught:
            thread_count(1)
        assert caught.value.code == "RLX-B008"


def test_a_process_ends_with_and_without_an_interrupt(tmp_path: Path) -> None:
    """Leaving while workers sleep, and Ctrl-C in the middle of a long call: nothing hangs."""
    script = tmp_path / "run.py"
    script.write_text(
        textwrap.dedent(
            f"""
            import sys, signal, threading, os, time
            sys.path[:0] = {[str(Path(__file__).parent), *sys.path]!r}
            import numpy as np
            from test_threads import encoder, inputs_of
            from rlxflow.profile.load import load_profile
            run = encoder().compile(checked=False, profile=load_profile("exact", ["backend.cpu.threads=2"]))
            small = inputs_of(np.random.default_rng(0), 2, 20)
            want = run(small)
            big = inputs_of(np.random.default_rng(0), 600, 100)
            threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGINT)).start()
            try:
                while True:
                    run(big)
            except KeyboardInterrupt:
                print("interrupted", np.array_equal(run(small)["pooled"], want["pooled"]))
            """
        )
    )
    ended = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=60)
    assert (ended.returncode, ended.stdout.strip()) == (0, "interrupted True"), ended.stderr
