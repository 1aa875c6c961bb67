"""The repository's Markdown pages: their code, links, anchors and commands.

Before a block of Python a page may have comments that readers do not see::

    <!-- test: setup
    code that runs before the block
    -->
    <!-- test: needs torch -->       run only where the package is installed; cuda: on a GPU
    <!-- test: skip WHY -->          never run

A block that names the device "cuda" runs on a GPU, or in CUDA's simulator, only, without being told.
"""

from __future__ import annotations

import contextlib
import importlib.util
import io
import re
import shlex
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from backends import reason_without_cuda
from repository import ROOT

_FENCE = re.compile(r"^ {0,3}(`{3,}|~{3,})\s*([\w+-]*)")
_DIRECTIVE = re.compile(r"^<!-- test: (setup|needs|skip)\b(.*?)-->$", re.DOTALL | re.MULTILINE)
#: Folders that are made, not written.
_MADE = {"build", "dist", "node_modules", "_build", "auto_examples"}
#: What stands between a command and the next one in a line.
_BETWEEN = {"&&", "||", "|", ";"}


class Block(NamedTuple):
    """A fenced block: its line in the page, language, content, and what the comments before it say."""

    line: int
    language: str
    source: str
    directives: tuple[tuple[str, str], ...]


class Done(NamedTuple):
    """A block that ran: what it printed, and all names after it."""

    block: Block
    printed: str
    names: dict[str, Any]


#: Runs a page, by its path from the repository's root.
Runner = Callable[[str], list[Done]]


def all_pages() -> list[Path]:
    """Every Markdown page of the repository, by its path from there."""
    found = (path.relative_to(ROOT) for path in ROOT.rglob("*.md"))
    return sorted(
        path
        for path in found
        if not any(part.startswith(".") or part in _MADE or part.endswith(".egg-info") for part in path.parts)
    )


def text_of(page: str | Path) -> str:
    """The text of a page."""
    return (ROOT / page).read_text(encoding="utf-8")


def _split(text: str) -> Iterator[tuple[Block | None, str]]:
    """Fenced blocks, and the prose before each and after the last."""
    prose: list[str] = []
    fence, language, begin = "", "", 0
    inside: list[str] = []
    for number, line in enumerate(text.splitlines(), 1):
        found = _FENCE.match(line)
        if fence:
            if line.strip().startswith(fence) and not line.strip().strip(fence[0]):
                before = "\n".join(prose)
                directives = tuple((kind, rest.strip()) for kind, rest in _DIRECTIVE.findall(before))
                yield Block(begin, language, "\n".join(inside) + "\n", directives), before
                prose, fence = [], ""
            else:
                inside.append(line)
        elif found and "<!--" not in line:
            fence, language, begin, inside = found[1], found[2], number, []
        else:
            prose.append(line)
    assert not fence, f"line {begin}: a block without an end"
    yield None, "\n".join(prose)


def blocks(text: str, *languages: str) -> list[Block]:
    """Fenced blocks in some languages; ``blocks(text, "py", "python")`` are those of Python."""
    return [block for block, _ in _split(text) if block is not None and block.language in languages]


def python_blocks(text: str) -> list[Block]:
    """Blocks of Python."""
    return blocks(text, "py", "python")


# -- code ----------------------------------------------------------------------------------------------


def reason_to_skip(block: Block) -> str:
    """Why a block does not run here; empty where it does."""
    for kind, rest in block.directives:
        if kind == "skip":
            return rest or "skipped"
        for name in rest.split() if kind == "needs" else ():
            if name != "cuda" and importlib.util.find_spec(name) is None:
                return f"{name} is not installed"
    return reason_without_cuda() if needs_gpu(block) else ""


def needs_gpu(block: Block) -> bool:
    """Whether a block computes on a GPU; CUDA's simulator does too."""
    return '"cuda"' in block.source or ("needs", "cuda") in block.directives


def run_page(text: str, name: str, names: dict[str, Any] | None = None) -> list[Done]:
    """Run a page's Python from top to bottom, in one namespace and in the current folder.

    Parameters
    ----------
    text, name : str
        The page, and what it is called in tracebacks.
    names : dict, optional
        What is there at the beginning.
    """
    known: dict[str, Any] = {"__name__": "page", **(names or {})}
    done = []
    for block in python_blocks(text):
        if reason_to_skip(block):
            continue
        setup = "\n".join(rest for kind, rest in block.directives if kind == "setup")
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(compile(setup, f"{name}, before line {block.line}", "exec"), known)
            # Empty lines before it: a traceback names the page's own lines.
            exec(compile("\n" * block.line + block.source, name, "exec"), known)
        done.append(Done(block, printed.getvalue(), dict(known)))
    return done


# -- links ---------------------------------------------------------------------------------------------


def _prose(text: str) -> str:
    """A page without blocks and comments."""
    return re.sub(r"<!--.*?-->", "", "\n".join(prose for _, prose in _split(text)), flags=re.DOTALL)


def anchors(text: str) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them, and those that it sets itself."""
    found: dict[str, int] = {}
    for heading in re.findall(r"^#{1,6} +(.*?)(?: +#+)?$", _prose(text), re.MULTILINE):
        shown = re.sub(r"!?\[([^\]]*)\]\([^)]*\)", r"\1", heading)
        slug = re.sub(r"[^\w\- ]", "", shown.strip().lower()).replace(" ", "-")
        count = found.get(slug, 0)
        found[slug] = count + 1
        found.setdefault(f"{slug}-{count}" if count else slug, 1)
    own = re.findall(r'<a [^>]*?(?:id|name)="([^"]+)"', text)
    return {*found, *own}


def links(text: str) -> list[str]:
    """Where a page's links and pictures lead, but for those into the network."""
    prose = re.sub(r"`[^`\n]*`", "", _prose(text))
    found = [target.split()[0] for target in re.findall(r"\]\(([^)\s][^)]*)\)", prose)]
    found += re.findall(r'\b(?:src|href|srcset)="([^"]+)"', prose)
    return [link for link in found if not re.match(r"[a-z]+:", link)]


def broken_links(page: Path) -> list[str]:
    """Links of a page that lead to no file or to no heading."""
    return [link for link in links(text_of(page)) if not _leads_somewhere(page, link)]


def _leads_somewhere(page: Path, link: str) -> bool:
    path, _, anchor = link.partition("#")
    target = (ROOT / page.parent / path).resolve() if path else (ROOT / page).resolve()
    if not target.exists() or not target.is_relative_to(ROOT):
        return False
    return not anchor or target.suffix != ".md" or anchor in anchors(target.read_text(encoding="utf-8"))


# -- commands ------------------------------------------------------------------------------------------


def commands(text: str) -> list[list[str]]:
    """The command lines in a page's ``sh`` blocks, as words, without comments and what launches them."""
    found = []
    for block in blocks(text, "sh", "bash", "shell"):
        for line in block.source.replace("\\\n", " ").splitlines():
            for words in _parted(shlex.split(line, comments=True)):
                while words and re.fullmatch(r"[A-Z_]+=.*", words[0]):
                    words = words[1:]
                if words[:2] == ["mpiexec", "-n"]:
                    words = words[3:]
                if words:
                    found.append(words)
    return found


def _parted(words: list[str]) -> Iterator[list[str]]:
    part: list[str] = []
    for word in words:
        if word in _BETWEEN:
            yield part
            part = []
        else:
            part.append(word)
    yield part


def mentions(text: str) -> list[str]:
    """Commands of the program that prose names between backticks, without ``lstm-numba``."""
    flat = re.sub(r"\s+", " ", _prose(text))
    return [found.strip() for found in re.findall(r"`lstm-numba(?: ([^`]*))?`", flat) if found.strip()]
