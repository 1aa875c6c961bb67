"""Images as sequences, and users' pictures in MNIST's form."""

from __future__ import annotations

import gzip
import struct
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lstm_numba.data import digits, image_files
from lstm_numba.data.images import NORMALISATION, Images, image_sequences, pixel_permutation
from lstm_numba.errors import DataError, UserError


@pytest.fixture
def images() -> Images:
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (5, 28, 28), dtype=np.uint8)
    return Images("digits", "test", pixels, np.arange(5, dtype=np.uint8))


def normalised(pixel: int, dataset: str) -> float:
    mean, deviation = NORMALISATION[dataset]
    return (pixel / 255.0 - mean) / deviation


@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float32, 3e-6), (np.float64, 1e-14)])
@pytest.mark.parametrize("view", ["rows", "pixels", "permuted"])
def test_views_against_loops(images: Images, view: str, dtype: Any, tolerance: float) -> None:
    got = image_sequences(images, view, dtype, permutation_seed=3)
    order = pixel_permutation(3) if view == "permuted" else np.arange(784)
    assert got.dtype == dtype
    assert got.flags.c_contiguous
    steps, features = (28, 28) if view == "rows" else (784, 1)
    assert got.shape == (steps, 5, features)
    for n in range(5):
        for t in range(steps):
            for f in range(features):
                row, column = divmod(int(order[t * features + f]), 28)
                wanted = normalised(int(images.images[n, row, column]), "digits")
                assert abs(got[t, n, f] - wanted) <= tolerance


def test_dataset_decides_mean_and_deviation(images: Images) -> None:
    black = np.zeros((1, 28, 28), np.uint8)
    assert image_sequences(black)[0, 0, 0] == pytest.approx(-0.13066 / 0.30811, rel=1e-6)
    assert image_sequences(black, dataset="digits")[0, 0, 0] == pytest.approx(
        normalised(0, "digits"), rel=1e-6
    )
    np.testing.assert_array_equal(image_sequences(images), image_sequences(images.images, dataset="digits"))


def test_permutation_is_one_and_never_changes() -> None:
    order = pixel_permutation()
    np.testing.assert_array_equal(np.sort(order), np.arange(784))
    # Results of all versions are to be comparable: these numbers must never change.
    assert order[:8].tolist() == [659, 523, 497, 551, 621, 776, 210, 100]
    assert not np.array_equal(order, pixel_permutation(1))


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ({"images": np.zeros((2, 28, 27), np.uint8)}, ValueError, r"images: expected shape \(N, 28, 28\)"),
        ({"images": np.zeros((28, 28), np.uint8)}, ValueError, "images: expected shape"),
        ({"images": np.zeros((2, 28, 28))}, TypeError, "images: expected an array of uint8, got float64"),
        ({"images": [1]}, TypeError, "images: expected an array of uint8, got list"),
        ({"view": "columns"}, ValueError, "view: expected one of rows, pixels, permuted, got 'columns'"),
        ({"dtype": np.float16}, ValueError, "dtype: expected float32 or float64, got float16"),
        ({"dataset": "cifar"}, ValueError, "dataset: expected one of mnist, digits, got 'cifar'"),
        ({"view": "permuted", "permutation_seed": -1}, ValueError, "permutation_seed"),
        ({"view": "permuted", "permutation_seed": 1.5}, TypeError, "permutation_seed"),
    ],
)
def test_bad_arguments(arguments: dict[str, Any], error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        image_sequences(**{"images": np.zeros((1, 28, 28), np.uint8), **arguments})


def test_take(images: Images) -> None:
    part = images.take(np.array([3, 1]))
    assert (len(images), len(part), part.name, part.split) == (5, 2, "digits", "test")
    np.testing.assert_array_equal(part.labels, [3, 1])
    np.testing.assert_array_equal(part.images, images.images[[3, 1]])


# Pictures


@pytest.fixture
def digit() -> np.ndarray:
    """A digit with black around it and ink up to 255."""
    pixels = digits.draw("test", np.array([4]))[0][0]
    pixels[pixels < 60] = 0
    pixels[:1] = pixels[-1:] = 0
    pixels[:, :1] = pixels[:, -1:] = 0
    return pixels


def save(path: Path, array: np.ndarray, **options: Any) -> Path:
    image = pytest.importorskip("PIL.Image")
    image.fromarray(array).save(path, **options)
    return path


def test_picture_of_right_form_is_left_as_it_is(tmp_path: Path, digit: np.ndarray) -> None:
    picture = image_files.read_picture(save(tmp_path / "a.png", digit))
    np.testing.assert_array_equal(picture.pixels, digit)
    assert picture.pixels.dtype == np.uint8
    assert picture.changes == ()


@pytest.mark.parametrize("form", ["grey", "rgb", "rgba", "palette", "16 bit", "transparent", "bmp", "ppm"])
def test_dark_on_light_is_inverted_whatever_the_form(tmp_path: Path, digit: np.ndarray, form: str) -> None:
    light = 255 - digit
    path = tmp_path / "a.png"
    if form == "grey":
        save(path, light)
    elif form == "rgb":
        save(path, np.stack([light] * 3, axis=-1))
    elif form == "rgba":
        save(path, np.stack([light] * 3 + [np.full_like(light, 255)], axis=-1))
    elif form == "palette":
        image = pytest.importorskip("PIL.Image")
        image.fromarray(light).convert("P").save(path)
    elif form == "16 bit":
        save(path, light.astype(np.uint16) * 257)
    elif form == "transparent":  # black ink, as dense as the digit, on nothing
        black = np.zeros_like(digit)
        save(path, np.stack([black, black, black, digit], axis=-1))
    else:
        path = save(tmp_path / f"a.{form}", light)
    picture = image_files.read_picture(path)
    np.testing.assert_array_equal(picture.pixels, digit)
    assert picture.changes == ("inverted, because its border is light",)


def test_transparent_light_ink_lies_on_black(tmp_path: Path, digit: np.ndarray) -> None:
    white = np.full_like(digit, 255)
    path = save(tmp_path / "a.png", np.stack([white, white, white, digit], axis=-1))
    picture = image_files.read_picture(path)
    np.testing.assert_array_equal(picture.pixels, digit)
    assert picture.changes == ()


def test_invert_as_asked(tmp_path: Path, digit: np.ndarray) -> None:
    path = save(tmp_path / "a.png", digit)
    np.testing.assert_array_equal(image_files.read_picture(path, invert=True).pixels, 255 - digit)
    path = save(tmp_path / "b.png", 255 - digit)
    np.testing.assert_array_equal(image_files.read_picture(path, invert=False).pixels, 255 - digit)


@pytest.mark.parametrize("light", [False, True])
def test_other_sizes_follow_mnist(tmp_path: Path, light: bool) -> None:
    """A bar of 30 by 90 in a corner of a large picture: 20 high, aspect kept, centred."""
    large = np.full((200, 300), 20, np.uint8)
    large[100:190, 10:40] = 180
    picture = image_files.read_picture(save(tmp_path / "a.png", 255 - large if light else large))
    pixels = picture.pixels.astype(float)
    rows, columns = np.flatnonzero(pixels.any(axis=1)), np.flatnonzero(pixels.any(axis=0))
    assert (len(rows), len(columns)) == (20, 7)
    assert pixels[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].min() == 255
    for profile in (pixels.sum(axis=1), pixels.sum(axis=0)):
        assert abs(np.dot(profile, np.arange(28)) / profile.sum() - 13.5) <= 0.5
    assert picture.changes[-1] == "cropped to the digit and scaled from 300 x 200 to 28 x 28"


def test_upscaled_digit_comes_back(tmp_path: Path, digit: np.ndarray) -> None:
    """Eight times larger with a wide margin: the digit read is near the digit drawn."""
    large = np.pad(np.kron(digit, np.ones((8, 8), np.uint8)), 60)
    got = image_files.read_picture(save(tmp_path / "a.png", large)).pixels.astype(float)
    rows, columns = np.flatnonzero(digit.any(axis=1)), np.flatnonzero(digit.any(axis=0))
    # The drawing's box may be a little smaller or larger than 20 pixels: compare ink by best correlation.
    best = max(
        np.corrcoef(np.roll(digit.astype(float), (dy, dx), (0, 1)).ravel(), got.ravel())[0, 1]
        for dy in range(-2, 3)
        for dx in range(-2, 3)
    )
    assert best > 0.8, (best, rows[[0, -1]], columns[[0, -1]])


def test_thin_stroke_survives_scaling(tmp_path: Path) -> None:
    large = np.full((1000, 1000), 255, np.uint8)
    large[100:900, 498:503] = 0
    pixels = image_files.read_picture(save(tmp_path / "a.png", large)).pixels
    assert np.count_nonzero(pixels.max(axis=1) > 200) == 20


@pytest.mark.parametrize("value", [0, 255, 130])
def test_blank_pictures(tmp_path: Path, value: int) -> None:
    for size in ((28, 28), (50, 40)):
        with pytest.raises(DataError, match="image is blank"):
            image_files.read_picture(save(tmp_path / "a.png", np.full(size, value, np.uint8)))


def test_no_ink_lighter_than_the_border(tmp_path: Path) -> None:
    dark_ink = np.full((50, 50), 250, np.uint8)
    dark_ink[20:30, 20:30] = 0
    with pytest.raises(DataError, match="nothing lighter than its border"):
        image_files.read_picture(save(tmp_path / "a.png", dark_ink), invert=False)


def test_too_large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image_files, "LARGEST_PICTURE", 1000)
    with pytest.raises(DataError, match="too large: 50 x 40 pixels; at most 1000 are read"):
        image_files.read_picture(save(tmp_path / "a.png", np.zeros((40, 50), np.uint8)))


def test_damaged_pictures(tmp_path: Path, digit: np.ndarray) -> None:
    """Cut anywhere and flip anything: a DataError of one line, or a picture."""
    sound = save(tmp_path / "a.png", 255 - digit).read_bytes()
    rng = np.random.default_rng(5)
    path = tmp_path / "b.png"
    errors = []
    cases = [sound[:length] for length in range(0, len(sound), 7)]
    for _ in range(150):
        flipped = bytearray(sound)
        flipped[int(rng.integers(len(sound)))] ^= 1 << int(rng.integers(8))
        cases.append(bytes(flipped))
    for data in cases:
        path.write_bytes(data)
        try:
            assert image_files.read_picture(path).pixels.shape == (28, 28)
        except DataError as error:
            errors.append(str(error))
    assert len(errors) > len(sound) // 7 - 3
    assert all("\n" not in text and str(path) in text for text in errors)


def test_read_images_takes_both_kinds(tmp_path: Path, digit: np.ndarray) -> None:
    pair = np.stack([digit, 255 - digit])
    data = struct.pack(">iiii", 0x0803, 2, 28, 28) + pair.tobytes()
    (tmp_path / "raw").write_bytes(data)
    (tmp_path / "packed").write_bytes(gzip.compress(data))
    (tmp_path / "one").write_bytes(struct.pack(">iii", 0x0802, 28, 28) + digit.tobytes())
    for name in ("raw", "packed"):
        np.testing.assert_array_equal(image_files.read_images(tmp_path / name), pair)
    np.testing.assert_array_equal(image_files.read_images(tmp_path / "one"), digit[None])
    np.testing.assert_array_equal(image_files.read_images(save(tmp_path / "a.png", digit)), digit[None])


def test_read_images_refuses_the_rest(tmp_path: Path) -> None:
    (tmp_path / "labels").write_bytes(struct.pack(">ii", 0x0801, 3) + b"\1\2\3")
    (tmp_path / "wide").write_bytes(struct.pack(">iiii", 0x0803, 1, 2, 3) + bytes(6))
    (tmp_path / "text").write_text("no picture at all")
    (tmp_path / "empty").write_bytes(b"")
    pytest.importorskip("PIL.Image")
    for name, words in (
        ("labels", "holds 3 numbers, expected images: N x 28 x 28"),
        ("wide", "holds 1 x 2 x 3 numbers"),
        ("text", "not an image: expected PNG, JPEG, BMP, PPM, or an IDX file"),
        ("empty", "the file is empty"),
        ("absent", "no such file"),
        (".", "is a folder"),
    ):
        with pytest.raises(DataError, match=words):
            image_files.read_images(tmp_path / name)


def test_without_pillow(tmp_path: Path, digit: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(b"\x89PNG")
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(UserError, match=r"needs Pillow: pip install 'lstm_numba\[images\]'"):
        image_files.read_picture(path)
