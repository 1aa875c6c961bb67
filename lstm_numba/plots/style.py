"""What all pictures have in common: colours, files, text that is no formula."""

from __future__ import annotations

import io
import re
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import colormaps, rc_context
from matplotlib.figure import Figure

from lstm_numba.data.file_io import atomic_write

#: Colours that can be told apart with colour blindness (Okabe and Ito 2008).
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")
#: Markers and lines for more curves than there are colours.
MARKERS = ("o", "s", "^", "D", "v", "P", "X")


def colours(count: int) -> list[Any]:
    """So many colours that can be told apart."""
    if count <= len(COLOURS):
        return list(COLOURS[:count])
    return list(colormaps["turbo"](np.linspace(0.05, 0.95, count)))


def plain(text: str) -> str:
    """Text in which a dollar sign does not begin a formula."""
    return text.replace("$", r"\$")


def rendered(figure: Figure, form: str) -> bytes:
    """A figure as a file's content; `form` is "png" or "svg". The same figure gives the same bytes."""
    buffer = io.BytesIO()
    metadata = {"Date": None} if form == "svg" else None  # without a date and random names
    with rc_context({"svg.hashsalt": "lstm_numba"}):
        figure.savefig(buffer, format=form, dpi=150, metadata=metadata)
    return _compact(buffer.getvalue()) if form == "svg" else buffer.getvalue()


def _compact(svg: bytes) -> bytes:
    """An SVG file without comments, indentation, names of small parts, and digits beyond a thousandth."""
    svg = re.sub(rb"<!--.*?-->", b"", svg, flags=re.DOTALL)
    svg = re.sub(rb' id="(?:text|line2d|patch|[xy]tick)_\d+"', b"", svg)
    svg = re.sub(rb"(\.\d{3})\d+", rb"\1", svg)
    svg = svg.replace(b"DejaVuSans-", b"D")  # before each letter's code
    return re.sub(rb"\s*\n\s*", b"\n", svg)


def save(figure: Figure, stem: Path) -> list[Path]:
    """Write a figure as PNG and as SVG and return the two paths."""
    paths = [stem.with_name(f"{stem.name}.{form}") for form in ("png", "svg")]
    for path in paths:
        atomic_write(path, rendered(figure, path.suffix[1:]))
    return paths
