"""Finds and reads labelled pictures in folders: one folder for each class, or IDX files."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from lstm_numba.data.file_io import LARGEST_CONTENT, fault, one_line, reason
from lstm_numba.data.idx import read_idx
from lstm_numba.data.image_files import fit, read_pixels

#: How the names of pictures end, in small letters or large ones.
ENDINGS = (".png", ".jpg", ".jpeg", ".bmp", ".ppm", ".pgm", ".pbm", ".pnm")
#: Files ignored that a message names.
_SHOWN = 3

#: Names of IDX files, MNIST's and those of its successors: emnist-letters-train-images-idx3-ubyte.gz.
_IDX = re.compile(
    r"(?:.*-)?(train|t10k|test)-(images|labels)(?:[-.]idx\d)?(?:[-.]ubyte)?(?:\.idx)?(?:\.gz)?", re.DOTALL
)

Pixels = npt.NDArray[np.uint8]


class Part(NamedTuple):
    """Pictures to train or to test on.

    Attributes
    ----------
    pictures : sequence of N ndarray, uint8
        Of any sizes, (height, width) or (height, width, 3).
    labels : ndarray, int32, shape (N,)
    sizes : list of N tuple of int
        Heights and widths in the files; pictures may be scaled already.
    """

    pictures: Sequence[Pixels]
    labels: npt.NDArray[np.int32]
    sizes: list[tuple[int, int]]

    def take(self, indices: npt.NDArray[np.int64]) -> Part:
        """The pictures at `indices`."""
        chosen = indices.tolist()
        return Part([self.pictures[k] for k in chosen], self.labels[indices], [self.sizes[k] for k in chosen])


def list_folder(path: Path) -> list[Path]:
    """What is in a folder, in the order of the names.

    Raises
    ------
    DataError
        There is no such folder, or it cannot be read.
    """
    try:
        return sorted(path.iterdir(), key=lambda entry: entry.name)
    except FileNotFoundError:
        raise fault(path, "no such folder") from None
    except NotADirectoryError:
        raise fault(path, "is not a folder: expected one with a folder of images per class") from None
    except OSError as error:
        raise fault(path, f"cannot be read: {reason(error)}") from None
    except ValueError as error:  # a NUL byte in the name
        raise fault(path, f"not a folder's name: {error}") from None


def _hidden(path: Path) -> bool:
    return path.name.startswith(".")


def _is_picture(path: Path) -> bool:
    return not _hidden(path) and path.suffix.lower() in ENDINGS and not os.path.isdir(path)


def _is_class(path: Path) -> bool:
    return not _hidden(path) and os.path.isdir(path)


def _note_skipped(root: Path, skipped: Sequence[Path]) -> list[str]:
    """A line about files that were ignored, if there are any."""
    if not skipped:
        return []
    names = ", ".join(one_line(path.relative_to(root), 60) for path in skipped[:_SHOWN])
    more = f" and {len(skipped) - _SHOWN:,} more" if len(skipped) > _SHOWN else ""
    return [f"ignored hidden files and files that are not images ({', '.join(ENDINGS)}): {names}{more}"]


# -- a folder for each class -------------------------------------------------------------------------


def read_folders(
    root: Path, size: tuple[int, int] | None, colour: bool
) -> tuple[tuple[str, ...], dict[str, Part], list[str]]:
    """Read the pictures in the folders of `root`, or of its folders ``train`` and ``test``.

    Parameters
    ----------
    root : Path
    size : tuple of 2 int, optional
        Height and width to which each picture is scaled as soon as it is read.
    colour : bool
        See `lstm_numba.data.image_files.read_pixels`.

    Returns
    -------
    classes : tuple of str
        The folders' names in the order of the alphabet.
    parts : dict of Part
        "train", and "test" where there is such a folder.
    notes : list of str
        What was ignored.

    Raises
    ------
    DataError
        There are less than two classes, a class without pictures, or a picture that cannot be read.
    """
    entries, skipped = list_folder(root), list[Path]()
    folders = {"train": root}
    named = {entry.name: entry for entry in entries if _is_class(entry)}
    if {"train", "test"} <= named.keys() and any(map(_is_class, list_folder(named["train"]))):
        folders = {part: named[part] for part in ("train", "test")}
        skipped += [entry for entry in entries if entry not in folders.values()]
    found = {part: _list_classes(folder, skipped) for part, folder in folders.items()}
    classes = tuple(found["train"])
    if len(classes) < 2:
        name = one_line(classes[0], 80)
        raise fault(folders["train"], f"holds one class only, {name}: expected two folders at least")
    for name in found.get("test", ()):
        if name not in classes:
            raise fault(folders["test"] / name, f"no such class in {folders['train']}")
    return classes, _read_parts(found, classes, size, colour), _note_skipped(root, skipped)


def _list_classes(folder: Path, skipped: list[Path]) -> dict[str, list[Path]]:
    """The pictures of each class; other files are added to `skipped`."""
    classes = {}
    for entry in list_folder(folder):
        if not _is_class(entry):
            skipped.append(entry)
            continue
        inside = list_folder(entry)
        classes[entry.name] = [path for path in inside if _is_picture(path)]
        skipped += [path for path in inside if not _is_picture(path)]
        if not classes[entry.name]:
            raise fault(entry, f"holds no images ({', '.join(ENDINGS)}): fill or remove this class")
    if not classes:
        raise fault(
            folder,
            "holds neither folders of images, one per class, nor IDX files (train-images-idx3-ubyte)",
        )
    return classes


def _read_parts(
    found: Mapping[str, Mapping[str, list[Path]]],
    classes: tuple[str, ...],
    size: tuple[int, int] | None,
    colour: bool,
) -> dict[str, Part]:
    parts: dict[str, Part] = {}
    held = 0
    for part, paths_of in found.items():
        pictures, sizes, labels = list[Pixels](), list[tuple[int, int]](), list[int]()
        for name, paths in paths_of.items():
            for path in paths:
                pixels = read_pixels(path, colour).pixels
                height, width, *colours = pixels.shape
                if size is not None:
                    pixels = fit(pixels[None], (*size, *colours))[0]
                held += pixels.size
                if held > LARGEST_CONTENT:
                    most = f"at most {LARGEST_CONTENT} bytes are read: choose a smaller --size"
                    raise fault(path, f"the images up to this one are too large; {most}")
                pictures.append(pixels)
                sizes.append((height, width))
            labels += [classes.index(name)] * len(paths)
        parts[part] = Part(pictures, np.array(labels, np.int32), sizes)
    return parts


# -- IDX files ---------------------------------------------------------------------------------------


def _role(path: Path) -> tuple[str, str] | None:
    """What an IDX file is by its name: ("train" or "test", "images" or "labels")."""
    match = _IDX.fullmatch(path.name)
    if match is None or _hidden(path) or os.path.isdir(path):
        return None
    return "train" if match[1] == "train" else "test", match[2]


def is_idx_folder(root: Path) -> bool:
    """Whether a folder holds files that are named as MNIST's are; raises as `list_folder`."""
    return any(map(_role, list_folder(root)))


def read_idx_files(root: Path) -> tuple[tuple[str, ...], dict[str, Part], list[str]]:
    """Read the IDX files of a folder: training images with labels, and test images if there are any.

    The classes are the labels of the training images, whatever numbers these are. Of a file and its gzipped
    form the plain one is read. Returns the same as `read_folders`.

    Raises
    ------
    DataError
        A file is missing, damaged, or there are several; labels and images are not equally many; there are
        less than two classes; a test image has a label that no training image has.
    """
    entries = list_folder(root)
    found: dict[tuple[str, str], dict[str, Path]] = {}
    for path in entries:
        role = _role(path)
        if role is not None:
            found.setdefault(role, {}).setdefault(path.name.removesuffix(".gz"), path)
    skipped = [path for path in entries if _role(path) is None]
    train, labels, path = _read_pair(root, found, "train")
    numbers = np.unique(labels)
    if len(numbers) < 2:
        raise fault(path, f"one class only: all labels are {numbers[0]}")
    parts = {"train": _idx_part(train, labels, numbers)}
    if any(part == "test" for part, _ in found):
        test, labels, path = _read_pair(root, found, "test")
        odd = np.flatnonzero(~np.isin(labels, numbers))
        if len(odd):
            raise fault(
                path,
                f"label {labels[odd[0]]} of image {odd[0]} is not among the {len(numbers)} labels of the "
                f"training images, {numbers[0]} to {numbers[-1]}",
            )
        parts["test"] = _idx_part(test, labels, numbers)
    return tuple(map(str, numbers.tolist())), parts, _note_skipped(root, skipped)


def _read_pair(
    root: Path, found: Mapping[tuple[str, str], Mapping[str, Path]], part: str
) -> tuple[Pixels, Pixels, Path]:
    """Images and labels of a part, and the labels' file."""
    images = _only(root, found.get((part, "images"), {}).values(), f"{part}-images")
    labels = _only(root, found.get((part, "labels"), {}).values(), f"{part}-labels")
    pixels, numbers = read_idx(images, 3), read_idx(labels, 1)
    if len(pixels) != len(numbers):
        raise fault(labels, f"{len(numbers)} labels for the {len(pixels)} images of {images.name}")
    return pixels, numbers, labels


def _only(root: Path, paths: Iterable[Path], kind: str) -> Path:
    found = list(paths)
    if not found:
        raise fault(root, f"holds no file {kind}, beside others of IDX files")
    if len(found) > 1:
        names = ", ".join(path.name for path in found)
        raise fault(root, f"holds several files {kind}, expected one: {names}")
    return found[0]


def _idx_part(images: Pixels, labels: Pixels, numbers: Pixels) -> Part:
    height, width = images.shape[1:]
    indices = np.searchsorted(numbers, labels).astype(np.int32)
    return Part(list(images), indices, [(height, width)] * len(images))
