"""Names folded into patterns."""

from __future__ import annotations

import pytest

from rlxflow.weights.key_groups import group_keys, ranges

LAYERS = [f"model.layers.{i}.{n}.weight" for i in range(28) for n in ("self_attn.q_proj", "self_attn.k_proj")]
CASES = {
    "none": ([], []),
    "one": (["a.b"], ["a.b"]),
    "range": ([f"h.{i}.w" for i in range(12)], ["h.[0-11].w  (12)"]),
    "gap": ([f"h.{i}.w" for i in (0, 1, 2, 7, 9, 10)], ["h.[0-2,7,9-10].w  (6)"]),
    "one-layer": (["h.3.w"], ["h.3.w"]),
    "braces": (LAYERS, ["model.layers.[0-27].self_attn.{q_proj,k_proj}.weight  (56)"]),
    "other-layers": (["h.0.a", "h.1.a", "h.1.b"], ["h.[0-1].a  (2)", "h.1.b"]),
    "many-names": ([f"x.{c}.w" for c in "abcdefgh"], ["x.{a,b,c,d,e,…}.w  (8)"]),
    "experts": ([f"h.{i}.e.{j}.w" for i in (0, 1) for j in range(8)], ["h.[0-1].e.[0-7].w  (16)"]),
    "unequal-depth": (["a.b", "a.b.c"], ["a.b.{,c}  (2)"]),
    "numbers-first": (["0.w", "1.w"], ["[0-1].w  (2)"]),
    "big-number": ([f"a.{10**40}"], [f"a.{10**40}"]),
    "empty-parts": (["..", "a."], ["..", "a."]),
}


@pytest.mark.parametrize("case", CASES)
def test_group_keys(case: str) -> None:
    keys, patterns = CASES[case]
    groups = group_keys(keys)
    assert [str(group) for group in groups] == patterns
    assert sum(group.count for group in groups) == len(keys)


def test_ranges() -> None:
    assert ranges([3, 1, 2, 9, 2]) == "1-3,9"
