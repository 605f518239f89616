"""The config fields that vision encoders share, and the size of the images that a flow is made for."""

from __future__ import annotations

from typing import ClassVar, Self

from pydantic import model_validator

from rlxflow.errors import ConfigError
from rlxflow.flow.config import Size
from rlxflow.flow.encoder_config import EncoderConfig

Sides = Size | list[Size]


class VisionConfig(EncoderConfig):
    """Fields of an encoder of square patches or others, with Hugging Face's names.

    `image_size` is that of the position table. A model that `resizes` its positions takes images of any size:
    `input_size` (height, width), which is no field of Hugging Face's, says which.
    """

    resizes: ClassVar[bool] = False
    class_token: ClassVar[bool] = True  # whether one stands before the patches

    image_size: Sides = 224
    patch_size: Sides = 16
    num_channels: Size = 3
    input_size: tuple[Size, Size] | None = None

    @property
    def patch(self) -> tuple[int, int]:
        return _pair(self.patch_size)

    @property
    def patch_width(self) -> int:
        """Numbers per patch."""
        return self.num_channels * self.patch[0] * self.patch[1]

    @property
    def table_grid(self) -> tuple[int, int]:
        """Patches down and across in an image of the position table's size."""
        return self._grid(_pair(self.image_size))

    @property
    def images(self) -> tuple[int, int]:
        """Height and width of the images."""
        return self.input_size or _pair(self.image_size)

    @property
    def grid(self) -> tuple[int, int]:
        """Patches down and across in an image."""
        return self._grid(self.images)

    def with_images(self, height: int, width: int) -> Self:
        """The config for images of this size; raises `ConfigError` where the model takes another only."""
        return type(self).model_validate({**self.model_dump(), "input_size": (height, width)})

    def _grid(self, size: tuple[int, int]) -> tuple[int, int]:
        return size[0] // self.patch[0], size[1] // self.patch[1]

    @model_validator(mode="after")
    def _patches_fit(self) -> Self:
        for sides in (self.image_size, self.patch_size):
            if isinstance(sides, list) and len(sides) != 2:
                raise _misfit(f"a size has {len(sides)} sides")
        if 0 in (*self.table_grid, *self.grid):
            raise _misfit(f"a patch of {self.patch} is larger than an image of {self.images}")
        if self.input_size not in (None, _pair(self.image_size)) and not self.resizes:
            what = f"images are {self.images[0]}×{self.images[1]}"
            raise _misfit(f"{what}, the model takes {'×'.join(map(str, _pair(self.image_size)))}")
        return self


def _pair(sides: int | list[int]) -> tuple[int, int]:
    return (sides, sides) if isinstance(sides, int) else (sides[0], sides[1])


def _misfit(message: str) -> ConfigError:
    return ConfigError(message, code="RLX-C010", hint="correct the field, or download the file again")
