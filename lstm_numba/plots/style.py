"""What all pictures have in common: colours and lines, titles, ticks in plain numbers, files."""

from __future__ import annotations

import io
import math
import textwrap
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import colormaps, rc_context
from matplotlib.figure import Figure
from matplotlib.ticker import Locator, LogLocator, MaxNLocator, NullLocator

from lstm_numba.data.file_io import atomic_write
from lstm_numba.plots.svg import compact

#: Colours that can be told apart with colour blindness (Okabe and Ito 2008).
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")
#: Markers and lines by which curves differ beside their colours, so that they do in grey too.
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
LINES = ("-", "--", "-.", ":")


def colours(count: int) -> list[Any]:
    """So many colours that can be told apart."""
    if count <= len(COLOURS):
        return list(COLOURS[:count])
    return [tuple(colour) for colour in colormaps["turbo"](np.linspace(0.05, 0.95, count)).tolist()]


def looks(count: int) -> list[dict[str, Any]]:
    """Colour, line and marker of so many curves, of which no two of up to 56 look alike in grey."""
    return [
        {"color": colour, "linestyle": LINES[n % len(LINES)], **marks(n, colour, len(MARKERS) * len(LINES))}
        for n, colour in enumerate(colours(count))
    ]


def marks(number: int, colour: Any, filled: int = len(MARKERS)) -> dict[str, Any]:
    """Marker of a curve by its number; after so many filled ones they are hollow."""
    hollow = number // filled % 2
    return {
        "marker": MARKERS[number % len(MARKERS)],
        "markerfacecolor": "white" if hollow else colour,
        "markeredgecolor": colour,
    }


def titled(figure: Figure, name: str, what: str, size: float = 12.0, *more: str) -> None:
    """Write the title of a figure: what it is a picture of, usually a run, and what it shows of it.

    The title, and `more` lines of it, are wrapped at the figure's width, so that a long name is not cut.
    """
    # A letter is about 0.6 of the size wide; names hold capitals.
    width = max(int(figure.get_figwidth() * 72 / (0.6 * size)), 10)
    lines = [
        line for text in (f"{name}: {what}" if name else what, *more) for line in textwrap.wrap(text, width)
    ]
    figure.suptitle(plain("\n".join(lines)), fontsize=size)


class _PlainLogLocator(Locator):
    """Ticks of a logarithmic axis at numbers that can be read: 100, 150, 200."""

    def __call__(self) -> Any:
        return self.tick_values(*self.axis.get_view_interval())

    def tick_values(self, vmin: float, vmax: float) -> Any:
        """Evenly spaced within a factor of 5, else 1, 2 and 5 of each power of ten, or the powers."""
        low, high = sorted((vmin, vmax))
        if low <= 0:
            return np.zeros(0)
        if high < 5 * low:
            return MaxNLocator(6, steps=[1, 2, 2.5, 5, 10]).tick_values(low, high)
        decades = math.log10(high / low)
        ticks: Any = LogLocator(subs=(1.0, 2.0, 5.0) if decades < 3 else (1.0,)).tick_values(low, high)
        return ticks[(ticks >= low) & (ticks <= high)]


def plain_log(axes: Any) -> None:
    """Make a vertical axis logarithmic, with ticks in plain numbers: no powers of ten and no offset."""
    axes.set_yscale("log")
    axes.yaxis.set_major_locator(_PlainLogLocator())
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(lambda value, _: plain_number(value))


def plain_number(value: float) -> str:
    """A tick in plain digits: ``1,500``, ``2.5``, ``0.0003``."""
    if abs(value) >= 1000 or value == round(value):
        return f"{value:,.0f}"
    return f"{float(f'{value:.6g}'):.10f}".rstrip("0")


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
