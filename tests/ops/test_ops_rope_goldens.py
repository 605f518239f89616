"""Rotary frequencies of every kind against those of transformers (made by oracles/make_rope_goldens.py)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rlxflow.flow.rope_config import rope_config
from rlxflow.ops.rope_frequencies import KINDS, inverse_frequencies

GOLDENS = json.loads((Path(__file__).parent.parent / "goldens" / "rope.json").read_text("utf-8"))["cases"]


@pytest.mark.parametrize("name", GOLDENS)
def test_frequencies_and_attention_factor(name: str) -> None:
    """transformers computes in float32 and we in float64, so a few units in the last place differ."""
    case: dict[str, Any] = GOLDENS[name]
    config = rope_config(
        head_dim=case["rotary_dim"],
        rope_theta=None,
        rope_scaling=None,
        rope_parameters=case["rope_parameters"],
        max_position_embeddings=case["max_position_embeddings"],
    )
    got, factor = inverse_frequencies(config.rotary_dim, config.theta, config.scaling, case["length"])
    assert config.rotary_dim == case["rotary_dim"]
    assert factor == pytest.approx(case["attention_factor"], rel=1e-12)
    np.testing.assert_allclose(got, case["frequencies"], rtol=6e-7, atol=0)


def test_every_kind_has_a_golden() -> None:
    assert {case["rope_parameters"]["rope_type"] for case in GOLDENS.values()} == set(KINDS)


def test_the_goldens_tell_the_cases_apart() -> None:
    """Below and beyond the original context, with and without each setting: the numbers must differ."""
    different = [
        ("dynamic-at", "dynamic-beyond"),
        ("longrope-short", "longrope-long"),
        ("yarn", "yarn-betas"),
        ("yarn-not-truncated", "yarn-truncated"),
        ("default", "linear"),
        ("default", "default-theta"),
    ]
    for a, b in different:
        assert GOLDENS[a]["frequencies"] != GOLDENS[b]["frequencies"]
    factors = {name: GOLDENS[name]["attention_factor"] for name in GOLDENS}
    assert (
        len({factors[n] for n in ("yarn", "yarn-attention-factor", "yarn-mscale", "yarn-small-factor")}) == 4
    )
    assert factors["yarn-mscale-alone"] == factors["yarn"]
    assert GOLDENS["dynamic-below"]["frequencies"] == GOLDENS["dynamic-at"]["frequencies"]
