"""Make `goldens/vision_*`: outputs of tiny random vision encoders as Hugging Face computes them.

Run with torch and transformers:

    python tests/oracles/make_vision_goldens.py [model_type ...]

As `make_encoder_goldens.py`, with images in place of tokens, and the same checks.
"""

from __future__ import annotations

import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers

sys.path.insert(0, str(Path(__file__).parents[1]))

from golden_files import within_limits, write_goldens
from goldens import error
from hf_cases import Config
from make_encoder_goldens import SEED, TOLERANCE, Arrays, build
from perturb import NEAR_ACT, NEAR_FIELD, OTHER_ACT, flipped
from tiny_weights import tiny_images
from vision_cases import CASES

# per sub-block: the module that ends it, and the one whose input is the residual it is added to
BLOCKS = {
    "vit": ("layers", (("attention.o_proj", ""), ("mlp.fc2", "layernorm_after"))),
    "dinov2": ("encoder.layer", (("layer_scale1", ""), ("layer_scale2", "norm2"))),
    "siglip_vision_model": ("encoder.layers", (("self_attn.out_proj", ""), ("mlp.fc2", "layer_norm2"))),
}
FLAGS = {"vit": ("qkv_bias",), "dinov2": ("qkv_bias", "use_swiglu_ffn")}


@torch.no_grad()
def run(model: Any, images: np.ndarray) -> Arrays:
    """The outputs; `pooler_output` of SigLIP's head only, where it is no slice of the other."""
    out = model(pixel_values=torch.from_numpy(images).to(model.dtype))
    arrays = {"last_hidden_state": out.last_hidden_state.numpy()}
    if getattr(model, "use_head", False):
        arrays["pooler_output"] = out.pooler_output.numpy()
    return arrays


@torch.no_grad()
def smallest_contribution(model: Any, images: np.ndarray) -> float:
    """min over sub-blocks of |what the block adds| / |the residual it is added to|."""
    layers, blocks = BLOCKS[model.config.model_type]
    seen: dict[str, torch.Tensor] = {}

    def keep(name: str) -> Any:
        def hook(_: Any, args: Any, kwargs: Any, output: Any) -> None:
            seen[f"{name}/in"] = args[0] if args else kwargs["hidden_states"]
            seen[f"{name}/out"] = output

        return hook

    count = len(model.get_submodule(layers))
    hooks = [
        layer.get_submodule(name).register_forward_hook(keep(f"{i}.{name}"), with_kwargs=True)
        for i, layer in enumerate(model.get_submodule(layers))
        for name in {name for pair in blocks for name in pair}
    ]
    run(model, images)
    for hook in hooks:
        hook.remove()
    pairs = [(f"{i}.{end}/out", f"{i}.{residual}/in") for i in range(count) for end, residual in blocks]
    return min(float(seen[out].norm() / seen[before].norm()) for out, before in pairs)


def perturbations(config: Config) -> Iterator[tuple[str, Config]]:
    """(field, config with that field changed) for every field of `config` that changes the graph."""
    if config["layer_norm_eps"] > 1e-4:
        yield "layer_norm_eps", {**config, "layer_norm_eps": 1e-6}
    act = config.get("hidden_act", "gelu")
    if not config.get("use_swiglu_ffn"):
        yield "hidden_act", {**config, "hidden_act": OTHER_ACT[act]}
        yield from ((NEAR_FIELD, {**config, "hidden_act": NEAR_ACT[a]}) for a in [act] if a in NEAR_ACT)
    yield "num_hidden_layers", {**config, "num_hidden_layers": config["num_hidden_layers"] - 1}
    heads, hidden = config["num_attention_heads"], config["hidden_size"]
    factor = next((f for f in (2, 3, 5, 11) if hidden % (heads * f) == 0), None)
    if factor:
        yield "num_attention_heads", {**config, "num_attention_heads": factor * heads}
    yield from flipped({"qkv_bias": True, **config}, *FLAGS.get(config["model_type"], ()))
    if isinstance(config["patch_size"], list):
        yield "patch_size", {**config, "patch_size": config["patch_size"][::-1]}


def make(model_type: str) -> bool:
    """Write the two files of one architecture; whether all checks passed."""
    arrays: Arrays = {}
    records = []
    least: dict[str, list[float]] = defaultdict(list)
    for case in CASES[model_type]:
        model, shapes = build(case.config)
        images = tiny_images(case.name, case.shape)
        expected = run(model, images)
        least["contribution of a sub-block"].append(smallest_contribution(model, images))
        exact = run(build(case.config)[0].double(), images)
        rounding = max(error(expected[name], exact[name]) for name in expected)
        least["tolerance / float32 rounding"].append(TOLERANCE / rounding)
        for field, config in perturbations(case.config):
            try:
                other = run(build(config)[0], images)
            except RuntimeError:  # another number of patches
                continue
            moved = max(error(other[name], expected[name]) for name in expected)
            least[field].append(moved / TOLERANCE)
        arrays |= {f"{case.name}/{name}": value for name, value in expected.items()}
        record = {"name": case.name, "tags": (), "images": case.shape, "config": case.config}
        records.append({**record, "shapes": shapes})

    limits = {"contribution of a sub-block": 0.1, "tolerance / float32 rounding": 4.0, NEAR_FIELD: 10.0}
    print(f"{model_type}: {len(records)} cases; changes in units of the tolerance, {TOLERANCE}")
    write_goldens(f"vision_{model_type}", records, arrays, SEED)
    return within_limits(least, limits)


def main() -> None:
    torch.set_num_threads(1)
    transformers.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    results = [make(model_type) for model_type in sys.argv[1:] or CASES]
    if not all(results):
        raise SystemExit("a check failed")


if __name__ == "__main__":
    main()
