"""What all pictures have in common: colours, files, text that is no formula."""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import colormaps, rc_context
from matplotlib.figure import Figure

from lstm_numba.data.file_io import atomic_write
from lstm_numba.plots.svg import compact

#: Colours that can be told apart with colour blindness (Okabe and Ito 2008).
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")
#: Markers and lines for more curves than there are colours.
MARKERS = ("o", "s", "^", "D", "v", "P", "X")


def colours(count: int) -> list[Any]:
    """So many colours that can be told apart."""
    if count <= len(COLOURS):
        return list(COLOURS[:count])
    return list(colormaps["turbo"](np.linspace(0.05, 0.95, count)))


#: Text and lines on a dark page.
_DARK = {
    **dict.fromkeys(("text.color", "axes.labelcolor", "xtick.color", "ytick.color"), "#e6e6e6"),
    **dict.fromkeys(("figure.facecolor", "axes.facecolor"), "#161616"),
    "axes.edgecolor": "#a0a0a0",
    "grid.color": "#707070",
}


@contextmanager
def dark() -> Iterator[None]:
    """Figures that are drawn and rendered inside are light on dark."""
    with rc_context(_DARK):
        yield


def plain(text: str) -> str:
    """Text in which a dollar sign does not begin a formula."""
    return text.replace("$", r"\$")


def rendered(figure: Figure, form: str) -> bytes:
    """A figure as a file's content; `form` is "png" or "svg". The same figure gives the same bytes."""
    buffer = io.BytesIO()
    metadata = {"Date": None} if form == "svg" else None  # without a date and random names
    with rc_context({"svg.hashsalt": "lstm_numba"}), warnings.catch_warnings():
        # A sign that the font lacks is drawn as a box, which says as much.
        warnings.filterwarnings("ignore", "Glyph .* missing from font")
        figure.savefig(buffer, format=form, dpi=150, metadata=metadata)
    return compact(buffer.getvalue()) if form == "svg" else buffer.getvalue()


def save(figure: Figure, stem: Path) -> list[Path]:
    """Write a figure as PNG and as SVG and return the two paths."""
    paths = [stem.with_name(f"{stem.name}.{form}") for form in ("png", "svg")]
    for path in paths:
        atomic_write(path, rendered(figure, path.suffix[1:]))
    return paths
