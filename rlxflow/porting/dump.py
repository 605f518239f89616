"""Recording what Hugging Face's implementation computes. Only this needs torch and transformers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from rlxflow.dtypes import Array
from rlxflow.errors import BackendError, ConfigError, InputError, printable
from rlxflow.porting.activations import Activations

LENGTHS = (13, 7)  # of the random sequences that stand in where no prompt is given
OUTPUTS = ("logits", "last_hidden_state", "pooler_output")


def dump_activations(directory: Path, prompts: Sequence[str] = (), seed: int = 0) -> Activations:
    """Run the model of a Hugging Face directory in float32 and record every module that has weights.

    Without prompts, the inputs are two random sequences, the second padded; image models get random pixels.
    Only local files are read, no code of the directory is run, and weights must be safetensors. Raises
    `BackendError` (B090) where torch or transformers are missing, `ConfigError` (C090) for what transformers
    cannot load.
    """
    torch, transformers = _libraries()
    try:
        config = transformers.AutoConfig.from_pretrained(directory, local_files_only=True)
        model = _model_class(transformers, config).from_pretrained(
            directory,
            config=config,
            local_files_only=True,
            use_safetensors=True,
            attn_implementation="eager",
            dtype=torch.float32,
        )
    except (OSError, ValueError, KeyError, TypeError, RuntimeError) as error:
        message = f"transformers cannot load this model: {printable(error, 200)}"
        hint = "give a Hugging Face directory with config.json and safetensors"
        raise ConfigError(message, code="RLX-C090", where=str(directory), hint=hint) from error
    inputs = _inputs(transformers, directory, config, prompts, seed)
    return record(torch, model.eval(), inputs)


def record(torch: Any, model: Any, inputs: dict[str, Array]) -> Activations:
    """Call a torch model, keeping what goes in and out of every module with parameters of its own."""
    modules: dict[str, dict[str, Array]] = {}
    hooks = [
        module.register_forward_hook(_keeper(torch, modules.setdefault(path, {})))
        for path, module in model.named_modules()
        if path and any(True for _ in module.parameters(recurse=False))
    ]
    try:
        with torch.no_grad():
            result = model(**{name: torch.from_numpy(np.ascontiguousarray(a)) for name, a in inputs.items()})
    finally:
        for hook in hooks:
            hook.remove()
    found = {name: result[name] for name in OUTPUTS if name in result and torch.is_tensor(result[name])}
    outputs = {name: _numpy(tensor) for name, tensor in found.items()}
    return Activations(inputs, outputs, {path: sides for path, sides in modules.items() if sides})


def _libraries() -> tuple[Any, Any]:
    try:
        return import_module("torch"), import_module("transformers")
    except ImportError as error:
        raise BackendError(
            f"recording Hugging Face activations needs {error.name or 'torch'}",
            code="RLX-B090",
            hint="pip install torch transformers, or give a file that was recorded elsewhere",
        ) from error


def _model_class(transformers: Any, config: Any) -> Any:
    """The class the directory was saved from, where transformers has it."""
    for name in config.architectures or ():
        found = getattr(transformers, name, None)
        if found is not None and name.endswith(("ForCausalLM", "Model")):
            return found
    return transformers.AutoModel


def _inputs(
    transformers: Any, directory: Path, config: Any, prompts: Sequence[str], seed: int
) -> dict[str, Array]:
    random = np.random.default_rng(seed)
    vision = getattr(config, "vision_config", config)
    if getattr(config, "vocab_size", None) is None and hasattr(vision, "image_size"):
        size = vision.image_size
        height, width = size if isinstance(size, (list, tuple)) else (size, size)
        channels = getattr(vision, "num_channels", 3)
        return {"pixel_values": random.standard_normal((2, channels, height, width)).astype(np.float32)}
    if not prompts:
        return random_tokens(config.vocab_size, random, getattr(config, "pad_token_id", None))
    try:
        tokenizer = transformers.AutoTokenizer.from_pretrained(
            directory, local_files_only=True, padding_side="right"
        )
        if tokenizer.pad_token is None:
            tokenizer.pad_token = tokenizer.eos_token
        encoded = tokenizer(list(prompts), padding=True, return_tensors="np")
    except (OSError, ValueError, KeyError, TypeError) as error:
        message = f"the prompts cannot be tokenised: {printable(error, 200)}"
        raise InputError(
            message, code="RLX-R091", where=str(directory), hint="leave --prompt out for random tokens"
        ) from error
    return {name: np.asarray(array, np.int64) for name, array in encoded.items()}


def random_tokens(vocab_size: int, random: np.random.Generator, pad: int | None = None) -> dict[str, Array]:
    """Ids in LENGTHS, padded on the right, and their mask. The padding id is no other token's."""
    columns, lengths = np.arange(max(LENGTHS)), np.array(LENGTHS)[:, None]
    mask = columns < lengths
    pad = pad if pad is not None and 0 <= pad < vocab_size else 0
    ids = random.integers(0, vocab_size - 1, mask.shape)
    ids = np.where(mask, ids + (ids >= pad), pad)
    return {"input_ids": ids.astype(np.int64), "attention_mask": mask.astype(np.int64)}


def _keeper(torch: Any, sides: dict[str, Array]) -> Callable[..., None]:
    def keep(module: Any, args: tuple[Any, ...], result: Any) -> None:
        out = result[0] if isinstance(result, tuple) else result
        tensors: dict[str, Any] = {"in": args[0] if args else None, "out": out}
        for side, tensor in tensors.items():
            if torch.is_tensor(tensor) and tensor.is_floating_point():
                sides.setdefault(side, _numpy(tensor))  # of a module that runs again, the first run

    return keep


def _numpy(tensor: Any) -> Array:
    array: Array = tensor.detach().float().cpu().numpy().copy()
    return array
