"""The Reber grammar as regular expressions, written down from the graph's picture without the package."""

from __future__ import annotations

import re

# After X from the upper branch and P from the lower one the rest is the same.
_REST = "(?:XT*VP)*(?:S|XT*VV)"
STRING = re.compile(f"B(?:TS*X{_REST}|PT*V(?:V|P{_REST}))E")
EMBEDDED = re.compile(f"B(?:T{STRING.pattern}T|P{STRING.pattern}P)E")
