"""Activations as int8: every layout on every target, bit for bit what NumPy makes of the formula."""

from __future__ import annotations

import ctypes
from collections.abc import Callable

import numpy as np
import pytest
from compare import TARGETS, Array, blocks_of_32, in_k_blocks

from rlxflow.backends.cpu.checked import emit_controls
from rlxflow.backends.cpu.checked_call import CheckedCalls
from rlxflow.backends.cpu.code import PTR, Code, Module, Value
from rlxflow.backends.cpu.frame import Frame
from rlxflow.backends.cpu.kernels.dot import dot2, dot4
from rlxflow.backends.cpu.kernels.quantise import Quantise, quantise_kernel
from rlxflow.backends.cpu.llvm import LoadedCode, compile_text, host_target
from rlxflow.backends.cpu.memory import address, aligned
from rlxflow.backends.cpu.quantised import Quantised32, Quantised64, QuantisedK

targets = pytest.mark.parametrize("target", TARGETS)


def hadamard(x: Array) -> Array:
    """H·x of every row, in f32: its halves summed and subtracted, and so on."""
    if x.shape[1] == 1:
        return x
    first, second = np.split(x, 2, axis=1)
    return np.hstack([hadamard(first + second), hadamard(first - second)])


def in_blocks_of_64(x: Array) -> list[tuple[Array, Array, Array]]:
    """Of every block: its scale and that of its group [rows, 1], and q - 128. See `Quantised64`."""
    found = []
    for k in range(0, x.shape[1], 128):
        parts = np.split(x[:, k : k + 128], [64], axis=1)
        blocks = [hadamard(b) if b.shape[1] == 64 else b for b in parts if b.shape[1]]
        tops = [np.abs(b).max(1, keepdims=True) for b in blocks]
        top = np.maximum(np.max(tops, 0), np.float32(1e-30))
        scale = top * np.float32(1 / 127)
        for block, own in zip(blocks, tops, strict=True):
            with np.errstate(divide="ignore"):
                steps = np.minimum(np.floor(np.log2(top.astype(np.float64) / own)), 16)
            power = (2.0**steps).astype(np.float32)
            number = np.rint(block * (np.float32(127) / top * power))
            found.append((scale / power, scale, number))
    return found


@targets
@pytest.mark.parametrize("depth", [1, 5, 16, 47, 64, 127, 130, 192, 256, 512, 557])
def test_rows_in_blocks_of_64(depth: int, target: str) -> None:
    layout = Quantised64()
    rng = np.random.default_rng(depth)
    x = aligned((6, depth))
    x[:] = rng.standard_normal(x.shape) * 10.0 ** rng.integers(-6, 6, (6, 1))
    x *= 10.0 ** -np.repeat(rng.integers(0, 6, (6, depth // 64 + 1)), 64, axis=1)[:, :depth]
    x[2], x[3, : depth // 2], x[4] = 0, 0, 3.5
    out = aligned((6, layout.row_words(depth)), np.uint32)
    run_kernel(Quantise(layout, depth, depth, out.shape[1], "token"), x, out, target)
    unit, blocks = out[:, :1].view(np.float32), in_blocks_of_64(x)
    mantissas = [2 * np.frexp(group)[0] for _, group, _ in blocks]
    least = np.frexp(np.max([group for _, group, _ in blocks], 0))[1] - 17
    assert np.array_equal(unit, np.ldexp(mantissas[-1], least))
    before = np.float32(1)
    for number, (scale, _, q) in enumerate(blocks):
        found = out[:, 1 + 18 * number : 19 + 18 * number]
        power, mantissa = found[:, :1].view(np.int32), mantissas[number]
        assert np.array_equal(power, np.maximum(np.frexp(scale)[1] - 1 - least, 0) << 23)
        if number % 2 == 0:
            assert np.array_equal(found[:, 1:2].view(np.float32), before / mantissa)
            before = mantissa
        codes = np.ascontiguousarray(found[:, 2:]).view(np.uint8)
        assert np.array_equal(codes[:, : q.shape[1]] - 128.0, q) and np.abs(q).max() <= 127


def one_sided(rng: np.random.Generator, rows: int, depth: int) -> Array:
    """Blocks that lean to either side, of several sizes; some are zero, one is next to it."""
    x = rng.standard_normal((rows, depth)) * 10.0 ** rng.integers(-6, 6, (rows, 1))
    blocks = x.reshape(rows, -1, 32)
    blocks += rng.normal(0, 3, blocks.shape[:2])[..., None] * np.abs(x).max(1)[:, None, None]
    blocks *= 10.0 ** rng.integers(-3, 3, blocks.shape[:2])[..., None]
    blocks[1, ::2], blocks[2], blocks[3], blocks[4, 0] = 0, 0, 1e-38, 1
    found: Array = x.astype(np.float32)
    return found


@targets
@pytest.mark.parametrize("sums", [True, False])
@pytest.mark.parametrize("depth", [32, 96, 128, 288, 576, 1056, 2080, 4352])
def test_rows_in_blocks_of_32(depth: int, sums: bool, target: str) -> None:
    x = aligned((7, depth))
    x[:] = one_sided(np.random.default_rng(depth), 7, depth)
    layout = Quantised32(sums)
    out = aligned((7, layout.row_words(depth)), np.uint32)
    run_kernel(Quantise(layout, depth, depth, out.shape[1], "token"), x, out, target)
    blocks = depth // 32
    found = out[:, : 12 * blocks].reshape(7, -1, 12)
    unit, p, z, total, q = blocks_of_32(x)
    leads = np.arange(blocks) % 8 == 0
    assert np.array_equal(found[..., 0].view(np.float32), np.where(leads, np.float32(1) / unit, unit))
    if blocks % 8 == 1:
        assert np.array_equal(out[:, -1].view(np.float32), unit[:, -1])
    assert np.array_equal(found[..., 1].view(np.float32), np.float32(1.5 * 2**23) * p)
    assert np.array_equal(1 << found[..., 2], z)
    assert np.array_equal(found[..., 3].view(np.float32), -p * total if sums else 0 * p)
    assert q.min() >= 0 and q.max() <= 255
    assert np.array_equal(np.ascontiguousarray(found[..., 4:]).view(np.uint8), q)
    # and that is near x
    back = (unit * p)[..., None].astype(np.float64) * (q - z[..., None])
    reach = np.abs(x.reshape(back.shape)).max(2, keepdims=True)
    assert (np.abs(back - x.reshape(back.shape)) <= reach / 127 + 1e-36).all()


@targets
def test_quantised_rows_of_k_quants(target: str) -> None:
    layout = QuantisedK()
    x = aligned((5, 768))
    rng = np.random.default_rng(0)
    x[:] = rng.standard_normal(x.shape) * 10.0 ** rng.integers(-6, 6, (5, 1))
    x[:2] *= 2.0 ** -np.repeat(rng.integers(0, 6, (2, 24)), 32, axis=1)
    x[2], x[3, :256], x[4] = 0, 0, -3.5
    out = aligned((5, layout.row_words(768)), np.uint32)
    run_kernel(Quantise(layout, 768, 768, out.shape[1], "token"), x, out, target)
    for number, found in enumerate(np.split(out, 3, axis=1)):
        scale, powers, q = in_k_blocks(x[:, 256 * number : 256 * (number + 1)])
        sums = q.reshape(5, 16, 16).sum(2)
        assert np.array_equal(found[:, :16].view(np.int32), -32 * sums)
        assert np.array_equal(found[:, 16:24], powers)
        sums <<= np.repeat(powers, 2, axis=1)
        shorts = np.ascontiguousarray(found[:, 24:32]).view(np.int16)
        assert np.array_equal(shorts.reshape(5, 4, 4), sums.reshape(5, 4, 4)[:, :, [0, 2, 1, 3]])
        fours = sums.reshape(5, 2, 4, 2).sum(3)
        shorts = np.ascontiguousarray(found[:, 32:36]).view(np.int16)
        assert np.array_equal(shorts.reshape(5, 2, 4), fours[:, :, [0, 2, 1, 3]])
        assert np.array_equal(found[:, 36].view(np.float32), scale)
        one, two = (q.reshape(5, 8, 2, 16)[:, :, i, :8] for i in (0, 1))
        assert np.array_equal(found[:, 37:45].view(np.int32), (8 * one - 120 * two - one * two).sum(2))
        assert np.array_equal(np.ascontiguousarray(found[:, 45:]).view(np.int8), q)


def run_kernel(kernel: Quantise, x: Array, out: Array, target: str) -> None:
    module = Module(host_target(target), checked=True)
    function = quantise_kernel(module, kernel)
    module.function("test", [PTR] * 3, lambda code, *a: code.call(function, a) and None, export="test")
    emit_controls(module)
    code = LoadedCode(compile_text(str(module.ir), module.target), module.target)
    frame = aligned((Frame.SIZE,), np.int64)
    frame[[Frame.TOKENS, Frame.PARTS, Frame.THREADS]] = len(x), 1, 1
    checks = CheckedCalls(code)
    checks.begin([frame, x, out])
    code.function("test", *[ctypes.c_void_p] * 3)(*map(address, (frame, x, out)))
    checks.end(["test"])


def _compiled_dot(target: str, dot: Callable[[Code, Value, Value, Value], Value]) -> tuple[LoadedCode, int]:
    """Code whose `test` (sums, a, b) adds the dots of a vector to its sums, i32[lanes]; and the lanes."""
    module = Module(host_target(target))

    def body(code: Code, sums: Value, a: Value, b: Value) -> None:
        code.put_as(dot(code, *(code.get_as(p, code.ints) for p in (sums, a, b))), sums)

    module.function("test", [PTR] * 3, body, export="test")
    return LoadedCode(compile_text(str(module.ir), module.target), module.target), module.target.lanes


@targets
def test_dots_of_bytes_are_exact(target: str) -> None:
    """Also at the ends of the ranges, where narrower sums would saturate."""
    code, lanes = _compiled_dot(target, dot4)
    run = code.function("test", *[ctypes.c_void_p] * 3)
    rng = np.random.default_rng(0)
    for case in range(20):
        sums = rng.integers(-(2**20), 2**20, lanes).astype(np.int32)
        u = rng.integers(0, 256, (lanes, 4)).astype(np.uint8)
        s = rng.integers(-128, 128, (lanes, 4)).astype(np.int8)
        if case < 4:
            u[:], s[:] = 255, (-128, 127)[case % 2]
        want = sums + (u.astype(np.int64) * s).sum(1)
        run(*map(address, (sums, u, s)))
        assert np.array_equal(sums, want)


@targets
def test_dots_of_shorts_are_exact(target: str) -> None:
    code, lanes = _compiled_dot(target, dot2)
    run = code.function("test", *[ctypes.c_void_p] * 3)
    rng = np.random.default_rng(0)
    for _ in range(20):
        sums = rng.integers(-(2**20), 2**20, lanes).astype(np.int32)
        a, b = (rng.integers(-n, n, (lanes, 2)).astype(np.int16) for n in (2**15, 2**12))
        want = sums + (a.astype(np.int64) * b).sum(1)
        run(*map(address, (sums, a, b)))
        assert np.array_equal(sums, want)


@pytest.mark.parametrize("triple", ["aarch64-unknown-linux-gnu", "x86_64-unknown-linux-gnu"])
def test_the_plain_form_of_dots_compiles_anywhere(triple: str) -> None:
    from llvmlite import binding

    from rlxflow.backends.cpu.target import choose

    binding.initialize_all_targets()
    binding.initialize_all_asmprinters()
    module = Module(choose(triple, "generic", {}, "vector128"))

    def body(code: Code, sums: Value, u: Value, s: Value) -> None:
        loaded = [code.get_as(p, code.ints) for p in (sums, u, s)]
        code.put_as(code.add(dot4(code, *loaded), dot2(code, *loaded)), sums)

    module.function("test", [PTR] * 3, body, export="test")
    machine = binding.Target.from_triple(triple).create_target_machine(cpu="generic")
    assembly = machine.emit_assembly(binding.parse_assembly(str(module.ir)))
    assert "call" not in assembly and "\tbl\t" not in assembly
