"""Image input: prepared as Hugging Face's processors do, through `embed_images` and the command line."""

from __future__ import annotations

import builtins
import io
import json
from pathlib import Path
from typing import Any

import goldens
import numpy as np
import pytest
from model_files import write_golden, write_json

import rlxflow
from rlxflow.cli.main import main
from rlxflow.errors import ConfigError, InputError
from rlxflow.runtime.image_settings import read_image_settings
from rlxflow.runtime.images import prepare

Image = pytest.importorskip("PIL.Image")
RECORD: Any = json.loads((goldens.FOLDER / "images.json").read_text("utf-8"))
PICTURES = ("wide", "tall", "transparent", "grey")


@pytest.fixture(scope="module")
def arrays() -> Any:
    with np.load(goldens.FOLDER / "images.npz", allow_pickle=False) as file:  # noqa: TID251 (our own file)
        return dict(file)


def picture(arrays: Any, name: str, folder: Path) -> Path:
    path = folder / f"{name}.png"
    path.write_bytes(arrays[f"file/{name}"].tobytes())
    return path


def settings_of(folder: Path, content: Any) -> Any:
    return read_image_settings(write_json(folder / "preprocessor_config.json", content))


@pytest.mark.parametrize("name", PICTURES)
@pytest.mark.parametrize("setting", RECORD["settings"])
def test_agrees_with_hugging_face(setting: str, name: str, arrays: Any, tmp_path: Path) -> None:
    settings = settings_of(tmp_path, RECORD["settings"][setting])
    found, expected = prepare(picture(arrays, name, tmp_path), settings), arrays[f"{setting}/{name}"]
    assert found.dtype == np.float32 and found.shape == expected.shape == (3, *settings.size)
    assert np.abs(found - expected).max() <= 1e-6 * max(1.0, np.abs(expected).max())


@pytest.fixture
def vit(tmp_path: Path) -> Path:
    folder = write_golden(tmp_path / "vit", goldens.vision_case("vit", "plain"))
    write_json(folder / "preprocessor_config.json", RECORD["settings"]["vit"])
    return folder


def test_paths_pillow_images_and_arrays_are_one(vit: Path, arrays: Any, tmp_path: Path) -> None:
    model = rlxflow.load(vit)
    paths = [picture(arrays, name, tmp_path) for name in PICTURES]
    opened = [Image.open(path) for path in paths]
    pixels = [np.asarray(image.convert("RGB")) for image in opened]
    vectors = model.embed_images([*paths, *opened, *pixels], batch_size=5, progress=False)
    assert vectors.shape == (12, 48) and vectors.dtype == np.float32
    assert np.array_equal(vectors[:4], vectors[4:8]) and np.array_equal(vectors[:4], vectors[8:])
    one = model.embed_images(str(paths[1]), normalize=True, progress=False)
    length = np.linalg.norm(vectors[1])
    assert np.allclose(one[0], vectors[1] / length, atol=1e-6)
    prepared = np.stack([prepare(path, model.images) for path in paths])  # type: ignore[arg-type]
    assert np.array_equal(model(pixel_values=prepared)["embedding"], vectors[:4])


def test_dinov2_is_made_for_the_size_that_its_images_get(arrays: Any, tmp_path: Path) -> None:
    folder = write_golden(tmp_path / "dinov2", goldens.vision_case("dinov2", "plain"))
    write_json(folder / "preprocessor_config.json", RECORD["settings"]["dinov2"])
    model = rlxflow.load(folder)
    assert model.config.images == (21, 28)  # type: ignore[attr-defined]
    assert model.embed_images(picture(arrays, "wide", tmp_path), progress=False).shape == (1, 48)


def test_the_camera_s_orientation_is_honoured(vit: Path, arrays: Any, tmp_path: Path) -> None:
    upright = Image.open(picture(arrays, "wide", tmp_path))
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by 90 degrees
    upright.transpose(Image.Transpose.ROTATE_90).save(tmp_path / "turned.png", exif=exif)
    model = rlxflow.load(vit)
    vectors = model.embed_images([tmp_path / "wide.png", tmp_path / "turned.png"], progress=False)
    assert np.array_equal(vectors[0], vectors[1])


def test_the_command_line(vit: Path, arrays: Any, tmp_path: Path, capsys: Any) -> None:
    paths = [str(picture(arrays, name, tmp_path)) for name in ("wide", "tall")]
    assert main(["embed", str(vit), *paths]) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    expected = rlxflow.load(vit).embed_images(paths, progress=False)
    assert np.array_equal(np.array(rows, np.float32), expected)
    assert main(["embed", str(vit), str(tmp_path / "none.png")]) != 0
    assert "RLX-R043" in capsys.readouterr().err
    assert main(["embed", str(vit), *paths, "--prompt-name", "query"]) == 2
    assert "images take no prompt" in capsys.readouterr().err


def test_check_and_inspect_know_images(vit: Path, capsys: Any) -> None:
    assert main(["check", str(vit)]) == 0
    assert "ok      images         24 × 24" in capsys.readouterr().out
    write_json(vit / "preprocessor_config.json", {**RECORD["settings"]["vit"], "size": 32})
    assert main(["check", str(vit)]) != 0
    assert "RLX-C010" in capsys.readouterr().err


def damaged(folder: Path) -> Path:
    path = folder / "cut.png"
    buffer = io.BytesIO()
    Image.fromarray(np.zeros((40, 40, 3), np.uint8)).save(buffer, "PNG")
    path.write_bytes(buffer.getvalue()[:60])
    return path


def text(folder: Path) -> Path:
    path = folder / "image.png"
    path.write_text("no image")
    return path


@pytest.mark.parametrize(
    ("make", "code"),
    [
        (damaged, "RLX-R043"),
        (text, "RLX-R043"),
        (lambda folder: folder / "absent.png", "RLX-R043"),
        (lambda folder: folder, "RLX-R043"),
        (lambda folder: "a\x00b.png", "RLX-R043"),
        (lambda folder: 3, "RLX-R042"),
        (lambda folder: np.zeros((4, 4), np.uint8), "RLX-R042"),
        (lambda folder: np.zeros((4, 4, 3), np.float32), "RLX-R042"),
        (lambda folder: np.zeros((0, 4, 3), np.uint8), "RLX-R042"),
    ],
)
def test_what_is_no_image_is_refused(make: Any, code: str, vit: Path, tmp_path: Path) -> None:
    model = rlxflow.load(vit)
    with pytest.raises(InputError) as caught:
        model.embed_images([make(tmp_path)], progress=False)
    assert caught.value.code == code and caught.value.hint


def test_a_very_large_image_is_refused(vit: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    Image.fromarray(np.zeros((40, 40, 3), np.uint8)).save(tmp_path / "large.png")
    with pytest.raises(InputError) as caught:
        rlxflow.load(vit).embed_images(tmp_path / "large.png")
    assert caught.value.code == "RLX-R043"


def test_without_pillow_the_hint_says_what_to_install(vit: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = rlxflow.load(vit)
    original = builtins.__import__

    def absent(name: str, *args: Any, **kwargs: Any) -> Any:
        if name.startswith("PIL"):
            raise ImportError(name)
        return original(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", absent)
    with pytest.raises(InputError) as caught:
        model.embed_images("image.png")
    assert caught.value.code == "RLX-R041" and "rlxflow[images]" in caught.value.hint


def test_a_model_without_image_settings(tmp_path: Path) -> None:
    model = rlxflow.load(write_golden(tmp_path, goldens.vision_case("vit", "plain")))
    with pytest.raises(InputError) as caught:
        model.embed_images("image.png")
    assert caught.value.code == "RLX-R040"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"size": {"shortest_edge": 24}}, "nothing makes them of one size"),
        ({"size": {"longest_edge": 24}}, "size"),
        ({"size": {"height": 24}}, "a size is given by height"),
        ({"size": 0}, "size"),
        ({"do_resize": False}, "nothing makes them of one size"),
        ({"do_center_crop": True, "crop_size": 25}, "does not fit"),
        ({"resample": 9}, "resample"),
        ({"image_std": [0, 0, 0]}, "image_std"),
        ({"image_mean": [0.5]}, "image_mean"),
        ({"do_pad": True}, "do_pad"),
        ({"do_flip_channel_order": True}, "do_flip_channel_order"),
        ({"rescale_factor": "1/255"}, "rescale_factor"),
    ],
)
def test_settings_that_would_change_the_pixels_are_refused(change: Any, message: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        settings_of(tmp_path, {**RECORD["settings"]["vit"], **change})
    assert caught.value.code == "RLX-C026" and message in caught.value.message and caught.value.hint


def test_a_size_that_the_model_does_not_take(tmp_path: Path) -> None:
    folder = write_golden(tmp_path, goldens.vision_case("vit", "plain"))
    write_json(folder / "preprocessor_config.json", {**RECORD["settings"]["vit"], "size": 32})
    with pytest.raises(ConfigError) as caught:
        rlxflow.load(folder)
    assert caught.value.code == "RLX-C010" and "32×32" in caught.value.message
