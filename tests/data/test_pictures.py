"""A user's own labelled pictures: what is in the folders is what comes out, and faults are named."""

from __future__ import annotations

import gzip
import os
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from picture_tools import SIZE, draw, draw_classes, save

from lstm_numba.data import image_files, picture_folders, pictures
from lstm_numba.data.idx import write_idx
from lstm_numba.data.images import ImageForm, Images, image_sequences, pixel_permutation
from lstm_numba.errors import DataError, UserError

COUNTS = {"a": 10, "b": 20, "c": 40}


def identities(images: Images) -> set[tuple[int, int]]:
    """Which pictures these are: class and number, as `draw` writes them into the pixels."""
    return {(int(pixels[0, 0]), int(pixels[0, 1])) for pixels in images.images}


def test_every_picture_is_once_to_train_or_to_test(tmp_path: Path) -> None:
    found = pictures.load(draw_classes(tmp_path, COUNTS))
    assert found.form.classes == ("a", "b", "c")
    assert found.form.shape == SIZE
    assert (len(found.train), len(found.test)) == (63, 7)
    assert np.bincount(found.test.labels).tolist() == [1, 2, 4]
    whole = {(label, number) for label, count in enumerate(COUNTS.values()) for number in range(count)}
    assert identities(found.train) | identities(found.test) == whole
    assert not identities(found.train) & identities(found.test)
    for images in (found.train, found.test):
        assert images.images.dtype == np.uint8
        for pixels, label in zip(images.images, images.labels, strict=True):
            np.testing.assert_array_equal(pixels, draw(int(label), int(pixels[0, 1])))
    assert found.notes == (
        "3 classes (a, b, c): 63 training images, 7 test images",
        "images of 6x5 pixels (height x width)",
    )


def test_the_share_and_the_seed_choose(tmp_path: Path) -> None:
    folder = draw_classes(tmp_path, COUNTS)
    chosen = [identities(pictures.load(folder, test=0.5, seed=seed).test) for seed in (0, 0, 1)]
    assert chosen[0] == chosen[1] != chosen[2]
    assert [np.bincount([label for label, _ in one]).tolist() for one in chosen] == [[5, 10, 20]] * 3
    # Of each class at least one to test on, and one to train.
    for share, counts in ((0.001, [1, 1, 1]), (0.999, [9, 19, 39])):
        assert np.bincount(pictures.load(folder, test=share).test.labels).tolist() == counts


def test_another_class_leaves_the_choice_of_those_before_it(tmp_path: Path) -> None:
    before = identities(pictures.load(draw_classes(tmp_path, COUNTS)).test)
    after = identities(pictures.load(draw_classes(tmp_path, {**COUNTS, "d": 9})).test)
    assert {one for one in after if one[0] < 3} == before


def test_the_end_of_the_training_pictures_has_the_shares_of_the_classes(tmp_path: Path) -> None:
    """`--validation` takes it."""
    labels = pictures.load(draw_classes(tmp_path, COUNTS)).train.labels
    shares = np.bincount(labels) / len(labels)
    for held in range(1, len(labels)):
        counts = np.bincount(labels[-held:], minlength=3)
        assert np.abs(counts - held * shares).max() <= 1.5, held


def test_mean_and_deviation_are_of_the_training_pictures(tmp_path: Path) -> None:
    found = pictures.load(draw_classes(tmp_path, COUNTS), test=0.4)
    pixels = found.train.images / 255.0
    assert found.form.mean == pytest.approx(pixels.mean(), rel=1e-12)
    assert found.form.deviation == pytest.approx(pixels.std(), rel=1e-12)
    x = image_sequences(found.train, dtype=np.float64, form=found.form)
    assert x.shape == (6, 42, 5)
    assert abs(x.mean()) < 1e-12
    assert x.std() == pytest.approx(1.0)


@pytest.mark.parametrize("shape", [(6, 5), (6, 5, 3)])
@pytest.mark.parametrize("view", ["rows", "pixels", "permuted"])
def test_views_of_any_size_against_loops(shape: tuple[int, ...], view: str) -> None:
    images = np.random.default_rng(0).integers(0, 256, (2, *shape), dtype=np.uint8)
    form = ImageForm(("a", "b"), shape, 0.3, 0.2)
    got = image_sequences(images, view, np.float64, permutation_seed=4, form=form)
    colours = 3 if len(shape) == 3 else 1
    order = pixel_permutation(4, 30) if view == "permuted" else np.arange(30)
    assert got.shape == ((6, 2, 5 * colours) if view == "rows" else (30, 2, colours))
    assert got.flags.c_contiguous
    for n in range(2):
        flat = got[:, n].reshape(30, colours)
        for k in range(30):
            row, column = divmod(int(order[k]), 5)
            wanted = (images[n, row, column] / 255.0 - 0.3) / 0.2
            np.testing.assert_allclose(flat[k], wanted, rtol=1e-12, atol=1e-12)
    with pytest.raises(ValueError, match=rf"images: expected shape \(N, {', '.join(map(str, shape))}\)"):
        image_sequences(images[:, :5], view, form=form)


def test_other_sizes_are_scaled_and_said(tmp_path: Path) -> None:
    draw_classes(tmp_path, {"a": 4, "b": 4})
    halves = np.zeros((60, 50), np.uint8)
    halves[30:] = 200
    save(tmp_path / "b" / "large.png", halves)
    save(tmp_path / "b" / "small.png", np.full((2, 2), 77, np.uint8))
    found = pictures.load(tmp_path, test=0.01)
    text = "images of 6x5 pixels (height x width), the most frequent size; 2 of 10 are scaled to it"
    assert found.notes[1] == text
    every = [pixels.tolist() for images in (found.train, found.test) for pixels in images.images]
    assert np.full(SIZE, 77).tolist() in every
    # Bilinear: only the rows at the edge mix both halves.
    (scaled,) = (pixels for pixels in every if pixels[0] == [0] * 5 and pixels[-1] == [200] * 5)
    assert scaled[1] == [0] * 5
    assert scaled[4] == [200] * 5
    wide = pictures.load(tmp_path, size=(3, 8))
    assert wide.form.shape == wide.train.images.shape[1:] == (3, 8)
    assert wide.notes[1] == "images of 3x8 pixels (height x width); 10 of 10 are scaled to it"


def test_the_smallest_of_the_most_frequent_sizes(tmp_path: Path) -> None:
    draw_classes(tmp_path, {"a": 3}, (7, 4))
    draw_classes(tmp_path, {"b": 3}, (4, 7))
    assert pictures.load(tmp_path).form.shape == (4, 7)


def test_colours(tmp_path: Path) -> None:
    for name, colour in (("red", (255, 0, 0)), ("sea", (10, 120, 240))):
        for number in range(2):
            save(tmp_path / name / f"{number}.png", np.full((*SIZE, 3), colour, np.uint8))
    save(tmp_path / "grey" / "1.png", np.full(SIZE, 90, np.uint8))
    save(tmp_path / "grey" / "2.png", np.full(SIZE, 90 * 257, np.uint16))
    glass = np.full((*SIZE, 4), (90, 9, 99, 0), np.uint8)  # light green, and below what cannot be seen
    glass[:3] = (200, 255, 200, 255)
    for number in range(2):
        save(tmp_path / "glass" / f"{number}.png", glass)
    found = pictures.load(tmp_path, colour=True)
    assert found.form.shape == (*SIZE, 3)
    pixels = {found.form.classes[k]: one for k, one in zip(found.test.labels, found.test.images, strict=True)}
    for name, colour in (("red", (255, 0, 0)), ("sea", (10, 120, 240)), ("grey", (90, 90, 90))):
        np.testing.assert_array_equal(pixels[name], np.full((*SIZE, 3), colour))
    glass[3:] = 0  # light ink lies on black
    np.testing.assert_array_equal(pixels["glass"], glass[..., :3])
    grey = pictures.load(tmp_path)
    assert grey.form.shape == SIZE
    # ITU-R 601-2 luma, as Pillow's documentation says.
    luma = grey.train.images[grey.train.labels == grey.form.classes.index("sea")][0, 0, 0]
    assert abs(luma - (0.299 * 10 + 0.587 * 120 + 0.114 * 240)) <= 1


def test_pictures_are_turned_upright(tmp_path: Path) -> None:
    image = pytest.importorskip("PIL.Image")
    exif = image.Exif()
    exif[0x0112] = 6  # the first row is seen on the right, the first column at the top
    pixels = np.arange(90, dtype=np.uint8).reshape(5, 6, 3)
    image.fromarray(pixels).save(tmp_path / "a.png", exif=exif)
    picture = image_files.read_pixels(tmp_path / "a.png", colour=True)
    wanted = [[pixels[4 - column, row] for column in range(5)] for row in range(6)]
    np.testing.assert_array_equal(picture.pixels, wanted)


def test_train_and_test_folders(tmp_path: Path) -> None:
    draw_classes(tmp_path / "train", {"a": 1, "b": 5})
    draw_classes(tmp_path / "test", {"b": 2})
    (tmp_path / "valid" / "a").mkdir(parents=True)
    found = pictures.load(tmp_path)
    assert np.bincount(found.train.labels).tolist() == [1, 5]
    assert found.test.labels.tolist() == [1, 1]
    assert found.notes[2].endswith("): valid")
    with pytest.raises(DataError, match="has its own test folder"):
        pictures.load(tmp_path, test=0.2)
    draw_classes(tmp_path / "test", {"z": 1})
    with pytest.raises(DataError, match=re.escape(f"{tmp_path / 'test' / 'z'}: no such class in")):
        pictures.load(tmp_path)


def test_classes_may_be_called_train_and_test(tmp_path: Path) -> None:
    assert pictures.load(draw_classes(tmp_path, {"train": 3, "test": 3})).form.classes == ("test", "train")


def test_what_is_passed_over_is_said(tmp_path: Path) -> None:
    draw_classes(tmp_path, {"a": 3, "b": 3}, ending=".PNG")
    (tmp_path / ".git").mkdir()
    (tmp_path / "README").write_text("x")
    (tmp_path / "a" / ".hidden.png").write_bytes(b"x")
    (tmp_path / "a" / "inner.png").mkdir()
    (tmp_path / "b" / "Thumbs.db").write_bytes(b"x")
    found = pictures.load(tmp_path)
    assert (len(found.train), len(found.test)) == (4, 2)
    assert found.notes[2].startswith("ignored hidden files and files that are not images (.png, .jpg,")
    assert found.notes[2].endswith("): .git, README, a/.hidden.png and 2 more")


# -- faults ------------------------------------------------------------------------------------------


def fails(folder: Path, words: str, **options: Any) -> None:
    """One line that has these words and names the folder or a file in it."""
    with pytest.raises(DataError, match=re.escape(words)) as caught:
        pictures.load(folder, **options)
    text = str(caught.value)
    assert "\n" not in text
    assert text.startswith(str(folder))


def test_folders_that_cannot_be_trained_on(tmp_path: Path) -> None:
    fails(tmp_path / "nowhere", "no such folder")
    fails(tmp_path, "holds neither folders of images, one per class, nor IDX files")
    fails(save(tmp_path / "loose.png", draw(0, 0)), "is not a folder")
    fails(tmp_path, "holds neither folders of images")
    draw_classes(tmp_path, {"a": 3})
    fails(tmp_path, "holds one class only, a: expected two folders at least")
    draw_classes(tmp_path, {"a": 3, "b": 1})
    fails(tmp_path, "class b has one image: expected at least one to train and one to test")
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "notes.txt").write_text("x")
    fails(tmp_path, "empty: holds no images (.png, .jpg")


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("x.png", b"", "x.png: the file is empty"),
        ("x.png", b"no picture at all", "x.png: not an image: none of PNG, JPEG, BMP, PPM"),
        ("x.jpg", b"\xff\xd8\xff\xe0" + bytes(30), "x.jpg: "),
        ("x.bmp", b"BM" + bytes(100), "x.bmp: damaged image"),
        ("x.ppm", b"P5 100000 100000 255\n", "x.ppm: "),
        ("x.ppm", b"P5 8000 8000 255\n", "x.ppm: too large: 8000 x 8000 pixels; at most 50000000 are read"),
    ],
)
def test_pictures_that_cannot_be_read_are_named(
    tmp_path: Path, name: str, content: bytes, words: str
) -> None:
    draw_classes(tmp_path, {"a": 3, "b": 3})
    (tmp_path / "b" / name).write_bytes(content)
    fails(tmp_path, f"b{os.sep}{words}")


def test_a_cut_picture_is_named(tmp_path: Path) -> None:
    content = save(draw_classes(tmp_path, {"a": 3, "b": 3}) / "b" / "x.png", draw(1, 9)).read_bytes()
    (tmp_path / "b" / "x.png").write_bytes(content[: len(content) - 40])
    fails(tmp_path, f"b{os.sep}x.png: damaged image")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs pipes")
def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(draw_classes(tmp_path, {"a": 3, "b": 3}) / "b" / "x.png")
    fails(tmp_path, "x.png: not a regular file")


def test_pictures_of_one_level(tmp_path: Path) -> None:
    for name in ("a/1", "a/2", "b/1", "b/2"):
        save(tmp_path / f"{name}.png", np.full(SIZE, 9, np.uint8))
    fails(tmp_path, "all pixels of the training images have the same level")


def test_so_much_is_read_at_most(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    draw_classes(tmp_path, {"a": 3, "b": 3})
    for module in (picture_folders, pictures):
        monkeypatch.setattr(module, "LARGEST_CONTENT", 179)
    fails(tmp_path, f"b{os.sep}002.png: the images up to this one are too large; at most 179 bytes")
    fails(tmp_path, "too large: 1 x 90 x 20 = 1800 bytes", size=(90, 20))
    assert pictures.load(tmp_path, size=(5, 5)).form.shape == (5, 5)
    for module in (picture_folders, pictures):
        monkeypatch.setattr(module, "LARGEST_CONTENT", 180)
    assert pictures.load(tmp_path).form.shape == SIZE
    save(tmp_path / "a" / "small.png", np.zeros((1, 1), np.uint8))
    monkeypatch.setattr(picture_folders, "LARGEST_CONTENT", 181)
    fails(tmp_path, "too large: 7 x 6 x 5 = 210 bytes of images; at most 180 are read")


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"test": 0.0}, ValueError, "test: expected a number above 0 and below 1, got 0.0"),
        ({"test": 1.0}, ValueError, "test: expected"),
        ({"size": (0, 5)}, ValueError, "size: expected an integer >= 1, got 0"),
        ({"size": (2.5, 5)}, TypeError, "size: expected an integer"),
        ({"seed": -1}, ValueError, "seed"),
    ],
)
def test_bad_arguments(tmp_path: Path, options: dict[str, Any], error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        pictures.load(tmp_path, **options)


def test_without_pillow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    draw_classes(tmp_path, {"a": 3, "b": 3})
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(UserError, match=r"needs Pillow: pip install 'lstm_numba\[images\]'"):
        pictures.load(tmp_path)


# -- IDX files ---------------------------------------------------------------------------------------


def idx_folder(
    folder: Path,
    labels: list[int],
    test_labels: list[int] | None = None,
    names: Callable[[str, str], str] = "{}-{}-ubyte".format,
    size: tuple[int, int] = SIZE,
) -> Path:
    """Write IDX files, image k of a part with the label and k in its pixels."""
    for part, numbers in (("train", labels), ("t10k", test_labels)):
        if numbers is not None:
            images = np.stack([draw(label % 4, k, size) for k, label in enumerate(numbers)])
            write_idx(folder / names(part, "images-idx3"), images)
            write_idx(folder / names(part, "labels-idx1"), np.array(numbers, np.uint8))
    return folder


@pytest.mark.parametrize(
    "names",
    [
        "{}-{}-ubyte".format,
        "{}-{}-ubyte.gz".format,
        lambda part, kind: f"emnist-letters-{part}-{kind}-ubyte.gz",
        lambda part, kind: f"{part.replace('t10k', 'test')}-{kind.replace('-idx', '.idx')}-ubyte",
        lambda part, kind: f"{part}-{kind[:6]}",
    ],
)
def test_idx_files(tmp_path: Path, names: Callable[[str, str], str]) -> None:
    """The labels may be any numbers; those of the training images are the classes. No Pillow is needed."""
    labels = [1, 3, 1, 7, 7, 3, 1, 1]
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "PIL", None)
        found = pictures.load(idx_folder(tmp_path, labels, [7, 1, 1], names))
    assert found.form.classes == ("1", "3", "7")
    assert found.test.labels.tolist() == [2, 0, 0]
    for part, numbers in ((found.train, labels), (found.test, [7, 1, 1])):
        assert sorted(int(pixels[0, 1]) for pixels in part.images) == list(range(len(numbers)))
        for pixels, label in zip(part.images, part.labels, strict=True):
            number = int(pixels[0, 1])
            assert found.form.classes[label] == str(numbers[number])
            np.testing.assert_array_equal(pixels, draw(numbers[number] % 4, number))


def test_idx_files_without_a_test_part(tmp_path: Path) -> None:
    labels = [0] * 10 + [1] * 30
    idx_folder(tmp_path, labels)
    (tmp_path / "train-images-idx3-ubyte.gz").write_bytes(gzip.compress(b"not read: the plain one is there"))
    (tmp_path / "notes").write_text("x")
    found = pictures.load(tmp_path, test=0.2)
    assert np.bincount(found.test.labels).tolist() == [2, 6]
    assert np.bincount(found.train.labels).tolist() == [8, 24]
    assert {n for _, n in identities(found.train) | identities(found.test)} == set(range(40))
    assert found.notes[2].endswith(": notes")
    pytest.importorskip("PIL.Image", reason="needs Pillow to scale")
    scaled = pictures.load(tmp_path, size=(3, 3))
    assert scaled.form.shape == (3, 3)
    assert scaled.notes[1].endswith("; 40 of 40 are scaled to it")


def test_idx_faults(tmp_path: Path) -> None:
    images, labels = tmp_path / "train-images-idx3-ubyte", tmp_path / "train-labels-idx1-ubyte"
    idx_folder(tmp_path, [0, 1, 0, 1])
    fails(tmp_path, "holds IDX files, whose images are grayscale", colour=True)
    write_idx(labels, np.array([0, 1, 1], np.uint8))
    fails(tmp_path, "train-labels-idx1-ubyte: 3 labels for the 4 images of train-images-idx3-ubyte")
    write_idx(labels, np.array([5, 5, 5, 5], np.uint8))
    fails(tmp_path, "train-labels-idx1-ubyte: one class only: all labels are 5")
    write_idx(labels, np.array([5, 5, 5, 6], np.uint8))
    fails(tmp_path, "class 6 has one image")
    labels.unlink()
    fails(tmp_path, "holds no file train-labels")
    idx_folder(tmp_path, [0, 1, 0, 1], [0, 1, 9])
    fails(tmp_path, "label 9 of image 2 is not among the 2 labels of the training images, 0 to 1")
    idx_folder(tmp_path, [0, 1, 0, 1], [0, 1])
    fails(tmp_path, "has its own test folder", test=0.5)
    (tmp_path / "t10k-labels-idx1-ubyte").unlink()
    fails(tmp_path, "holds no file test-labels")
    (tmp_path / "t10k-images-idx3-ubyte").unlink()
    write_idx(tmp_path / "other-train-images", np.zeros((1, 2, 2), np.uint8))
    fails(tmp_path, "holds several files train-images, expected one: other-train-images, train-images-idx3")
    (tmp_path / "other-train-images").unlink()
    images.write_bytes(images.read_bytes()[:-1])
    fails(tmp_path, "train-images-idx3-ubyte: truncated")
