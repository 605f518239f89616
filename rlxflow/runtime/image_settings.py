"""How a vision model wants its images: the settings in preprocessor_config.json."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from rlxflow.errors import ConfigError, printable
from rlxflow.quick_dataclass import dataclass
from rlxflow.weights.json_file import read_json

Side = Annotated[int, Field(gt=0, le=16384)]
Number = Annotated[float, Field(allow_inf_nan=False, ge=-1e6, le=1e6)]
Spread = Annotated[float, Field(gt=1e-6, le=1e6)]
Sides = Side | dict[Literal["height", "width", "shortest_edge"], Side]

# what says where an image comes from or what a result is wrapped in, or is the default here
_IGNORED = frozenset(
    [
        *("image_processor_type", "feature_extractor_type", "processor_class", "_valid_processor_keys"),
        *("data_format", "input_data_format", "return_tensors", "device", "default_to_square", "use_fast"),
        *("do_convert_rgb", "disable_grouping", "auto_map", "transformers_version"),
    ]
)


@dataclass(frozen=True)
class ImageSettings:
    """RGB → resize → centre crop → times `factor` → minus `mean`, over `std`.

    `resize` is (height, width), one number for the shorter side, or None; `resample` a filter by Pillow's
    number; `crop` (height, width) or None. `size` is the height and width of the result.
    """

    resize: tuple[int, int] | int | None
    resample: int
    crop: tuple[int, int] | None
    factor: float
    mean: tuple[float, ...]
    std: tuple[float, ...]

    @property
    def size(self) -> tuple[int, int]:
        if self.crop is not None:
            return self.crop
        assert isinstance(self.resize, tuple)  # checked when it was read
        return self.resize


class _File(BaseModel):
    """The fields of the file, with the defaults of HF's image processors for ViT and its kin."""

    model_config = ConfigDict(strict=True, extra="forbid")

    do_resize: bool = True
    size: Sides = 224
    resample: int = Field(default=2, ge=0, le=5)
    do_center_crop: bool = False
    crop_size: Sides | None = None
    do_rescale: bool = True
    rescale_factor: Number = 1 / 255
    do_normalize: bool = True
    image_mean: list[Number] = Field(default=[0.5] * 3, min_length=3, max_length=3)
    image_std: list[Spread] = Field(default=[0.5] * 3, min_length=3, max_length=3)
    do_pad: Literal[False] | None = None


def read_image_settings(path: Path) -> ImageSettings | None:
    """The settings in a file; None where there is none.

    Raises `ConfigError`: C025 for a file that cannot be read, C026 for settings that are not understood.
    """
    if not os.path.lexists(path):
        return None
    content = read_json(path, what="preprocessor config", error=ConfigError, code="RLX-C025")
    if not isinstance(content, dict):
        raise _error("the preprocessor config is not an object", path)
    known = {name: value for name, value in content.items() if name not in _IGNORED and value is not None}
    try:
        file = _File.model_validate(known)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        name = printable(".".join(map(str, first["loc"])), 60)
        raise _error(f"{name}: {printable(first['msg'], 80)}", path) from None
    return _settings(file, path)


def _settings(file: _File, path: Path) -> ImageSettings:
    resize = _sides(file.size, path) if file.do_resize else None
    crop = None
    if file.do_center_crop:
        crop = _pair(_sides(file.size if file.crop_size is None else file.crop_size, path))
    if crop is None and isinstance(resize, int) and isinstance(file.size, int):
        resize = (resize, resize)  # one number is a square, where nothing is cut
    if crop is None and not isinstance(resize, tuple):
        raise _error("images keep their proportions, and nothing makes them of one size", path)
    if crop is not None and resize is not None and min(_pair(resize)) < max(crop):
        raise _error(f"crop_size {crop} does not fit size {resize}", path)
    factor = file.rescale_factor if file.do_rescale else 1.0
    mean, std = (file.image_mean, file.image_std) if file.do_normalize else ([0.0] * 3, [1.0] * 3)
    return ImageSettings(resize, file.resample, crop, factor, tuple(mean), tuple(std))


def _sides(sides: Any, path: Path) -> tuple[int, int] | int:
    if isinstance(sides, int):
        return sides
    if sides.keys() == {"shortest_edge"}:
        short: int = sides["shortest_edge"]
        return short
    if sides.keys() == {"height", "width"}:
        return sides["height"], sides["width"]
    raise _error(f"a size is given by {', '.join(sides) or 'nothing'}", path)


def _pair(sides: tuple[int, int] | int) -> tuple[int, int]:
    return (sides, sides) if isinstance(sides, int) else sides


def _error(message: str, path: Path) -> ConfigError:
    hint = "supported: resize, centre crop, rescale and normalise, as for ViT, DINOv2 and SigLIP"
    return ConfigError(message, code="RLX-C026", where=printable(path), hint=hint)
