"""Rotary settings of a config, in the old spelling (`rope_scaling`) and the new (`rope_parameters`)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NoReturn

from rlxflow.errors import ConfigError, GraphError, nearest, printable
from rlxflow.ir.attrs import freeze
from rlxflow.ops.rope_frequencies import KINDS, Scaling, inverse_frequencies
from rlxflow.quick_dataclass import dataclass

# What each kind reads beside `_SHARED`, as in HF `modeling_rope_utils`; anything else given to it is refused.
_CONTEXT = "original_max_position_embeddings"
_SETTINGS: dict[str, tuple[str, ...]] = {
    "default": (),
    "linear": ("factor",),
    "dynamic": ("factor", _CONTEXT),
    "llama3": ("factor", "low_freq_factor", "high_freq_factor", _CONTEXT),
    "yarn": (
        *("factor", _CONTEXT, "attention_factor", "beta_fast", "beta_slow"),
        *("mscale", "mscale_all_dim", "truncate"),
    ),
    "longrope": ("factor", _CONTEXT, "attention_factor", "short_factor", "long_factor"),
}
_SHARED = ("rope_type", "rope_theta", "partial_rotary_factor")
_MAY_CHANGE = "they may change the numbers, so nothing is loaded"


@dataclass(frozen=True)
class RopeConfig:
    """theta, rotary_dim = head_dim · partial factor, and the scaling as pairs for `RopeTablesStage`."""

    rotary_dim: int
    theta: float
    scaling: Scaling

    @property
    def stretch(self) -> float:
        """How many times max_position_embeddings it reaches: the factor of the kind `dynamic`, which counts
        that length as the one before scaling."""
        settings = dict(self.scaling)
        return float(settings["factor"]) if settings.get("rope_type") == "dynamic" else 1.0


def rope_config(
    *,
    head_dim: int,
    rope_theta: float | None,
    rope_scaling: Mapping[str, Any] | None = None,
    rope_parameters: Mapping[str, Any] | None,
    max_position_embeddings: int,
    original_max_position_embeddings: int | None = None,
    partial_rotary_factor: float | None = None,
    default_theta: float | None = None,
) -> RopeConfig:
    """One meaning from both spellings.

    A setting may be given twice if both say the same. `default_theta` is the base of a config that gives
    none. Raises `ConfigError`: C006 unknown kind, C003 a setting that the kind does not read, C007 no base,
    C008 a value that does not fit, C009 two spellings that contradict each other.
    """
    beside = {"rope_theta": rope_theta, "partial_rotary_factor": partial_rotary_factor}
    new, old = (_one_spelling(given, beside) for given in (rope_parameters, rope_scaling))
    _want_same(new, old)
    settings = new or old or {name: value for name, value in beside.items() if value is not None}
    kind = _kind(settings)
    _want_known(kind, settings)
    theta = settings.get("rope_theta", default_theta)
    if theta is None:
        _fail("RLX-C007", "no rope_theta", "add it to the config: the base is never guessed")
    rotary_dim = int(head_dim * _positive("partial_rotary_factor", settings.get("partial_rotary_factor", 1)))
    if rotary_dim % 2 or not 0 < rotary_dim <= head_dim:
        message = f"{rotary_dim} of head_dim {head_dim} channels are rotary"
        _fail("RLX-C008", message, "their number must be even, above 0 and at most head_dim")
    scaling = _scaling(kind, settings, max_position_embeddings, original_max_position_embeddings)
    theta = _positive("rope_theta", theta)
    try:
        inverse_frequencies(rotary_dim, theta, scaling, 1)
    except GraphError as error:
        _fail("RLX-C008", error.message, error.hint)
    return RopeConfig(rotary_dim, theta, scaling)


def _one_spelling(given: Mapping[str, Any] | None, beside: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of one dictionary with those that the config gives beside it; nulls mean absent."""
    settings = {name: value for name, value in (given or {}).items() if value is not None}
    if not settings:
        return {}
    old_name = settings.pop("type", None)
    if settings.setdefault("rope_type", old_name or "default") != (old_name or settings["rope_type"]):
        _conflict("rope_type", settings["rope_type"], old_name)
    for name, value in beside.items():
        if value is not None and settings.setdefault(name, value) != value:
            _conflict(name, settings[name], value)
    return settings


def _want_same(new: Mapping[str, Any], old: Mapping[str, Any]) -> None:
    """Which of two spellings wins differs between versions of transformers, so they must agree."""
    if new and old:
        for name in dict.fromkeys((*new, *old)):
            if new.get(name) != old.get(name):
                _conflict(name, new.get(name), old.get(name))


def _kind(settings: Mapping[str, Any]) -> str:
    kind = settings.get("rope_type", "default")
    if not isinstance(kind, str) or kind not in KINDS:
        hint = nearest(str(kind), KINDS) or f"supported: {', '.join(KINDS)}"
        _fail("RLX-C006", f"unknown rope type {printable(repr(kind), 60)}", hint)
    return kind


def _want_known(kind: str, settings: Mapping[str, Any]) -> None:
    names = (*_SHARED, *_SETTINGS[kind])
    unknown = sorted(set(settings) - set(names))
    if unknown:
        shown = ", ".join(printable(name, 60) for name in unknown[:8])
        message = f"rope type {kind!r} does not read {len(unknown)} of its settings: {shown}"
        _fail("RLX-C003", message, nearest(unknown[0], names) or _MAY_CHANGE)


def _scaling(kind: str, settings: Mapping[str, Any], max_positions: int, original: int | None) -> Scaling:
    """Only the settings the kind reads, with Hugging Face's defaults for the context sizes."""
    if kind == "default":
        return ()
    used = {name: settings[name] for name in _SETTINGS[kind] if name in settings}
    if _CONTEXT in _SETTINGS[kind]:
        # dynamic counts from max_position_embeddings, whatever else a config says
        known = max_positions if kind == "dynamic" else original
        if known is not None and used.setdefault(_CONTEXT, known) != known:
            _conflict(_CONTEXT, used[_CONTEXT], known)
        used.setdefault(_CONTEXT, max_positions)
    for name, value in used.items():
        if name == "truncate":
            _want(isinstance(value, bool), name, value, "it is true or false")
        elif name in ("short_factor", "long_factor"):
            _want(isinstance(value, list), name, value, "it is a list of positive numbers")
            used[name] = [_positive(name, item) for item in value]
        elif name == _CONTEXT:
            _want(type(value) is int and 0 < value < 2**31, name, value, "it is a number of tokens")
        else:
            used[name] = _positive(name, value)
    if kind in ("yarn", "longrope"):
        used.setdefault("factor", max_positions / used[_CONTEXT])
    frozen: Scaling = freeze({"rope_type": kind, **used})
    return frozen


def _positive(name: str, value: Any) -> float:
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    _want(number and 0 < value < 1e30, name, value, "it must be a positive number")
    return float(value)


def _want(condition: bool, name: str, value: Any, hint: str) -> None:
    if not condition:
        _fail("RLX-C008", f"{name} is {printable(repr(value), 40)}", hint)


def _conflict(name: str, one: Any, other: Any) -> NoReturn:
    shown = f"{printable(repr(one), 40)} and {printable(repr(other), 40)}"
    _fail("RLX-C009", f"{printable(name, 60)} has two values, {shown}", "keep one of the two spellings")


def _fail(code: str, message: str, hint: str) -> NoReturn:
    raise ConfigError(message, code=code, where="rope settings", hint=hint)
