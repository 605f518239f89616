"""How fast products with packed weights run, per GGUF format. python benchmarks/packed.py

The kernels that plans use, without a plan around them: y[M, N] = x[M, K] · wᵀ.

- cold: M = 1, weights that come from main memory (copies are cycled through); GB/s of packed weights, and the
  share of the read rate of main memory measured in the same run;
- hot: M = 1, the same weights again and again;
- prefill: M rows, in GOP/s (two per weight and row), and the share of the int8 (or f32) peak.
"""

from __future__ import annotations

import argparse
import ctypes
from collections.abc import Callable

import numpy as np
from alone import Disturbance, timing_lock

from rlxflow.backends.cpu.code import PTR, Module, Value
from rlxflow.backends.cpu.expression import Expression, Step
from rlxflow.backends.cpu.form import find_form
from rlxflow.backends.cpu.frame import Frame
from rlxflow.backends.cpu.kernels.gemm import Gemm, gemm_kernel
from rlxflow.backends.cpu.kernels.quantise import Quantise, quantise_kernel
from rlxflow.backends.cpu.limits import cache_sizes, fma_peak, int8_peak, read_rate, together
from rlxflow.backends.cpu.llvm import LoadedCode, compile_text, host_target
from rlxflow.backends.cpu.memory import address, aligned
from rlxflow.backends.cpu.object_cache import cached_code
from rlxflow.dtypes import Array

FORMATS = ("q8_0", "q6_k", "q5_k", "q5_1", "q5_0", "q4_k", "q4_1", "q4_0", "q3_k", "q2_k")
TARGET = host_target()
COLD_BYTES = 8 * cache_sizes()[1]


class Product:
    """y = x · wᵀ for random weights of one form, and x of up to `rows` rows."""

    def __init__(self, form: str, depth: int, columns: int, rows: int, copies: int) -> None:
        self.form, rng = find_form(form), np.random.default_rng(0)
        self.depth, self.columns = depth, columns
        words, panels = self.form.words(depth), -(-columns // TARGET.panel)
        self.weights = aligned((copies, panels, words, TARGET.panel), np.uint32)
        one = rng.integers(0, 1 << 32, self.weights.shape[1:], np.uint32)
        blocks = getattr(self.form, "blocks", None)
        if blocks is not None:  # float16 numbers of about 0.01
            numbers = rng.integers(0x2000, 0x2800, (panels, words, 2 * TARGET.panel), np.uint16)
            step = 1 + blocks.group * blocks.block_words
            one[:, ::step] = numbers.view(np.uint32)[:, ::step]
        self.weights[:] = one
        self.x_stride, self.out_stride = TARGET.row_stride(depth), TARGET.row_stride(columns)
        self.x = aligned((rows, self.x_stride))
        self.x[:] = rng.standard_normal(self.x.shape)
        self.out = aligned((rows, self.out_stride))
        text = f"benchmark {form} {depth} {columns}"
        self._code = LoadedCode(cached_code(text, TARGET, text, self._emit), TARGET)
        self._run = self._code.function("product", *[ctypes.c_void_p] * 4)
        self.read = self._quantised() if self.form.x is not None else self.x

    def _emit(self) -> bytes:
        module, stride = Module(TARGET), self.x_stride
        if self.form.x is not None:
            stride = TARGET.row_stride(self.form.x.row_words(self.depth))
            kernel = quantise_kernel(
                module, Quantise(self.form.x, self.depth, self.x_stride, stride, "token")
            )
            export(module, "quantise", kernel, 3)
        tail = Expression("token", (self.columns,), (Step("linear", (), ()),), ())
        gemm = Gemm(self.form.name, self.depth, self.columns, stride, self.out_stride, tail)
        export(module, "product", gemm_kernel(module, gemm), 4)
        return compile_text(str(module.ir), TARGET)

    def _quantised(self) -> Array:
        assert self.form.x is not None
        words = TARGET.row_stride(self.form.x.row_words(self.depth))
        read = aligned((len(self.x), words))
        run = self._code.function("quantise", *[ctypes.c_void_p] * 3)
        run(address(frame(len(self.x), 0, 1)), address(self.x), address(read))
        return read

    def seconds(self, rows: int, threads: int, times: int, repeat: int) -> float:
        """Of one product, the best of some repetitions of `times` products; each thread does its part."""
        unpacked = self.form.unpacked
        room = aligned((threads, unpacked.words(self.depth) * TARGET.panel if unpacked else 1))
        frames = [frame(rows, t, threads) for t in range(threads)]
        for words, own in zip(frames, room, strict=True):
            words[Frame.SCRATCH] = address(own)
        places = [address(w) for w in self.weights]
        x, out = address(self.read), address(self.out)

        def work(thread: int) -> None:
            own = address(frames[thread])
            for i in range(times):
                self._run(own, x, places[i % len(places)], out)

        return min(together(work, threads) for _ in range(repeat)) / times


def export(module: Module, name: str, kernel: Value, arguments: int) -> None:
    def body(code: object, *values: Value) -> None:
        code.call(kernel, values)  # type: ignore[attr-defined]

    module.function(name, [PTR] * arguments, body, export=name)


def frame(rows: int, part: int, parts: int) -> Array:
    words = aligned((Frame.SIZE,), np.int64)
    words[[Frame.TOKENS, Frame.PART, Frame.PARTS, Frame.THREADS]] = rows, part, parts, parts
    return words


def measure(form: str, depth: int, columns: int, rows: int, threads: int) -> tuple[float, float, float]:
    """Cold and hot GB/s, and GOP/s with `rows` rows."""
    size = find_form(form).words(depth) * 4 * columns
    copies = COLD_BYTES // size + 1
    cold = Product(form, depth, columns, rows, copies)
    times = max(1, 100_000_000 // size)
    operations = 2 * rows * depth * columns
    rates = size / cold.seconds(1, threads, copies, 3) / 1e9
    hot = Product(form, depth, columns, rows, 1)
    warm = size / hot.seconds(1, threads, times, 3) / 1e9
    fast = hot.seconds(rows, threads, 2, 5)
    return rates, warm, operations / fast / 1e9


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--formats", nargs="+", default=FORMATS)
    parser.add_argument("--x", choices=("int8", "f32"), default="int8", help="how x is read")
    parser.add_argument("--shape", type=int, nargs=3, default=(512, 3072, 1024), metavar=("M", "N", "K"))
    chosen = parser.parse_args()
    rows, columns, depth = chosen.shape
    peak: Callable[[int], float | None] = int8_peak if chosen.x == "int8" else fma_peak
    with timing_lock():
        for threads in chosen.threads:
            disturbance = Disturbance()
            dram, most = read_rate(COLD_BYTES, threads, repeat=3), peak(threads) or fma_peak(threads)
            print(f"{threads} threads: main memory {dram:.1f} GB/s, {chosen.x} peak {most:.0f} GOP/s")
            print(f"{'':8}{'cold GB/s':>12}{'':6}{'hot GB/s':>12}{f'M={rows} GOP/s':>16}")
            for name in chosen.formats:
                cold, hot, fast = measure(f"{name}.{chosen.x}", depth, columns, rows, threads)
                print(
                    f"{name:8}{cold:12.1f}{cold / dram:6.0%}{hot:12.1f}{fast:16.0f}{fast / most:6.0%}",
                    flush=True,
                )
            print(disturbance)


if __name__ == "__main__":
    main()
