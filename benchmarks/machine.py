"""What this machine can do at most: arithmetic and read rates. python benchmarks/machine.py

See rlxflow/backends/cpu/limits.py for what is measured and how.
"""

from __future__ import annotations

import argparse
import os

from alone import Disturbance, timing_lock

from rlxflow.backends.cpu.limits import (
    HOST,
    cache_sizes as cache_sizes,
    fma_peak as fma_peak,
    int8_peak as int8_peak,
    measure as measure,
    read_rate as read_rate,
)

UNITS = {"fma": "GFLOP/s f32", "int8": "GOP/s u8 x s8", "L2": "GB/s", "L3": "GB/s", "DRAM": "GB/s"}


def print_table(figures: dict[int, dict[str, float | None]]) -> None:
    """`figures` by number of threads."""
    l2, l3 = cache_sizes()
    print(f"{HOST.cpu}, {HOST.name}; L2 {l2 >> 10} KiB, L3 {l3 >> 20} MiB; {os.cpu_count()} CPUs")
    print(f"{'':6}" + "".join(f"{f'{t} threads' if t > 1 else '1 thread':>12}" for t in figures))
    for key, unit in UNITS.items():
        cells = (
            f"{value:12.1f}" if (value := f[key]) is not None else f"{'-':>12}" for f in figures.values()
        )
        print(f"{key:6}" + "".join(cells) + f"  {unit}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    threads = parser.parse_args().threads
    with timing_lock():
        disturbance = Disturbance()
        print_table({t: measure(t) for t in threads})
        print(disturbance)


if __name__ == "__main__":
    main()
