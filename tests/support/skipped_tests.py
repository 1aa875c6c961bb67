"""Name the tests that a run of pytest skipped because a package is not installed.

    python tests/support/skipped_tests.py RESULTS.xml

RESULTS.xml is what ``pytest --junitxml`` wrote; the names are such as pytest takes, one a line.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from xml.etree import ElementTree

#: What a reason says; CUDA's tests are run elsewhere.
_WANTING = re.compile(r"^(?!.*numba-cuda).*(could not import|is not installed|needs (Pillow|matplotlib))")


def skipped_tests(results: Path) -> list[str]:
    """Names of the tests, of files where a whole file was skipped."""
    names = []
    for case in ElementTree.parse(results).iter("testcase"):
        skipped = case.find("skipped")
        if skipped is not None and _WANTING.search(f"{skipped.get('message')} {skipped.text}"):
            module, test = case.get("classname", ""), case.get("name", "")
            file = (module or test).replace(".", "/") + ".py"
            names.append(f"{file}::{test}" if module else file)
    return names


if __name__ == "__main__":
    for name in skipped_tests(Path(sys.argv[1])):
        print(name)
