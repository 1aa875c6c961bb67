"""SVG files whose text and lines follow the page: dark on a light one, light on a dark one.

A figure uses `INK` for text and lines and no background; `svg` writes text as text, so that files are small
and readers can select it, and lets a style sheet in the file choose the ink.
"""

from __future__ import annotations

from typing import Any

from matplotlib import rc_context
from matplotlib.figure import Figure

from lstm_numba.plots.style import rendered

#: The colour that a page replaces by its own: nothing else in a figure may have it.
INK = "#123456"
_LIGHT, _DARK = b"#1f2328", b"#e6edf3"
_STYLE = b"svg{color:%s}@media(prefers-color-scheme:dark){svg{color:%s}}" % (_LIGHT, _DARK)
_SETTINGS: dict[str, Any] = {
    **dict.fromkeys(("text.color", "axes.labelcolor", "xtick.color", "ytick.color", "axes.edgecolor"), INK),
    **dict.fromkeys(("figure.facecolor", "axes.facecolor", "savefig.facecolor"), "none"),
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],  # others would be listed at every word
    "font.size": 9.0,
}


def style() -> Any:
    """A context in which figures are drawn."""
    return rc_context(_SETTINGS)


def svg(figure: Figure) -> bytes:
    """A figure, drawn within `style`, as a file's content; the same figure gives the same bytes."""
    with style():
        content = rendered(figure, "svg")
    content = content.replace(b"#123456", b"currentColor")
    return content.replace(b'<style type="text/css">', b'<style type="text/css">' + _STYLE, 1)
