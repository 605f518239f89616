"""Make `goldens/flux.*`: double-stream blocks of FLUX with tiny weights, as diffusers computes them.

Run with torch and diffusers:

    python tests/oracles/make_flux_goldens.py

Each case is a stack of `FluxTransformerBlock`s under one `FluxPosEmbed`. The script fails unless float32
rounding stays under a quarter of the tolerance, and every field misread moves the outputs by 100 times it.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import torch
from diffusers.models.transformers.transformer_flux import FluxPosEmbed, FluxTransformerBlock

sys.path.insert(0, str(Path(__file__).parents[1]))

from goldens import error
from tiny_weights import tiny_weights

GOLDENS = Path(__file__).parents[1] / "goldens"
TOLERANCE = 1e-5
SEED = 1
Arrays = dict[str, np.ndarray]
Config = dict[str, Any]


def flux(**fields: Any) -> Config:
    base = {
        "model_type": "flux_double_stream",
        "num_layers": 1,
        "num_attention_heads": 2,
        "attention_head_dim": 16,
        "axes_dims_rope": [4, 6, 6],
    }
    return {**base, **fields}


# name → config, batch, text tokens, rows and columns of image tokens
CASES: dict[str, tuple[Config, int, int, int, int]] = {
    "plain": (flux(), 2, 5, 3, 4),
    "two_blocks": (flux(num_layers=2), 1, 7, 4, 4),
    "one_head": (flux(num_attention_heads=1, attention_head_dim=32, axes_dims_rope=[8, 12, 12]), 2, 3, 2, 6),
    "two_axes": (flux(axes_dims_rope=[6, 10]), 1, 4, 5, 2),
    "many_heads": (flux(num_attention_heads=4, attention_head_dim=8, axes_dims_rope=[2, 2, 4]), 3, 2, 3, 3),
    "one_text_token": (flux(num_layers=2, qk_norm="rms_norm", guidance_embeds=True), 1, 1, 4, 3),
    "part_of_the_head": (flux(num_attention_heads=3), 2, 6, 1, 5),
}


def build(config: Config) -> tuple[torch.nn.ModuleDict, dict[str, tuple[int, ...]]]:
    heads, head_dim = config["num_attention_heads"], config["attention_head_dim"]
    blocks = [FluxTransformerBlock(heads * head_dim, heads, head_dim) for _ in range(config["num_layers"])]
    model = torch.nn.ModuleDict({"transformer_blocks": torch.nn.ModuleList(blocks)}).eval()
    shapes = {key: tuple(value.shape) for key, value in model.state_dict().items()}
    weights = {key: torch.from_numpy(value) for key, value in tiny_weights(shapes, SEED).items()}
    model.load_state_dict(weights, strict=True)
    return model, shapes


def inputs_of(name: str) -> Arrays:
    config, batch, text, rows, columns = CASES[name]
    random = np.random.default_rng(sum(name.encode()))
    hidden, axes = config["num_attention_heads"] * config["attention_head_dim"], len(config["axes_dims_rope"])
    grid = np.stack(np.meshgrid(np.arange(rows), np.arange(columns), indexing="ij"), -1).reshape(-1, 2)
    image_ids = np.concatenate([np.zeros((len(grid), axes - 2), np.int64), grid], 1)
    return {
        "img": random.standard_normal((batch, rows * columns, hidden)).astype(np.float32),
        "txt": random.standard_normal((batch, text, hidden)).astype(np.float32),
        "temb": (random.standard_normal((batch, hidden)) * 0.2).astype(np.float32),
        "img_ids": np.broadcast_to(image_ids, (batch, *image_ids.shape)).astype(np.int64),
        "txt_ids": np.zeros((batch, text, axes), np.int64),
    }


@torch.no_grad()
def run(config: Config, inputs: Arrays, double: bool = False) -> Arrays:
    model = build(config)[0]
    given = {name: torch.from_numpy(np.ascontiguousarray(value)) for name, value in inputs.items()}
    if double:
        model = model.double()
        given = {name: v.double() if v.dtype == torch.float32 else v for name, v in given.items()}
    ids = torch.cat([given["txt_ids"][0], given["img_ids"][0]])
    rotary = FluxPosEmbed(theta=10000, axes_dim=config["axes_dims_rope"])(ids)
    img, txt = given["img"], given["txt"]
    for block in model["transformer_blocks"]:
        txt, img = block(img, txt, given["temb"], image_rotary_emb=rotary)
    return {"out_img": img.numpy(), "out_txt": txt.numpy()}


def misread(config: Config) -> Iterator[tuple[str, Config]]:
    yield "num_layers", {**config, "num_layers": config["num_layers"] - 1}
    axes = config["axes_dims_rope"]
    if len(set(axes[1:])) > 1 or axes[0] != axes[-1]:
        yield "axes_dims_rope", {**config, "axes_dims_rope": axes[::-1]}


def main() -> None:
    torch.set_num_threads(1)
    arrays: Arrays = {}
    records = []
    for name, (config, *_) in CASES.items():
        inputs = inputs_of(name)
        expected = run(config, inputs)
        exact = run(config, inputs, double=True)
        rounding = max(error(expected[n], exact[n]) for n in expected)
        assert rounding <= TOLERANCE / 4, (name, rounding)
        for field, other in misread(config):
            found = run(other, inputs)
            moved = max(error(found[n], expected[n]) for n in expected)
            assert moved >= 100 * TOLERANCE, (name, field, moved)
        arrays |= {f"{name}/{key}": value for key, value in {**inputs, **expected}.items()}
        records.append({"name": name, "config": config, "shapes": build(config)[1]})
        print(name, f"rounding {rounding:.1e}")
    versions = {"diffusers": diffusers.__version__, "torch": torch.__version__}
    record = {"made_with": versions, "seed": SEED, "cases": records}
    (GOLDENS / "flux.json").write_text(json.dumps(record) + "\n", encoding="utf-8")
    np.savez_compressed(GOLDENS / "flux.npz", **arrays)


if __name__ == "__main__":
    main()
