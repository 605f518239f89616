"""How fast one token's attention reads a cache, and how fast a prompt's computes. python benchmarks/cached.py

The kernel that plans use, without a plan around it, at the end of a context; caches of so many layers that
they come from main memory. Of one token: GB/s of keys and values, and the share of the read rate of main
memory measured in the same run. Of a chunk of a prompt, over an f16 cache and with products of bf16 where the
processor has them: GFLOP/s of what is not masked, beside the peak of FMA instructions (products of bf16 have
twice that). Where two runs do not agree, the last line says whether something else ran.
"""

from __future__ import annotations

import argparse
import ctypes

import numpy as np
from alone import Disturbance, timing_lock

from rlxflow.backends.cpu.code import PTR, Module
from rlxflow.backends.cpu.frame import Frame
from rlxflow.backends.cpu.kernels.cached_attention import (
    CachedAttention,
    cached_attention_kernel,
    scratch_floats,
)
from rlxflow.backends.cpu.limits import cache_sizes, fma_peak, read_rate, together
from rlxflow.backends.cpu.llvm import LoadedCode, compile_text, host_target
from rlxflow.backends.cpu.memory import address, aligned
from rlxflow.dtypes import Array

TARGET = host_target()
COLD_BYTES = 8 * cache_sizes()[1]


CHUNK = 512  # tokens of a prompt


class Step:
    """Attention of some tokens at the end of a context of `keys` positions, in some layers."""

    def __init__(self, heads: int, kv_heads: int, width: int, keys: int, half: bool, tokens: int = 1) -> None:
        strides = TARGET.row_stride(heads * width)
        self.attention = CachedAttention(
            heads, kv_heads, width, scale=width**-0.5, window=0, softcap=0.0, half=half,
            q_stride=strides, out_stride=strides, bf16=True,
        )  # fmt: skip
        kind, rng = np.float16 if half else np.float32, np.random.default_rng(0)
        self.nbytes = 2 * kv_heads * keys * width * np.dtype(kind).itemsize
        layers = COLD_BYTES // self.nbytes + 1
        self.caches = aligned((layers, 2, kv_heads * keys * width), kind)
        self.caches[:] = rng.standard_normal(self.caches.shape[2]).astype(kind)
        self.q, self.out = aligned((tokens, strides)), aligned((tokens, strides))
        self.q[:] = rng.standard_normal(self.q.shape)
        self.ranges = aligned((TARGET.row_stride(self.attention.range_floats),))
        self.position, self.offsets = (
            np.arange(keys - tokens, keys, dtype=np.int32),
            np.array([0, tokens], np.int32),
        )
        self.first, self.keys, self.tokens = np.zeros(1, np.int32), keys, tokens
        self.flops = 4 * heads * width * tokens * (keys - (tokens - 1) / 2)
        module = Module(TARGET)
        kernel = cached_attention_kernel(module, self.attention)
        module.function("run", [PTR] * 7, lambda code, *a: code.call(kernel, a) and None, export="run")
        self._code = LoadedCode(compile_text(str(module.ir), TARGET), TARGET)
        self._run = self._code.function("run", *[ctypes.c_void_p] * 7)

    def _frame(self, part: int, parts: int) -> tuple[Array, Array]:
        frame, scratch = aligned((Frame.SIZE,), np.int64), aligned((scratch_floats(self.attention, TARGET),))
        frame[[Frame.TOKENS, Frame.SEQUENCES]] = self.tokens, 1
        frame[[Frame.PART, Frame.PARTS, Frame.THREADS, Frame.CACHE_CAPACITY]] = part, parts, parts, self.keys
        frame[[Frame.POSITION, Frame.OFFSETS]] = address(self.position), address(self.offsets)
        frame[[Frame.BATCH_ROW, Frame.SOURCE, Frame.SEQUENCE]] = address(self.first)
        frame[Frame.SCRATCH] = address(scratch)
        return frame, scratch

    def seconds(self, threads: int, repeat: int) -> float:
        """Of a layer, the best of some repetitions of all."""
        frames = [self._frame(t, threads) for t in range(threads)]
        places = [(address(keys), address(values)) for keys, values in self.caches]
        q, ranges, out = map(address, (self.q, self.ranges, self.out))

        def work(thread: int) -> None:
            own = address(frames[thread][0])
            for keys, values in places:
                self._run(own, q, keys, values, None, ranges, out)

        return min(together(work, threads) for _ in range(repeat)) / len(places)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--keys", type=int, nargs="+", default=[512, 2048, 8192])
    parser.add_argument("--shape", type=int, nargs=3, default=(16, 8, 128), metavar=("HEADS", "KV", "WIDTH"))
    options = parser.parse_args()
    with timing_lock():
        for threads in options.threads:
            disturbance = Disturbance()
            dram = read_rate(COLD_BYTES, threads, repeat=3)
            peak = fma_peak(threads)
            print(f"{threads} threads: main memory {dram:.1f} GB/s, FMA {peak:.0f} GFLOP/s")
            for keys in options.keys:
                cells = []
                for name, half in (("f32", False), ("f16", True)):
                    step = Step(*options.shape, keys, half)
                    rate = step.nbytes / step.seconds(threads, 3) / 1e9
                    cells.append(f"{name} {rate:6.1f} GB/s {rate / dram:4.0%}")
                step = Step(*options.shape, keys, True, min(CHUNK, keys))
                rate = step.flops / step.seconds(threads, 1) / 1e9
                cells.append(f"{step.tokens} tokens {rate:4.0f} GFLOP/s {rate / peak:4.0%}")
                print(f"{keys:6} keys: " + ", ".join(cells), flush=True)
            print(disturbance)


if __name__ == "__main__":
    main()
