"""Sphinx's settings: ``sphinx-build -c lstm_numba/docs . OUT``, from the root of the repository.

The root is the source folder, because Markdown pages stay in the folders that they are about and are read
there: a link between two of them means the same here as on a page of the repository. With ``-t run`` the
gallery runs its scripts.
"""

from __future__ import annotations

import fnmatch
import re
from pathlib import Path
from typing import Any

from lstm_numba import __version__

ROOT = Path(__file__).resolve().parents[2]

project = "lstm_numba"
author = "The lstm_numba developers"
release = version = __version__

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.mathjax",
    "numpydoc",
    "myst_parser",
    "sphinx_gallery.gen_gallery",
]
root_doc = "lstm_numba/docs/index"
include_patterns = [
    "README.md",
    "CONTRIBUTING.md",
    "CHANGELOG.md",
    "SECURITY.md",
    "cli/**.md",
    "data/**.md",
    "benchmarks/**.md",
    "lstm_numba/**.md",
    "lstm_numba/docs/**.rst",
]
#: The repository's pages in the order in which they are listed; those that are not there are left out.
PAGES = (
    "README",
    "cli/*",
    "lstm_numba/README",
    "lstm_numba/nn/*",
    "lstm_numba/training/*",
    "lstm_numba/cells/*",
    "lstm_numba/kernels/*",
    "lstm_numba/interop/*",
    "data/*",
    "lstm_numba/*/README",
    "lstm_numba/*/*/README",
    "benchmarks/README",
    "benchmarks/*/*",
    "CONTRIBUTING",
    "CHANGELOG",
    "SECURITY",
)
html_theme = "furo"
html_title = f"lstm_numba {version}"
html_show_sourcelink = False
default_role = "obj"

exclude_patterns = ["lstm_numba/docs/gallery"]

# Paths are below the source folder. Pages of the gallery are written, and kept, beside the scripts' folder.
sphinx_gallery_conf = {
    "examples_dirs": "lstm_numba/docs/gallery",
    "gallery_dirs": "lstm_numba/docs/examples",
    "filename_pattern": r"\.py$",
    "plot_gallery": tags.has("run"),  # type: ignore[name-defined]  # noqa: F821  Sphinx defines it
    "capture_repr": (),  # what is printed, not what a last line happens to return
    "write_computation_times": False,
    "show_memory": False,
}

autodoc_member_order = "bysource"
# A class shows the arguments of its constructor once, in its signature; types are in the text.
autodoc_typehints = "none"
numpydoc_show_class_members = False
autodoc_class_signature = "mixed"

myst_enable_extensions = ["html_image"]
# Equations stand in ```math blocks.
myst_fence_as_directive = ["math"]
# As in a repository's pages: a heading's words are its anchor.
myst_heading_anchors = 4
# Fragments of pages begin with a heading of the second level.
suppress_warnings = ["myst.header"]

_MATH = re.compile(r"\$(`[^`\n]+`)\$")
_LINK = re.compile(r"(?<!!)\[([^\]]*)\]\(([^)#\s:]+)(#[^)\s]*)?\)")


def _folder_pages(folder: Path, text: str) -> str:
    """Links that lead to a folder lead to its page, or are plain text where it has none.

    On a page of the repository a link to a folder shows the folder and its page below; here is the page only.
    """

    def page(match: re.Match[str]) -> str:
        words, target, anchor = match[1], match[2], match[3] or ""
        path = folder / target
        if not path.is_dir():
            return match[0]
        if (path / "README.md").is_file():
            return f"[{words}]({target.rstrip('/')}/README.md{anchor})"
        return words

    return _LINK.sub(page, text)


def _pages(found: set[str]) -> str:
    """Lines of a table of contents: the pages of the repository that there are, in the order of `PAGES`."""
    listed = [page for pattern in PAGES for page in sorted(fnmatch.filter(found, pattern))]
    return "\n".join(f"   /{page}" for page in dict.fromkeys(listed))


def _read(app: Any, docname: str, source: list[str]) -> None:
    path = Path(app.env.doc2path(docname))
    if docname == root_doc:
        source[0] = source[0].replace("   PAGES", _pages(app.env.found_docs))
    elif path.suffix == ".md":
        source[0] = _folder_pages(path.parent, _MATH.sub(r"{math}\1", source[0]))


def _skip(app: Any, what: str, name: str, thing: Any, skip: bool, options: Any) -> bool | None:
    """Leave out what scikit-learn adds to estimators: its texts refer to pages of its own."""
    return True if re.fullmatch(r"(set_\w+_request|get_metadata_routing)", name) else None


def setup(app: Any) -> None:
    """Add the rules for links, for the list of pages, and for what scikit-learn adds."""
    app.connect("source-read", _read)
    app.connect("autodoc-skip-member", _skip)
