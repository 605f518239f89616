"""Images to vectors: read, prepare as the model wants, run in batches. Wants Pillow."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from rlxflow.dtypes import Array
from rlxflow.errors import InputError, printable
from rlxflow.flow.vision_config import VisionConfig
from rlxflow.runtime.image_settings import ImageSettings
from rlxflow.runtime.inputs import want_batch_size
from rlxflow.runtime.progress import bar

if TYPE_CHECKING:
    from rlxflow.runtime.model import Model

MAX_RATIO = 200  # of an image's sides, where the shorter one is scaled
Picture = Any  # a path, a Pillow image, or uint8 [height, width, 3]


def embed_images(
    model: Model, images: Sequence[Picture] | Picture, batch_size: int, normalize: bool, progress: bool | None
) -> Array:
    """See `Model.embed_images`."""
    if model.images is None or "embedding" not in model.graph.outputs:
        hint = "load a vision encoder with its preprocessor_config.json, or call model(pixel_values=…)"
        raise InputError("this model does not embed images", code="RLX-R040", where=model.name, hint=hint)
    want_batch_size(batch_size)
    wanted = list(images) if isinstance(images, (list, tuple)) else [images]
    width = model.graph.outputs["embedding"].dim(1)
    result = np.zeros((len(wanted), width if isinstance(width, int) else 0), np.float32)
    with bar(len(wanted), "embedding", progress) as advance:
        for first in range(0, len(wanted), batch_size):
            chosen = wanted[first : first + batch_size]
            pixels = np.stack([prepare(picture, model.images) for picture in chosen])
            found = model(pixel_values=pixels, outputs=["embedding"])["embedding"]
            result[first : first + len(chosen)] = found
            advance(len(chosen))
    if normalize:
        lengths = np.linalg.norm(result, axis=1, keepdims=True)
        result = result / np.maximum(lengths, np.float32(1e-12))
    return result


def patches_of(config: VisionConfig, arrays: Mapping[str, Any]) -> dict[str, Any]:
    """The arrays of a call with `patches` [B, S, C·P·Q] in place of `pixel_values` [B, C, height, width].

    Patches stand in reading order, behind a row of zeros for the class token where the model has one; what is
    left of the image at the right and below is cut off.
    """
    rest = dict(arrays)
    pixels = np.asarray(rest.pop("pixel_values"))
    wanted = (config.num_channels, *config.images)
    if pixels.ndim != 4 or pixels.shape[1:] != wanted or pixels.dtype.kind not in "fiu":
        message = f"pixel_values is {pixels.dtype}{list(pixels.shape)}"
        hint = f"it takes f32[B,{','.join(map(str, wanted))}]"
        raise InputError(message, code="RLX-R003", hint=hint)
    (down, across), (p, q), c = config.grid, config.patch, config.num_channels
    cells = pixels[:, :, : down * p, : across * q].astype(np.float32, copy=False)
    cells = cells.reshape(len(pixels), c, down, p, across, q).transpose(0, 2, 4, 1, 3, 5)
    first = int(config.class_token)
    patches = np.zeros((len(pixels), first + down * across, c * p * q), np.float32)
    patches[:, first:] = cells.reshape(len(pixels), down * across, c * p * q)
    return {**rest, "patches": patches}


def prepare(picture: Picture, settings: ImageSettings) -> Array:
    """float32 [3, height, width] of one image, as HF's Pillow image processors make it."""
    image = _opened(picture)
    try:
        image = image.convert("RGB")
        if settings.resize is not None:
            image = image.resize(_target(image.size, settings.resize, picture), settings.resample)
    except (OSError, ValueError, MemoryError) as error:
        raise _unreadable(picture, error) from error
    pixels = np.asarray(image)
    if settings.crop is not None:
        pixels = _cropped(pixels, settings.crop, picture)
    values: Array = (pixels.astype(np.float64) * settings.factor).astype(np.float32)
    mean, std = (np.array(v, np.float32) for v in (settings.mean, settings.std))
    values = (values - mean) / std
    return np.ascontiguousarray(values.transpose(2, 0, 1))


def _opened(picture: Picture) -> Any:
    """A Pillow image; raises `InputError` without Pillow, and for what is no image."""
    try:
        from PIL import Image, ImageOps
    except ImportError as error:
        hint = 'pip install "rlxflow[images]"'
        raise InputError("reading images wants Pillow", code="RLX-R041", hint=hint) from error
    if isinstance(picture, Image.Image):
        return picture
    if isinstance(picture, np.ndarray):
        if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] != 3 or not picture.size:
            what = f"{picture.dtype}{list(picture.shape)}"
            raise InputError(
                f"an image array is {what}", code="RLX-R042", hint="give uint8 [height, width, 3]"
            )
        return Image.fromarray(picture)
    if not isinstance(picture, (str, os.PathLike)):
        what = type(picture).__name__
        hint = "give a path, a Pillow image or an array uint8 [height, width, 3]"
        raise InputError(f"an image is of type {what}", code="RLX-R042", hint=hint)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(picture) as file:
                image = ImageOps.exif_transpose(file)
    except (OSError, ValueError, SyntaxError, MemoryError, Warning, Image.DecompressionBombError) as error:
        raise _unreadable(picture, error) from error
    return image


def _target(size: tuple[int, int], resize: tuple[int, int] | int, picture: Picture) -> tuple[int, int]:
    """Width and height to resize to, as Pillow wants them; `size` likewise."""
    if isinstance(resize, tuple):
        return resize[1], resize[0]
    short, long = min(size), max(size)
    if long > MAX_RATIO * short:
        hint = f"sides may differ by a factor of {MAX_RATIO}"
        raise InputError(f"an image is {size[0]}×{size[1]}", code="RLX-R042", where=_name(picture), hint=hint)
    scaled = int(resize * long / short)
    return (resize, scaled) if size[0] <= size[1] else (scaled, resize)


def _cropped(pixels: Array, crop: tuple[int, int], picture: Picture) -> Array:
    height, width = pixels.shape[:2]
    if height < crop[0] or width < crop[1]:
        message = f"an image is {width}×{height}, the model cuts out {crop[1]}×{crop[0]}"
        raise InputError(message, code="RLX-R042", where=_name(picture), hint="give a larger image")
    top, left = (height - crop[0]) // 2, (width - crop[1]) // 2
    return pixels[top : top + crop[0], left : left + crop[1]]


def _unreadable(picture: Picture, error: BaseException) -> InputError:
    hint = "give an image file that Pillow reads, such as PNG or JPEG"
    message = f"an image cannot be read: {printable(error, 100)}"
    return InputError(message, code="RLX-R043", where=_name(picture), hint=hint)


def _name(picture: Picture) -> str:
    return printable(os.fsdecode(picture), 200) if isinstance(picture, (str, os.PathLike)) else "image"
