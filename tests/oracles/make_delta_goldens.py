"""Writes tests/goldens/delta_rule.npz: the gated delta rule as HF's Qwen3-Next computes it, both ways.

    python tests/oracles/make_delta_goldens.py      (needs torch and transformers)

Per case: q, k, v, g, beta of one batch, the state before it, and results and state after by
`torch_chunk_gated_delta_rule`; the script fails unless `torch_recurrent_gated_delta_rule` agrees.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from transformers.models.qwen3_next.modeling_qwen3_next import (
    torch_chunk_gated_delta_rule,
    torch_recurrent_gated_delta_rule,
)

# name: (batch, tokens, heads, key size, value size, starts from a state, q and k normalised)
CASES = {
    "short": (2, 5, 2, 4, 6, False, False),
    "normed": (1, 7, 3, 8, 4, False, True),
    "carried": (2, 6, 2, 4, 4, True, True),
    "two_chunks": (1, 90, 1, 4, 4, True, True),
    "one_token": (3, 1, 2, 4, 5, True, True),
}


def main() -> None:
    arrays = {}
    for name, (batch, tokens, heads, key, value, carried, normed) in CASES.items():
        random = np.random.default_rng(sum(name.encode()))

        def draw(*shape: int, random: np.random.Generator = random) -> torch.Tensor:
            return torch.from_numpy(random.standard_normal(shape).astype(np.float32))

        q, k = draw(batch, tokens, heads, key), draw(batch, tokens, heads, key) * (1.0 if normed else 0.4)
        v, g = draw(batch, tokens, heads, value), -draw(batch, tokens, heads).abs()
        beta = torch.sigmoid(draw(batch, tokens, heads))
        before = draw(batch, heads, key, value) if carried else torch.zeros(batch, heads, key, value)
        results = [
            rule(
                q, k, v, g, beta,
                initial_state=before, output_final_state=True, use_qk_l2norm_in_kernel=normed,
            )
            for rule in (torch_chunk_gated_delta_rule, torch_recurrent_gated_delta_rule)
        ]  # fmt: skip
        for one, other in zip(*results, strict=True):
            assert (one - other).abs().max() < 1e-5, name
        y, after = results[0]
        named = {"q": q, "k": k, "v": v, "g": g, "beta": beta, "before": before, "y": y, "after": after}
        arrays |= {f"{name}/{part}": x.numpy() for part, x in named.items()}
        arrays[f"{name}/normed"] = np.array(normed)
    np.savez_compressed(Path(__file__).parents[1] / "goldens" / "delta_rule.npz", **arrays)


if __name__ == "__main__":
    main()
