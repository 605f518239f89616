"""Typed access to the architecture's keys in GGUF metadata, and the check that none is left over."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NoReturn

from rlxflow.errors import ConfigError, printable

if TYPE_CHECKING:
    from rlxflow.weights.gguf import GgufFile

CONVERT_AGAIN = "the file was converted wrongly; convert the model again"
MAX_LAYERS = 100_000
MAX_SIZE = 1 << 31

# Keys that change nothing unless something asks for them: they repeat what the tensors say, serve other
# stages, or matter to some rotary scalings only.
_NO_EFFECT = {
    "vocab_size",
    "pooling_type",
    "tensor_data_layout",
    "rope.scaling.finetuned",
    "rope.scaling.original_context_length",
}
# Keys that change nothing at one value, which writers sometimes spell out.
_NEUTRAL: dict[str, Any] = {
    "expert_count": 0,
    "expert_used_count": 0,
    "use_parallel_residual": False,
    "attention.max_alibi_bias": 0,
    "attention.clamp_kqv": 0,
    "logit_scale": 1,
    "rope.scaling.attn_factor": 1,
    "rope.scaling.yarn_log_multiplier": 0,
}


def gguf_architecture(file: GgufFile) -> str:
    """`general.architecture`, by which the recipe of a GGUF file is found; `ConfigError` without one."""
    value = file.metadata.get("general.architecture")
    if isinstance(value, str):
        return value
    kind = "is not a string" if value is not None else "is missing"
    message = f"general.architecture {kind} in the GGUF metadata"
    raise ConfigError(message, code="RLX-C040", where=printable(file.path), hint=CONVERT_AGAIN)


class GgufValues:
    """Typed access to the `<architecture>.` keys, remembering which have been used."""

    def __init__(self, file: GgufFile) -> None:
        self.file = file
        self.architecture = gguf_architecture(file)
        prefix = self.architecture + "."
        self._values = {k.removeprefix(prefix): v for k, v in file.metadata.items() if k.startswith(prefix)}
        self._used: set[str] = set()
        self._tensors = set(file.keys())

    def has(self, key: str) -> bool:
        return key in self._values

    def has_tensor(self, name: str) -> bool:
        return name in self._tensors

    def integer(self, key: str, default: int | None = None, *, low: int = 1, high: int = MAX_SIZE) -> int:
        """A whole number in [low, high]; required unless there is a default."""
        value = self._take(key, default)
        if isinstance(value, bool) or not isinstance(value, int):
            self._wrong_type(key, value, "a whole number")
        if not low <= value <= high:
            self.fail("RLX-C042", f"{self.name(key)} is {value}, outside {low} to {high}", CONVERT_AGAIN)
        return value

    def number(self, key: str, default: float | None = None, *, positive: bool = True) -> float:
        """A finite number, above zero unless `positive` is off."""
        value = self._take(key, default)
        if isinstance(value, bool) or not isinstance(value, int | float):
            self._wrong_type(key, value, "a number")
        if not math.isfinite(value) or (positive and value <= 0):
            kind = "a finite number above zero" if positive else "finite"
            self.fail("RLX-C042", f"{self.name(key)} is {value}, not {kind}", CONVERT_AGAIN)
        return float(value)

    def text(self, key: str, default: str | None = None) -> str:
        value = self._take(key, default)
        if not isinstance(value, str):
            self._wrong_type(key, value, "a string")
        return value

    def boolean(self, key: str, default: bool | None = None) -> bool:
        value = self._take(key, default)
        if not isinstance(value, bool):
            self._wrong_type(key, value, "true or false")
        return value

    def per_layer(self, key: str, layers: int, default: int | None = None) -> int:
        """A whole number that may be given once or once per layer; all layers must agree."""
        value = self._take(key, default)
        if isinstance(value, list):
            if len(value) != layers:
                message = f"{self.name(key)} has {len(value)} values for {layers} layers"
                self.fail("RLX-C043", message, CONVERT_AGAIN)
            if any(item != value[0] or type(item) is not type(value[0]) for item in value):
                hint = "only models whose layers are all alike are supported"
                self.fail("RLX-C044", f"{self.name(key)} differs from layer to layer", hint)
            self._values[key] = value[0]
        return self.integer(key, default)

    def fail(self, code: str, message: str, hint: str) -> NoReturn:
        raise ConfigError(message, code=code, where=printable(self.file.path), hint=hint)

    def name(self, key: str) -> str:
        return f"{self.architecture}.{printable(key)}"

    def check_all_used(self) -> None:
        """Raise for keys that no one asked for and that could have an effect."""
        left = {
            key
            for key, value in self._values.items()
            if key not in self._used | _NO_EFFECT and not (key in _NEUTRAL and value == _NEUTRAL[key])
        }
        if left:
            names = ", ".join(self.name(key) for key in sorted(left)[:8])
            more = f" and {len(left) - 8} more" if len(left) > 8 else ""
            hint = "they may change what the model computes; a newer rlxflow may know them"
            self.fail("RLX-C044", f"GGUF keys that are not understood: {names}{more}", hint)

    def _take(self, key: str, default: Any) -> Any:
        self._used.add(key)
        value = self._values.get(key, default)
        if value is None:
            self.fail("RLX-C041", f"the GGUF metadata has no {self.name(key)}", CONVERT_AGAIN)
        return value

    def _wrong_type(self, key: str, value: Any, wanted: str) -> NoReturn:
        self.fail(
            "RLX-C042", f"{self.name(key)} is {printable(repr(value), 60)}, not {wanted}", CONVERT_AGAIN
        )
