"""The generator on processors that are not at hand: what it asks of them, and that nothing falls to libm."""

from __future__ import annotations

import pytest
from compare import PROFILE
from test_threads import encoder

from rlxflow.backends.cpu.emit import emit
from rlxflow.backends.cpu.kernels.team_code import emit_team
from rlxflow.backends.cpu.llvm import compile_text, host_target
from rlxflow.backends.cpu.planner import make_plan
from rlxflow.backends.cpu.target import Target, choose

FEATURES = {"avx512f": True, "avx512vl": True, "avx512dq": True, "avx512bw": True, "avx2": True, "fma": True}


def test_the_widest_vector_unit_is_chosen() -> None:
    def named(**off: bool) -> Target:
        return choose("x86_64-linux-gnu", "cpu", {**FEATURES, **off})

    assert (named().name, named().panel) == ("avx512", 32)
    assert named(avx512vl=False).name == "avx2"
    assert "-avx512f" in named(avx512vl=False).features
    assert named(avx512f=False, fma=False).name == "vector128"
    assert not named(avx512f=False, fma=False).fma
    arm = choose("aarch64-unknown-linux-gnu", "neoverse-n1", {"neon": True})
    assert (arm.name, arm.lanes, arm.fma) == ("vector128", 4, True)


@pytest.mark.parametrize("width", [1, 16, 31, 32, 384, 1024, 1536, 4096])
def test_rows_hold_whole_panels_and_an_odd_number_of_lines(width: int) -> None:
    for name in ("avx512", "avx2", "vector128"):
        target = host_target(name)
        stride = target.row_stride(width)
        assert stride >= -(-width // target.panel) * target.panel and stride % 32 == 16


@pytest.mark.parametrize("triple", ["aarch64-unknown-linux-gnu", "arm64-apple-darwin"])
def test_arm_code_calls_nothing_but_the_system(triple: str, tmp_path: object) -> None:
    from llvmlite import binding

    binding.initialize_all_targets()
    binding.initialize_all_asmprinters()
    target = choose(triple, "generic", {"neon": True})
    allowed = {"syscall", "sched_yield", "usleep", "memset", "memcpy", "bzero"}
    for text in (emit(make_plan(encoder().graph, target, PROFILE.precision), target), emit_team(target)):
        machine = binding.Target.from_triple(triple).create_target_machine(
            cpu="generic", features="+neon", opt=2
        )
        assembly = machine.emit_assembly(binding.parse_assembly(text))
        called = {
            line.split()[1].lstrip("_") for line in assembly.splitlines() if line.strip().startswith("bl\t")
        }
        assert {c for c in called if not c.startswith("k") and not c.startswith("Lk")} <= allowed


def test_bad_text_is_named() -> None:
    from rlxflow.errors import BackendError

    with pytest.raises(BackendError) as caught:
        compile_text("define void @f() { ret i32 }", host_target())
    assert caught.value.code == "RLX-B007"
