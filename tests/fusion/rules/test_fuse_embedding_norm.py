"""fuse-embedding-norm."""

from __future__ import annotations

from typing import Any

import pytest
from fusion.rules.fusing import Fires, H, Refuses, S, ids, p
from ops import formulas as f

from rlxflow.dtypes import i32, i64
from rlxflow.ir.values import Value
from rlxflow.ops.elementwise import add, neg
from rlxflow.ops.leaves import iota
from rlxflow.ops.norm import layer_norm, rms_norm
from rlxflow.ops.shape import gather

RULE, OP = "fuse-embedding-norm", "embedding_norm"


def words() -> Value:
    return gather(p("words", 9, H), ids("ids"))


def positions(width: int = H, at: Value | None = None) -> Value:
    return gather(p("positions", 5, width), iota(size=S, dtype=i64) if at is None else at)


def types() -> Value:
    return gather(p("types", 4, H), ids("type_ids"))


def norm(total: Value, bias: bool = True) -> Value:
    return layer_norm(total, p("g", H), p("b", H) if bias else None, eps=1e-12)


def expected(a: Any) -> Any:
    total = a["words"][a["ids"]]
    total = total + a["positions"][:S] if "positions" in a else total
    total = total + a["types"][a["type_ids"]] if "types" in a else total
    return f.layer_norm(total, a["g"], a.get("b"), eps=1e-12)


FIRES = [
    Fires("three tables", lambda: norm(add(add(words(), positions()), types())), OP, expected),
    Fires("other order of operands", lambda: norm(add(types(), add(positions(), words()))), OP, expected),
    Fires("positions", lambda: norm(add(words(), positions())), OP, expected),
    Fires("types, no bias", lambda: norm(add(words(), types()), bias=False), OP, expected),
    Fires("words alone", lambda: norm(words()), OP, expected),
    Fires("types first", lambda: norm(add(add(words(), types()), positions())), OP, expected, written=True),
]


@pytest.mark.parametrize("case", FIRES, ids=str)
def test_fires(case: Fires) -> None:
    case.check()


def sum_read() -> tuple[Value, Value]:
    total = add(words(), positions())
    return norm(total), neg(total)


REFUSES = [
    Refuses("sum read", sum_read, RULE, OP, "result of add is also read by neg"),
    Refuses("table of width 1", lambda: norm(add(words(), positions(1))), RULE, OP, "positions is [5,1]"),
    Refuses(
        "counted in i32",
        lambda: norm(add(words(), positions(at=iota(size=S, dtype=i32)))),
        RULE,
        OP,
        "types is [3], wanted [2,3]",
    ),
    Refuses(
        "a row of types",
        lambda: norm(add(words(), positions(at=p("at", S, dtype=i64)))),
        RULE,
        OP,
        "types is [3], wanted [2,3]",
    ),
    Refuses(
        "something else in the sum",
        lambda: norm(add(words(), p("e", H))),
        RULE,
        OP,
        "expected gather, found param",
    ),
]


@pytest.mark.parametrize("case", REFUSES, ids=str)
def test_refuses(case: Refuses) -> None:
    case.check()


def test_another_norm_is_another_op() -> None:
    from fusion.rules.fusing import fused, graph_of

    assert fused(graph_of(lambda: rms_norm(words(), p("g", H), eps=1e-6)))[0].count(OP) == 0
