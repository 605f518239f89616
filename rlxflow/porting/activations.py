"""The activations of a reference run: a safetensors file that `rlxflow dump-activations` writes.

Keys are `inputs/NAME`, `outputs/NAME`, and `modules/PATH/in` and `modules/PATH/out` for every module that has
weights of its own. Arrays are f32; inputs may be i64. Padded positions hold whatever the reference computed.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from rlxflow.dtypes import Array
from rlxflow.errors import InputError
from rlxflow.quick_dataclass import dataclass
from rlxflow.weights.safetensors import SafetensorsFile

_GROUPS = ("inputs", "outputs", "modules")


@dataclass(frozen=True)
class Activations:
    """Named arrays of one run; `modules` maps a path to what went in and what came out."""

    inputs: Mapping[str, Array]
    outputs: Mapping[str, Array]
    modules: Mapping[str, Mapping[str, Array]]

    @property
    def valid(self) -> Array | None:
        """The attention mask as bool [B, S], where there is one."""
        mask = self.inputs.get("attention_mask")
        return None if mask is None else mask != 0


def read_activations(path: Path) -> Activations:
    """Raises `WeightsError` for a file that is no safetensors file, `InputError` (R090) for other content."""
    file = SafetensorsFile(path)
    inputs: dict[str, Array] = {}
    outputs: dict[str, Array] = {}
    modules: dict[str, dict[str, Array]] = {}
    for key in file.keys():  # noqa: SIM118 (a source is no mapping)
        group, _, name = key.partition("/")
        if group not in _GROUPS or not name:
            raise _not_activations(path, f"it holds a tensor {key!r}")
        array = file.read(key)
        array = array.astype(np.float32) if file.info(key).dtype.is_float else array
        if group == "modules":
            module, _, side = name.rpartition("/")
            modules.setdefault(module, {})[side] = array
        else:
            (inputs if group == "inputs" else outputs)[name] = array
    if not inputs or not modules:
        raise _not_activations(path, "it holds no inputs or no modules")
    mask, ids = inputs.get("attention_mask"), next(iter(inputs.values()))
    if mask is not None and (mask.ndim != 2 or mask.shape != ids.shape[:2]):
        raise _not_activations(path, f"attention_mask is {list(mask.shape)}")
    return Activations(inputs, outputs, modules)


def write_activations(path: Path, activations: Activations) -> None:
    """Write the file; integers as i64, all else as f32. Raises OSError."""
    from safetensors.numpy import save_file

    named = {f"inputs/{name}": array for name, array in activations.inputs.items()}
    named |= {f"outputs/{name}": array for name, array in activations.outputs.items()}
    named |= {
        f"modules/{path}/{side}": array
        for path, sides in activations.modules.items()
        for side, array in sides.items()
    }
    plain = {key: _plain(array) for key, array in named.items()}
    save_file(plain, path, metadata={"format": "rlxflow-activations-1"})


def _plain(array: Array) -> Array:
    kind = np.int64 if array.dtype.kind in "iub" else np.float32
    return np.ascontiguousarray(array, dtype=kind)


def _not_activations(path: Path, why: str) -> InputError:
    hint = "make one with `rlxflow dump-activations`"
    return InputError(f"this is no file of activations: {why}", code="RLX-R090", where=str(path), hint=hint)
