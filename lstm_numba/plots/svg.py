"""SVG files as matplotlib writes them, in fewer bytes."""

from __future__ import annotations

import re


def compact(svg: bytes) -> bytes:
    """The same picture in fewer bytes: two decimals of coordinates, which are points, and short names of
    letters' shapes. Numbers below 1 are factors and stay as they are.
    """
    svg = re.sub(rb"(?<![\d.])[1-9]\d*\.\d{3,}", lambda number: b"%.2f" % float(number[0]), svg)
    svg = re.sub(rb"\n\s+", b"\n", re.sub(rb"<!-- .*? -->\n", b"", svg))
    svg = svg.replace(b"DejaVuSans-", b"g")
    svg = re.sub(rb'(<use [^>]*)transform="translate\(([\d.]+) 0\)"', rb'\1x="\2"', svg)
    used = set(re.findall(rb"#([\w-]+)", svg))
    svg = re.sub(rb' id="([\w.-]+)"', lambda found: found[0] if found[1] in used else b"", svg)
    return re.sub(rb'<g([^>]*)>\n((?:<use [^>]*style="[^"]*"/>\n)+)</g>', _one_style, svg)


def _one_style(group: re.Match[bytes]) -> bytes:
    """A group of marks, with their style said once if all have the same."""
    attributes, marks = group.groups()
    styles = set(re.findall(rb' style="[^"]*"', marks))
    if len(styles) > 1 or b"style" in attributes:
        return group[0]
    (style,) = styles
    return b"<g" + attributes + style + b">\n" + marks.replace(style, b"") + b"</g>"
