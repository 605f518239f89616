"""Every kernel against the reference backend, over `kernel_table.py`, in checked mode."""

from __future__ import annotations

import numpy as np
import pytest
from compare import TARGETS, Program, close
from kernel_table import Row, arrays, cases, count, rows

ROWS = rows()


def program_of(row: Row) -> Program:
    """One program with an output per width."""
    rng = np.random.default_rng(len(row.name))
    params = {w: row.params(rng, w) for w in row.widths}
    flat = {f"{n}{w}": a for w, own in params.items() for n, a in own.items()}
    return Program(
        lambda v, p: {f"w{w}": row.build(v, {n: p[f"{n}{w}"] for n in params[w]}, w) for w in row.widths},
        row.inputs(),
        flat,
    )


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_kernels(row: Row, target: str) -> None:
    program = program_of(row)
    run = program.compile(target)
    for number, (batch, tokens, kind) in enumerate(cases(row)):
        inputs = arrays(row, batch, tokens, kind, number)
        before = {n: a.copy() for n, a in inputs.items()}
        got, want = run(inputs), program.reference(inputs)
        close(got, want, row.tolerance)
        assert all(np.array_equal(before[n], a, equal_nan=True) for n, a in inputs.items())
        assert all(a.flags.owndata and a.flags.writeable for a in got.values())


def test_there_are_enough_cases() -> None:
    assert count() * len(TARGETS) >= 3000
