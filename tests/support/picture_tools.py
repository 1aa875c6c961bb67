"""Draws small labelled pictures into folders."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

#: Height and width of the pictures.
SIZE = (6, 5)


def save(path: Path, pixels: npt.NDArray[np.uint8]) -> Path:
    """Write a picture; the name's ending tells the format."""
    image = pytest.importorskip("PIL.Image", reason="needs Pillow")
    path.parent.mkdir(parents=True, exist_ok=True)
    image.fromarray(pixels).save(path)
    return path


def draw(label: int, number: int, size: tuple[int, int] = SIZE) -> npt.NDArray[np.uint8]:
    """A picture of a class: noise, darker below a line that the class chooses; each one is different."""
    pixels = np.random.default_rng([label, number]).integers(120, 256, size, dtype=np.uint8)
    pixels[1 + label :] //= 4
    pixels[0, 0], pixels[0, 1] = label, number
    return pixels


def draw_classes(
    folder: Path, counts: Mapping[str, int], size: tuple[int, int] = SIZE, ending: str = ".png"
) -> Path:
    """Write so many pictures of each class: the folder's class k has ``draw(k, 0)``, ``draw(k, 1)``, ..."""
    for label, (name, count) in enumerate(sorted(counts.items())):
        for number in range(count):
            save(folder / name / f"{number:03}{ending}", draw(label, number, size))
    return folder
