"""Check that a tag, the version and the texts that name it agree: ``python .ci/check_release.py v0.2.0``."""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

#: File and the line in it that names the version.
PLACES = {
    "pyproject.toml": r'^version = "(.+)"$',
    "lstm_numba/_version.py": r'^__version__ = "(.+)"$',
    "CITATION.cff": r"^version: (.+)$",
    "CHANGELOG.md": r"^## \[(\d.+)\] - \d{4}-\d{2}-\d{2}$",
    ".ci/conda/recipe.yaml": r'^  version: "(.+)"$',
}


def versions() -> dict[str, str | None]:
    """The version that each file names; of several, as in the changelog, the first."""
    found = {name: re.search(line, (ROOT / name).read_text("utf-8"), re.M) for name, line in PLACES.items()}
    return {name: match and match[1] for name, match in found.items()}


def main(tag: str) -> str | None:
    """What does not agree with the tag, as an error message."""
    wrong = [
        f"{name}: {version or 'no version'}" for name, version in versions().items() if f"v{version}" != tag
    ]
    return f"tag {tag}, but {'; '.join(wrong)}" if wrong else None


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("tag", help="v and the version")
    sys.exit(main(parser.parse_args().tag))
