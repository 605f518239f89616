"""A block of x as K-quants read it: what is found per run of elements, see `QuantisedK`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial, reduce

from llvmlite import ir

from rlxflow.backends.cpu.code import I32, Code, Value
from rlxflow.backends.cpu.kernels.elementwise import maximum
from rlxflow.backends.cpu.quantised import QuantisedK

RUNS = 16  # of 16 elements in a block
PAIRS = ir.VectorType(I32, RUNS // 2)
Combine = Callable[[Value, Value], Value]


def find_powers(
    code: Code, layout: QuantisedK, vectors: Sequence[Value], out: Value
) -> tuple[Value, list[Value]]:
    """Write e of every 32 elements; max|x| of the block, and 2⁻ᵉ of every 32, in all lanes."""
    combine = partial(maximum, code)
    runs = _per_run(code, combine, [code.per_lane("fabs", v) for v in vectors])
    tops = combine(*(_pick(code, runs, range(i, RUNS, 2)) for i in (0, 1)))
    top = tops
    for half in (4, 2, 1):
        top = combine(*(_pick(code, top, range(i, i + half)) for i in (0, half)))
    everywhere = _pick(code, top, [0] * tops.type.count)
    kind, most = tops.type, layout.most
    exponents, powers = ir.Constant(PAIRS, [0] * 8), ir.Constant(kind, [1.0] * 8)
    for e in range(1, most + 1):
        bound = code.fmul(everywhere, ir.Constant(kind, [0.5 ** (most + 1 - e)] * 8))
        larger = code.fcmp_ordered(">", tops, bound)
        exponents = code.select(larger, ir.Constant(PAIRS, [e] * 8), exponents)
        powers = code.select(larger, ir.Constant(kind, [0.5**e] * 8), powers)
    code.put_as(exponents, out, layout.powers)
    splats = [_pick(code, powers, [i] * code.lanes) for i in range(kind.count)]
    return code.extract_element(top, I32(0)), splats


def write_sums(code: Code, layout: QuantisedK, q: Sequence[Value], out: Value) -> None:
    """Write the sums of a block whose q are these vectors of i32, and whose e are written."""
    code.put_as(_pairs(code, q), out, layout.pairs)
    sums = _per_run(code, code.add, q)
    code.put_as(code.mul(sums, ir.Constant(sums.type, [-32] * RUNS)), out)
    exponents = code.get_as(out, PAIRS, layout.powers)
    raised = code.shl(sums, _pick(code, exponents, [i // 2 for i in range(RUNS)]))
    code.put_as(_shorts(code, raised), out, layout.shorts(16))
    wide = code.add(*(_pick(code, raised, range(i, RUNS, 2)) for i in (0, 1)))
    code.put_as(_shorts(code, wide), out, layout.shorts(32))


def _pairs(code: Code, q: Sequence[Value]) -> Value:
    """Σ 8·q1 - 120·q2 - q1·q2 of every 32 elements, over the pairs j and 16 + j, j < 8."""
    each, terms = len(q) // RUNS, [code.nothing] * len(q)
    for first in range(0, len(q), 2 * each):
        for i in range(first, first + -(-each // 2)):
            one, two = q[i], q[i + each]
            term = code.sub(code.mul(one, code.sub(code.fill_int(8), two)), code.mul(two, code.fill_int(120)))
            terms[i] = term if code.lanes <= 8 else code.select(code.first(8), term, code.nothing)
    return _pick(code, _per_run(code, code.add, terms), range(0, RUNS, 2))


def _per_run(code: Code, combine: Combine, vectors: Sequence[Value]) -> Value:
    """All elements of every run combined, as one vector.

    Pairs of vectors are interleaved and combined, which halves their number, and what is left of a run.
    """
    each = len(vectors) // RUNS
    rows = [reduce(combine, vectors[i : i + each]) for i in range(0, len(vectors), each)]
    while len(rows) * code.lanes > RUNS:
        rows = [combine(*code.interleaved(a, b)) for a, b in _halves(rows)]
    while len(rows) > 1:  # lane l of vector i is run i + l·len(rows)
        lanes = rows[0].type.count
        order = [lane for i in range(lanes) for lane in (i, lanes + i)]
        rows = [_pick(code, a, order, b) for a, b in _halves(rows)]
    return rows[0]


def _halves(rows: list[Value]) -> list[tuple[Value, Value]]:
    middle = len(rows) // 2
    return list(zip(rows[:middle], rows[middle:], strict=True))


def _shorts(code: Code, sums: Value) -> Value:
    """Of every four the first and third in a word, then the second and fourth."""
    count = sums.type.count
    low, high = (_pick(code, sums, [i for i in range(count) if i % 4 in pair]) for pair in ((0, 1), (2, 3)))
    kind = low.type
    low = code.and_(low, ir.Constant(kind, [0xFFFF] * kind.count))
    return code.or_(low, code.shl(high, ir.Constant(kind, [16] * kind.count)))


def _pick(code: Code, a: Value, lanes: Sequence[int], b: Value | None = None) -> Value:
    """These lanes of a, or of a and b one after the other."""
    order = ir.Constant(ir.VectorType(I32, len(lanes)), list(lanes))
    return code.shuffle_vector(a, a if b is None else b, order)
