"""Make `goldens/hf_*` of the encoders: outputs of tiny random models as Hugging Face computes them.

Run with torch and transformers:

    python tests/oracles/make_encoder_goldens.py [model_type ...]

A model is written and read back by transformers, with the tensors in the file replaced by those of
`tiny_weights`: keys are those of checkpoints on disk, whatever the classes call them in memory. Models run in
float32 with eager attention. The checks are those of `make_hf_goldens.py`, and fail as there.
"""

from __future__ import annotations

import copy
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from safetensors import safe_open
from safetensors.numpy import save_file

sys.path.insert(0, str(Path(__file__).parents[1]))

from encoder_cases import CASES
from golden_files import within_limits, write_goldens
from goldens import error
from hf_cases import Case, Config
from perturb import NEAR_ACT, NEAR_FIELD, OTHER_ACT, _rope, _with_layers, flipped, times
from tiny_weights import tiny_weights

Arrays = dict[str, np.ndarray]
TOLERANCE = 1e-5
SEED = 1

# class; name of a layer's module list; per sub-block: the module that ends it, and the one whose input or
# output is the residual it is added to ("" is the layer itself)
BERT_BLOCKS = (("attention.output.dense", "", "in"), ("output.dense", "attention.output.LayerNorm", "out"))
MODELS: dict[str, tuple[Any, str, tuple[tuple[str, str, str], ...]]] = {
    "roberta": (transformers.RobertaModel, "encoder.layer", BERT_BLOCKS),
    "xlm-roberta": (transformers.XLMRobertaModel, "encoder.layer", BERT_BLOCKS),
    "mpnet": (
        transformers.MPNetModel,
        "encoder.layer",
        (("attention.attn.o", "", "in"), ("output.dense", "attention.LayerNorm", "out")),
    ),
    "distilbert": (
        transformers.DistilBertModel,
        "transformer.layer",
        (("attention.out_lin", "", "in"), ("ffn.lin2", "sa_layer_norm", "out")),
    ),
    "nomic_bert": (
        transformers.NomicBertModel,
        "layers",
        (("self_attn.o_proj", "", "in"), ("mlp.down_proj", "post_attention_layernorm", "out")),
    ),
    "modernbert": (
        transformers.ModernBertModel,
        "layers",
        (("attn.Wo", "", "in"), ("mlp.Wo", "mlp_norm", "in")),
    ),
}


VISION = {
    "vit": transformers.ViTModel,
    "dinov2": transformers.Dinov2Model,
    "siglip_vision_model": transformers.SiglipVisionModel,
}


def build(config: Config) -> tuple[Any, dict[str, tuple[int, ...]]]:
    """The model of `config` with tiny weights, and the shapes in its checkpoint."""
    kind = config["model_type"]
    model_class = VISION[kind] if kind in VISION else MODELS[kind][0]
    options = {} if config["model_type"] not in POOLED_BY_OPTION else {"add_pooling_layer": False}
    parsed = transformers.AutoConfig.for_model(**copy.deepcopy(config))
    with tempfile.TemporaryDirectory() as folder:
        model_class(parsed, **options).save_pretrained(folder)
        path = Path(folder, "model.safetensors")
        with safe_open(path, "np") as file:
            shapes = {key: tuple(file.get_slice(key).get_shape()) for key in file.keys()}  # noqa: SIM118
        save_file(tiny_weights(shapes, SEED), path, {"format": "pt"})
        model, found = model_class.from_pretrained(
            folder, attn_implementation="eager", output_loading_info=True, **options
        )
    assert not found["missing_keys"] and not found["unexpected_keys"], found
    return model.float().eval(), shapes


COUNTS_ITSELF = {"roberta", "xlm-roberta", "mpnet"}  # positions, from the padding token
POOLED_BY_OPTION = {"roberta", "xlm-roberta", "mpnet", "vit"}


FLAGS = {"modernbert": ("norm_bias", "attention_bias", "mlp_bias")}
TIMES = {"modernbert": ("global_rope_theta", "local_rope_theta")}


def batch(case: Case) -> Arrays:
    """Random ids in the case's lengths, the padding token only where there is padding."""
    random = np.random.default_rng(sum(case.name.encode()))
    shape = (len(case.lengths), max(case.lengths))
    column = np.arange(shape[1])
    lengths = np.array(case.lengths)[:, None]
    mask = column < lengths if case.pad == "right" else column >= shape[1] - lengths
    pad = case.config.get("pad_token_id", 1)
    ids = random.integers(0, case.config["vocab_size"] - 1, shape)
    arrays = {
        "input_ids": np.where(mask, ids + (ids >= pad), pad),
        "attention_mask": mask.astype(np.int64),
        "position_ids": np.maximum(mask.cumsum(axis=1) - 1, 0),
        "token_type_ids": random.integers(0, case.config.get("type_vocab_size", 1), shape) * mask,
    }
    return {name: arrays[name].astype(np.int64) for name in (*case.inputs, "position_ids")}


@torch.no_grad()
def run(model: Any, inputs: Arrays) -> Arrays:
    """The outputs; zero at padded positions."""
    counts = model.config.model_type in COUNTS_ITSELF
    given = {name: value for name, value in inputs.items() if not (counts and name == "position_ids")}
    out = model(**{name: torch.from_numpy(value) for name, value in given.items()})
    hidden = out.last_hidden_state.numpy()
    mask = inputs["attention_mask"][:, :, None].astype(hidden.dtype)
    return {"last_hidden_state": hidden * mask}


@torch.no_grad()
def smallest_contribution(model: Any, inputs: Arrays) -> float:
    """min over sub-blocks of |what the block adds| / |the residual it is added to|, over valid positions."""
    valid = torch.from_numpy(inputs["attention_mask"].astype(bool))
    _, layers, blocks = MODELS[model.config.model_type]
    ratios: list[float] = []
    seen: dict[str, torch.Tensor] = {}

    def keep(name: str) -> Any:
        def hook(_: Any, args: Any, kwargs: Any, output: Any) -> None:
            seen[f"{name}/in"] = args[0] if args else kwargs["hidden_states"]
            seen[f"{name}/out"] = output[0] if isinstance(output, tuple) else output

        return hook

    hooks = []
    for i, layer in enumerate(model.get_submodule(layers)):
        for name in {name for end, residual, _ in blocks for name in (end, residual)}:
            module = layer.get_submodule(name)
            hooks.append(module.register_forward_hook(keep(f"{i}.{name}"), with_kwargs=True))
    run(model, inputs)
    for i in range(len(model.get_submodule(layers))):
        for end, residual, side in blocks:
            block, before = seen[f"{i}.{end}/out"][valid], seen[f"{i}.{residual}/{side}"][valid]
            ratios.append(float(block.norm() / before.norm()))
    for hook in hooks:
        hook.remove()
    return min(ratios)


def perturbations(config: Config) -> Iterator[tuple[str, Config]]:
    """(field, config with that field changed) for every field of `config` that changes the graph."""
    act = next(name for name in ("hidden_act", "activation", "hidden_activation") if name in config)
    for field in ("layer_norm_eps", "norm_eps"):
        if config.get(field, 0.0) > 1e-4:
            yield field, {**config, field: 1e-6}
    yield act, {**config, act: OTHER_ACT[config[act]]}
    if config[act] in NEAR_ACT:
        yield NEAR_FIELD, {**config, act: NEAR_ACT[config[act]]}
    for layers in ("num_hidden_layers", "n_layers"):
        if layers in config:
            yield layers, {**_with_layers(config, config[layers] - 1), layers: config[layers] - 1}
    yield from flipped(config, *FLAGS.get(config["model_type"], ()))
    yield from times(config, *TIMES.get(config["model_type"], ()))
    if config["model_type"] == "nomic_bert":
        yield from _rope({"rope_theta": 1000.0, **config})
    for kind, rope in (config.get("rope_parameters") or {}).items():
        if isinstance(rope, dict):
            changed = {kind: {**rope, "rope_theta": 2 * rope["rope_theta"]}}
            yield f"{kind} theta", {**config, "rope_parameters": {**config["rope_parameters"], **changed}}
    if config.get("layer_types"):
        yield (
            "layer_types",
            {**config, "layer_types": [*config["layer_types"][::-1][1:], "sliding_attention"]},
        )
    if "local_attention" in config and config.get("global_attn_every_n_layers", 3) > 1:
        yield "local_attention", {**config, "local_attention": config["local_attention"] + 2}
    if "global_attn_every_n_layers" in config:
        every = config["global_attn_every_n_layers"]
        yield (
            "global_attn_every_n_layers",
            {**config, "global_attn_every_n_layers": 5 - every if every > 1 else 2},
        )
    for heads, width in (("num_attention_heads", "hidden_size"), ("n_heads", "dim")):
        if heads in config and config["model_type"] != "mpnet":  # its table of biases has a column per head
            factor = next((f for f in (2, 3, 5, 11) if config[width] % (config[heads] * f) == 0), None)
            if factor:
                yield heads, {**config, heads: factor * config[heads]}


def check_perturbations(case: Case, inputs: Arrays, expected: Arrays) -> dict[str, float]:
    """How far the output moves when a field of the config is misread."""
    moved: dict[str, float] = {}
    valid = inputs["attention_mask"].astype(bool)
    for field, config in perturbations(case.config):
        other = run(build(config)[0], inputs)
        moved[field] = error(other["last_hidden_state"], expected["last_hidden_state"], valid)
    if case.config["model_type"] in COUNTS_ITSELF:
        given = {name: torch.from_numpy(value) for name, value in inputs.items()}
        with torch.no_grad():
            shifted = build(case.config)[0](**given).last_hidden_state.numpy()
        moved["first position"] = error(shifted, expected["last_hidden_state"], valid)
    for field in case.idle:
        assert moved.pop(field) == 0.0, (case.name, field)
    return moved


def rounding(case: Case, inputs: Arrays, expected: Arrays) -> float:
    """The distance from the same model in float64, each sequence alone and without padding."""
    model = build(case.config)[0].double()
    worst = 0.0
    for row, mask in enumerate(inputs["attention_mask"].astype(bool)):
        alone = run(model, {name: value[row : row + 1, mask] for name, value in inputs.items()})
        for name, value in alone.items():
            worst = max(worst, error(value[0], expected[name][row, mask]))
    return worst


def make(model_type: str) -> bool:
    """Write the two files of one architecture; whether all checks passed."""
    arrays: Arrays = {}
    records = []
    least: dict[str, list[float]] = defaultdict(list)
    for case in CASES[model_type]:
        model, shapes = build(case.config)
        inputs = batch(case)
        expected = run(model, inputs)
        least["contribution of a sub-block"].append(smallest_contribution(model, inputs))
        least["tolerance / float32 rounding"].append(TOLERANCE / rounding(case, inputs, expected))
        for field, change in check_perturbations(case, inputs, expected).items():
            least[field].append(change / TOLERANCE)
        arrays |= {f"{case.name}/{name}": value for name, value in {**inputs, **expected}.items()}
        records.append({"name": case.name, "tags": case.tags, "config": case.config, "shapes": shapes})

    limits = {"contribution of a sub-block": 0.1, "tolerance / float32 rounding": 4.0, NEAR_FIELD: 10.0}
    print(f"{model_type}: {len(records)} cases; changes in units of the tolerance, {TOLERANCE}")
    write_goldens(f"hf_{model_type.replace('-', '_')}", records, arrays, SEED)
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
