"""Make `goldens/images.*`: small images as Hugging Face's Pillow image processors prepare them.

Run with transformers and Pillow:

    python tests/oracles/make_image_goldens.py

Pictures are noise over colour ramps, stored as PNG files in different modes; settings are those of
preprocessor_config.json files, as published but for smaller sizes.
"""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import transformers
from PIL import Image
from transformers.models.bit.image_processing_pil_bit import BitImageProcessorPil
from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil
from transformers.models.vit.image_processing_pil_vit import ViTImageProcessorPil

GOLDENS = Path(__file__).parents[1] / "goldens"
IMAGENET = {"image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225]}

SETTINGS: dict[str, tuple[Any, dict[str, Any]]] = {
    "vit": (
        ViTImageProcessorPil,
        {
            "do_normalize": True,
            "do_resize": True,
            "image_mean": [0.5] * 3,
            "image_std": [0.5] * 3,
            "resample": 2,
            "size": 24,
            "image_processor_type": "ViTFeatureExtractor",
        },
    ),
    "dinov2": (
        BitImageProcessorPil,
        {
            "crop_size": {"height": 21, "width": 28},
            "do_center_crop": True,
            "do_convert_rgb": True,
            "resample": 3,
            "do_normalize": True,
            "do_rescale": True,
            "do_resize": True,
            "rescale_factor": 0.00392156862745098,
            "size": {"shortest_edge": 32},
            "image_processor_type": "BitImageProcessor",
            **IMAGENET,
        },
    ),
    "siglip": (
        SiglipImageProcessorPil,
        {
            "do_normalize": True,
            "do_rescale": True,
            "do_resize": True,
            "image_mean": [0.5] * 3,
            "resample": 3,
            "image_std": [0.5] * 3,
            "size": {"height": 20, "width": 26},
            "processor_class": "SiglipProcessor",
            "rescale_factor": 0.00392156862745098,
        },
    ),
    "not_normalized_lanczos": (
        ViTImageProcessorPil,
        {"do_normalize": False, "do_rescale": False, "resample": 1, "size": {"height": 9, "width": 31}},
    ),
    "nearest": (
        ViTImageProcessorPil,
        {"resample": 0, "size": {"height": 60, "width": 50}, "rescale_factor": 0.01, **IMAGENET},
    ),
}


def pictures() -> dict[str, bytes]:
    random = np.random.default_rng(3)
    files = {}
    for name, mode, height, width in (
        ("wide", "RGB", 37, 53),
        ("tall", "RGB", 61, 34),
        ("transparent", "RGBA", 40, 44),
        ("grey", "L", 45, 36),
    ):
        ramp = np.linspace(0, 200, height)[:, None, None] + np.zeros((height, width, 4))
        ramp[..., 1] = np.linspace(0, 200, width)
        noisy = np.clip(ramp + random.integers(0, 55, ramp.shape), 0, 255).astype(np.uint8)
        channels = {"RGB": noisy[..., :3], "RGBA": noisy, "L": noisy[..., 0]}[mode]
        buffer = io.BytesIO()
        Image.fromarray(channels, mode).save(buffer, "PNG")
        files[name] = buffer.getvalue()
    return files


def main() -> None:
    files = pictures()
    arrays = {f"file/{name}": np.frombuffer(data, np.uint8) for name, data in files.items()}
    for setting, (processor, config) in SETTINGS.items():
        settings = {k: v for k, v in config.items() if k not in ("image_processor_type", "processor_class")}
        for name, data in files.items():
            image = Image.open(io.BytesIO(data)).convert("RGB")
            found = processor(**settings)(image, return_tensors="np")["pixel_values"][0]
            arrays[f"{setting}/{name}"] = np.asarray(found, np.float32)
    record = {
        "made_with": {"transformers": transformers.__version__},
        "settings": {name: config for name, (_, config) in SETTINGS.items()},
    }
    (GOLDENS / "images.json").write_text(json.dumps(record) + "\n", encoding="utf-8")
    np.savez_compressed(GOLDENS / "images.npz", **arrays)


if __name__ == "__main__":
    main()
