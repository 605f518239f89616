"""What this machine can do at most: arithmetic and read rates.

Small loops made with LLVM for the host's vector width:

- fma: independent chains of fused multiply-adds on f32 vectors, in GFLOP/s (an FMA counts as two);
- int8: the same with `vpdpbusd` (u8 x s8 -> s32), in GOP/s (64 products and sums per instruction: 128);
- L2, L3, DRAM: a sum over a buffer of half the L2, four times the L2, eight times the L3, in GB/s;
  each thread reads its own buffer.

Every figure is the best of some repetitions; threads start together and the slowest one counts.
"""

from __future__ import annotations

import ctypes
import os
import threading
import time
from collections.abc import Callable
from functools import cache

import numpy as np

from rlxflow.backends.cpu.llvm import LoadedCode, compile_text, host_target
from rlxflow.backends.cpu.object_cache import cached_code
from rlxflow.backends.cpu.target import Target
from rlxflow.dtypes import Array

HOST = host_target()
FLOATS = f"<{HOST.lanes} x float>"
VECTOR_BYTES = 4 * HOST.lanes
# one for x, one for y, the rest of the registers accumulate
CHAINS = 24 if HOST.name != "avx2" else 12
READS = 8


def has_vnni(target: Target) -> bool:
    """Whether the processor multiplies bytes in 512-bit vectors."""
    return target.name == "avx512" and "+avx512vnni" in target.features.split(",")


def chain_loop(name: str, vector: str, step: str, declare: str) -> str:
    """A function `name(memory, count)`: `count` times one `step` on each of CHAINS accumulators.

    `step` is an LLVM expression of {acc}, and of %x and %y, which come from memory so that nothing is known.
    """
    size = f"i64 {VECTOR_BYTES}"
    loads = "\n".join(
        f"  %p{i} = getelementptr i8, ptr %memory, i64 {VECTOR_BYTES * (i + 2)}\n"
        f"  %a{i} = load {vector}, ptr %p{i}, align 4"
        for i in range(CHAINS)
    )
    phis = "\n".join(f"  %c{i} = phi {vector} [ %a{i}, %entry ], [ %n{i}, %loop ]" for i in range(CHAINS))
    steps = "\n".join(f"  %n{i} = {step.format(acc=f'%c{i}')}" for i in range(CHAINS))
    stores = "\n".join(f"  store {vector} %n{i}, ptr %p{i}, align 4" for i in range(CHAINS))
    return f"""{declare}
define void @{name}(ptr %memory, i64 %count) {{
entry:
  %x = load {vector}, ptr %memory, align 4
  %q = getelementptr i8, ptr %memory, {size}
  %y = load {vector}, ptr %q, align 4
{loads}
  br label %loop
loop:
  %i = phi i64 [ 0, %entry ], [ %next, %loop ]
{phis}
{steps}
  %next = add i64 %i, 1
  %more = icmp ult i64 %next, %count
  br i1 %more, label %loop, label %done
done:
{stores}
  ret void
}}
"""


def read_loop() -> str:
    """A function `read(memory, bytes, passes, sums)`: adds up all vectors of the buffer, `passes` times."""
    ints, stride = f"<{HOST.lanes} x i32>", READS * VECTOR_BYTES
    outer = "\n".join(
        f"  %o{i} = phi {ints} [ zeroinitializer, %entry ], [ %n{i}, %again ]" for i in range(READS)
    )
    inner = "\n".join(f"  %s{i} = phi {ints} [ %o{i}, %pass ], [ %n{i}, %loop ]" for i in range(READS))
    reads = "\n".join(
        f"  %r{i} = getelementptr i8, ptr %here, i64 {i * VECTOR_BYTES}\n"
        f"  %v{i} = load {ints}, ptr %r{i}, align 4\n  %n{i} = add {ints} %s{i}, %v{i}"
        for i in range(READS)
    )
    stores = "\n".join(
        f"  %d{i} = getelementptr i8, ptr %sums, i64 {i * VECTOR_BYTES}\n"
        f"  store {ints} %n{i}, ptr %d{i}, align 4"
        for i in range(READS)
    )
    return f"""
define void @read(ptr %memory, i64 %bytes, i64 %passes, ptr %sums) {{
entry:
  br label %pass
pass:
  %p = phi i64 [ 0, %entry ], [ %pnext, %again ]
{outer}
  br label %loop
loop:
  %at = phi i64 [ 0, %pass ], [ %next, %loop ]
{inner}
  %here = getelementptr i8, ptr %memory, i64 %at
{reads}
  %next = add i64 %at, {stride}
  %more = icmp ult i64 %next, %bytes
  br i1 %more, label %loop, label %again
again:
  %pnext = add i64 %p, 1
  %pmore = icmp ult i64 %pnext, %passes
  br i1 %pmore, label %pass, label %done
done:
{stores}
  ret void
}}
"""


def source() -> str:
    """The module with all loops that this machine can run."""
    fma = f"llvm.fma.v{HOST.lanes}f32"
    declare = f"declare {FLOATS} @{fma}({FLOATS}, {FLOATS}, {FLOATS})"
    call = f"call {FLOATS} @{fma}({FLOATS} %x, {FLOATS} %y, {FLOATS} {{acc}})"
    text = chain_loop("fma", FLOATS, call, declare) + read_loop()
    if has_vnni(HOST):
        dot, ints, bytes_ = "llvm.x86.avx512.vpdpbusd.512", "<16 x i32>", "<64 x i8>"
        step = f"call {ints} @{dot}({ints} {{acc}}, {bytes_} %xb, {bytes_} %yb)"
        loop = chain_loop("int8", ints, step, f"declare {ints} @{dot}({ints}, {bytes_}, {bytes_})")
        casts = f"  %xb = bitcast {ints} %x to {bytes_}\n  %yb = bitcast {ints} %y to {bytes_}\n"
        text += loop.replace("  br label %loop\nloop:", casts + "  br label %loop\nloop:", 1)
    return text


POINTER, INT = ctypes.c_void_p, ctypes.c_int64


@cache
def _code() -> LoadedCode:
    return LoadedCode(cached_code(source(), HOST, "limits", lambda: compile_text(source(), HOST)), HOST)


def together(work: Callable[[int], None], threads: int) -> float:
    """Seconds from the first start of `work(thread)` to the last end, all threads released at once."""
    barrier, spans = threading.Barrier(threads), [(0.0, 0.0)] * threads

    def run(thread: int) -> None:
        barrier.wait()
        start = time.perf_counter()
        work(thread)
        spans[thread] = (start, time.perf_counter())

    others = [threading.Thread(target=run, args=(t,)) for t in range(1, threads)]
    for thread in others:
        thread.start()
    run(0)
    for thread in others:
        thread.join()
    return max(end for _, end in spans) - min(start for start, _ in spans)


def lines(size: int) -> Array:
    """`size` bytes that begin with a cache line, so that no vector spans two; written, so that they exist."""
    raw = np.ones(size + 64, np.uint8)
    return raw[-raw.ctypes.data % 64 :][:size]


def arithmetic(name: str, per_vector: int, threads: int, repeat: int = 5, count: int = 1_000_000) -> float:
    """Giga-operations per second of the loop `name`."""
    loop = _code().function(name, POINTER, INT)
    memory = [np.zeros((CHAINS + 2) * VECTOR_BYTES, np.uint8) for _ in range(threads)]
    seconds = min(together(lambda t: loop(memory[t].ctypes.data, count), threads) for _ in range(repeat))
    return threads * count * CHAINS * per_vector / seconds / 1e9


def fma_peak(threads: int, repeat: int = 5) -> float:
    """f32 GFLOP/s; takes about 10 ms per repetition."""
    return arithmetic("fma", 2 * HOST.lanes, threads, repeat)


def int8_peak(threads: int) -> float | None:
    """GOP/s of 512-bit `vpdpbusd`; None where the processor has none."""
    return arithmetic("int8", 2 * 64, threads) if has_vnni(HOST) else None


def read_rate(size: int, threads: int, repeat: int = 5, total: int = 1 << 29) -> float:
    """GB/s over buffers of `size` bytes, one for each thread; `total` bytes a thread and repetition."""
    read, stride = _code().function("read", POINTER, INT, INT, POINTER), READS * VECTOR_BYTES
    size = size // stride * stride
    passes = max(1, total // size)
    memory = [lines(size) for _ in range(threads)]
    sums = [lines(stride) for _ in range(threads)]
    seconds = min(
        together(lambda t: read(memory[t].ctypes.data, size, passes, sums[t].ctypes.data), threads)
        for _ in range(repeat)
    )
    return threads * size * passes / seconds / 1e9


def cache_sizes() -> tuple[int, int]:
    """Bytes of L2 and L3 as the C library tells; 1 MiB and 32 MiB where it does not."""
    found = []
    for key, otherwise in (("SC_LEVEL2_CACHE_SIZE", 1 << 20), ("SC_LEVEL3_CACHE_SIZE", 1 << 25)):
        size = os.sysconf(key) if key in os.sysconf_names else 0
        found.append(size if size > 0 else otherwise)
    return found[0], found[1]


def measure(threads: int) -> dict[str, float | None]:
    """All figures for `threads` threads: fma and int8 in giga-operations/s, the rest in GB/s."""
    l2, l3 = cache_sizes()
    return {
        "fma": fma_peak(threads),
        "int8": int8_peak(threads),
        "L2": read_rate(l2 // 2, threads),
        "L3": read_rate(4 * l2, threads),
        "DRAM": read_rate(8 * l3, threads, repeat=3),
    }
