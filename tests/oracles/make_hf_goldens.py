"""Make `goldens/hf_*`: outputs of tiny random models as Hugging Face computes them.

Run with torch and transformers:

    python tests/oracles/make_hf_goldens.py [model_type ...]

Models run in float32 with eager attention. Weights are those of `tiny_weights`, loaded by name and strictly.
`tests/goldens.py` reads the files and says what they hold. The configs are in `hf_cases.py` and, one file
for each `model_type`, in `cases/`: a new architecture is one new file there.

The script fails unless, in every case, each sub-block moves the residual by 10 % or more, float32 rounding
(against the same model in float64, each sequence alone) stays under a quarter of the tolerance, and every
field of the config that changes the graph moves the output by 100 times the tolerance or more when misread.
Only the two forms of GELU are nearer to each other: 10 times, and 1.5 in Gemma 2 and 3. `perturb.py` lists
the fields. The smallest of each is printed.
"""

from __future__ import annotations

import copy
import sys
from collections import defaultdict
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers

sys.path.insert(0, str(Path(__file__).parents[1]))

import hf_cases
from golden_files import within_limits, write_goldens
from goldens import error
from hf_cases import Case, Config
from perturb import NEAR_FIELD, perturbations
from tiny_weights import tiny_weights

TOLERANCE = 1e-5
SEED = 1
SOFT_GELU = ("gemma2", "gemma3_text")  # they norm what an FFN gives, large as it is, before they add it

MODEL_CLASSES = {"bert": lambda config: transformers.BertModel(config, add_pooling_layer=False)}
Arrays = dict[str, np.ndarray]


def cases_of() -> dict[str, list[Case]]:
    """The cases by `model_type`: those in one file, and those of `cases/<model_type>.py`."""
    files = sorted((Path(__file__).parent / "cases").glob("*.py"))
    return hf_cases.CASES | {f.stem: import_module(f"cases.{f.stem}").CASES for f in files}


CASES = cases_of()


def build(config: Config) -> tuple[Any, dict[str, tuple[int, ...]]]:
    """The Hugging Face model of `config` with tiny weights, and the shapes of its parameters (ties once)."""
    parsed = transformers.AutoConfig.for_model(**copy.deepcopy(config))
    parsed._attn_implementation = "eager"
    cls = MODEL_CLASSES.get(config["model_type"]) or getattr(transformers, config["architectures"][0])
    model = cls(parsed).float().eval()
    shapes = {name: tuple(p.shape) for name, p in model.named_parameters()}
    state = {name: torch.from_numpy(value) for name, value in tiny_weights(shapes, SEED).items()}
    if parsed.tie_word_embeddings and "lm_head.weight" in model.state_dict():
        assert "lm_head.weight" not in shapes
        state["lm_head.weight"] = state["model.embed_tokens.weight"]
    model.load_state_dict(state, strict=True)
    return model, shapes


def batch(case: Case) -> Arrays:
    """Random ids in the case's lengths; positions count from 0 at the first valid token."""
    random = np.random.default_rng(sum(case.name.encode()))
    shape = (len(case.lengths), max(case.lengths))
    column = np.arange(shape[1])
    lengths = np.array(case.lengths)[:, None]
    mask = column < lengths if case.pad == "right" else column >= shape[1] - lengths
    arrays = {
        "input_ids": np.where(mask, random.integers(0, case.config["vocab_size"], shape), 0),
        "attention_mask": mask.astype(np.int64),
        "position_ids": np.maximum(mask.cumsum(axis=1) - 1, 0),
        "token_type_ids": random.integers(0, case.config.get("type_vocab_size", 1), shape) * mask,
    }
    return {name: arrays[name].astype(np.int64) for name in case.inputs}


@torch.no_grad()
def run(model: Any, inputs: Arrays) -> np.ndarray:
    """`logits`, or `last_hidden_state` of an encoder; zero at padded positions."""
    out = model(**{name: torch.from_numpy(value) for name, value in inputs.items()})
    values = (out.logits if "logits" in out else out.last_hidden_state).numpy()
    return values * inputs["attention_mask"][:, :, None].astype(values.dtype)


@torch.no_grad()
def smallest_contribution(model: Any, inputs: Arrays) -> float:
    """min over sub-blocks of |how the block moves the residual| / |the residual|, over valid positions."""
    return _by_norms(model, inputs) if model.config.model_type == "bert" else _by_silence(model, inputs)


def _by_silence(model: Any, inputs: Arrays) -> float:
    """Each layer once more without its attention, and without its feed-forward network."""
    valid = torch.from_numpy(inputs["attention_mask"].astype(bool))
    calls: list[tuple[Any, Any, Any, torch.Tensor]] = []
    hooks = [
        layer.register_forward_hook(lambda *call: calls.append(call), with_kwargs=True)
        for layer in model.model.layers
    ]
    run(model, inputs)
    for hook in hooks:
        hook.remove()
    moved = []
    for layer, args, kwargs, output in calls:
        for block in (layer.self_attn, layer.mlp):
            hook = block.register_forward_hook(lambda _, args, output: _zeros(output))
            moved.append(
                (layer(*args, **{**kwargs, "past_key_values": None}) - output)[valid].norm()
                / output[valid].norm()
            )
            hook.remove()
    return float(min(moved))


def _zeros(output: Any) -> Any:
    return (_zeros(output[0]), *output[1:]) if isinstance(output, tuple) else torch.zeros_like(output)


def _by_norms(model: Any, inputs: Arrays) -> float:
    """By what each norm of an encoder with norms behind its blocks is given and gives."""
    valid = torch.from_numpy(inputs["attention_mask"].astype(bool))
    seen: list[tuple[torch.Tensor, torch.Tensor]] = []
    hooks = [
        module.register_forward_hook(lambda _, args, output: seen.append((args[0][valid], output[valid])))
        for name, module in model.named_modules()
        if name.lower().endswith(("layernorm", ".norm"))
    ]
    run(model, inputs)
    for hook in hooks:
        hook.remove()
    before = [output for _, output in seen[:-1]]
    after = [value for value, _ in seen[1:]]
    return min(float((b - a).norm() / a.norm()) for a, b in zip(before, after, strict=True))


def misread(config: Config) -> Iterator[tuple[str, Config]]:
    """What `cases/<model_type>.py` says may be misread beside the fields that `perturb.py` knows."""
    name = f"cases.{config['model_type']}"
    return import_module(name).misread(config) if name in sys.modules else iter(())


def check_perturbations(case: Case, inputs: Arrays, expected: np.ndarray) -> dict[str, float]:
    """How far the output moves when a field of the config is misread."""
    valid = inputs["attention_mask"].astype(bool)
    moved: dict[str, float] = {}
    for field, config in (*perturbations(case.config), *misread(case.config)):
        try:
            moved[field] = error(run(build(config)[0], inputs), expected, valid)
        except Exception as problem:
            problem.add_note(f"in case {case.name!r} with another {field}: choose sizes that it fits")
            raise
    for field in case.idle:
        assert moved.pop(field) == 0.0, (case.name, field)
    return moved


def rounding(case: Case, inputs: Arrays, expected: np.ndarray) -> float:
    """The distance from the same model in float64, each sequence alone and without padding."""
    model = build(case.config)[0].double()
    worst = 0.0
    for row, mask in enumerate(inputs["attention_mask"].astype(bool)):
        alone = run(model, {name: value[row : row + 1, mask] for name, value in inputs.items()})
        worst = max(worst, error(alone[0], expected[row, mask]))
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
        output = "logits" if "lm_head.weight" in model.state_dict() else "last_hidden_state"
        least["contribution of a sub-block"].append(smallest_contribution(model, inputs))
        least["tolerance / float32 rounding"].append(TOLERANCE / rounding(case, inputs, expected))
        for field, change in check_perturbations(case, inputs, expected).items():
            least[field].append(change / TOLERANCE)
        arrays |= {f"{case.name}/{name}": value for name, value in {**inputs, output: expected}.items()}
        records.append({"name": case.name, "tags": case.tags, "config": case.config, "shapes": shapes})

    limits = {"contribution of a sub-block": 0.1, "tolerance / float32 rounding": 4.0}
    limits[NEAR_FIELD] = 1.5 if model_type in SOFT_GELU else 10.0
    print(f"{model_type}: {len(records)} cases; changes in units of the tolerance, {TOLERANCE}")
    write_goldens(f"hf_{model_type}", records, arrays, SEED)
    return within_limits(least, limits)


def main() -> None:
    torch.set_num_threads(1)
    transformers.logging.set_verbosity_error()
    results = [make(model_type) for model_type in sys.argv[1:] or CASES]
    if not all(results):
        raise SystemExit("a check failed")


if __name__ == "__main__":
    main()
