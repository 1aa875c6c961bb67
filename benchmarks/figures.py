"""Every figure that the pages quote, measured in one sitting, and its tables.

    python -m lstm_numba.benchmarks.figures measure benchmarks/results/zen5-avx512 --data-dir DATA
    python -m lstm_numba.benchmarks.figures measure benchmarks/results/zen5-avx2 --isa avx2 --only layers cold
    python -m lstm_numba.benchmarks.figures tables benchmarks/results/zen5-avx512
    python -m lstm_numba.benchmarks.figures readme README.md
    python -m lstm_numba.benchmarks.figures pages
    python -m lstm_numba.benchmarks.figures picture

`measure` runs the sections one after the other, each a program of its own that writes a JSON file to the
folder, and then `tables`, which writes a README.md of these files beside them. `readme` puts tables into a
page, between ``<!-- figures FOLDER NAME -->``, FOLDER as seen from the page, and ``<!-- end of figures -->``;
without FOLDER it is ``benchmarks/results``. `pages` does both for every page of the checkout, and `picture`
draws the README's picture (extra plot). No table is typed.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from lstm_numba.benchmarks import stored_tables
from lstm_numba.benchmarks.accuracy_tables import TABLES as ACCURACY
from lstm_numba.benchmarks.conditions import ISAS, environment
from lstm_numba.benchmarks.figure_sections import ON_DATA, SECTIONS
from lstm_numba.benchmarks.markdown import with_blocks
from lstm_numba.benchmarks.summary import summary_table
from lstm_numba.errors import DataError

#: The results of this checkout.
RESULTS = Path(__file__).resolve().parent / "results"
#: Tables that are not of one section's file: name -> lines, of the folder with the files.
OTHER_TABLES: dict[str, Callable[[Path], list[str]]] = {
    "summary": summary_table,
    "epochs": stored_tables.epochs,
    "streams": stored_tables.streams,
    "losses": stored_tables.losses,
    "many-models": stored_tables.many_models,
    "ranks": stored_tables.ranks,
    "ranks-model": stored_tables.ranks_model,
    "networks": stored_tables.networks,
    "trace-cost": stored_tables.trace_cost,
    "kill-and-resume": stored_tables.kill_and_resume,
    "cudnn": stored_tables.cudnn,
    "gpu-epochs": stored_tables.device_epochs_table,
    "gpu-steps": stored_tables.device_steps,
    **ACCURACY,
}


def measure(folder: Path, names: Sequence[str], isa: str | None, data_dir: str | None) -> None:
    """Run sections, one after the other."""
    folder.mkdir(parents=True, exist_ok=True)
    settings = {**os.environ, **(environment(isa) if isa else {})}
    for name in names:
        section, began = SECTIONS[name], time.perf_counter()
        words = [*section.words, "--json", f"{name}.json"]
        if name in ON_DATA and data_dir is not None:
            words += ["--data-dir", str(Path(data_dir).resolve())]
        print(f"{name}: {section.module} {' '.join(words)}", flush=True)
        status = subprocess.run(
            [sys.executable, "-m", section.module, *words], cwd=folder, env=settings
        ).returncode
        print(
            f"{name}: {time.perf_counter() - began:.0f} s{f', exit status {status}' if status else ''}",
            flush=True,
        )


def _documents(folder: Path) -> dict[str, Any]:
    """What the sections wrote, in their order."""
    files = {name: folder / f"{name}.json" for name in SECTIONS}
    return {name: json.loads(file.read_text()) for name, file in files.items() if file.is_file()}


#: Packages whose versions a page tells.
_PACKAGES = ("python", "numpy", "numba", "torch", "onnxruntime", "scikit-learn", "aeon", "statsmodels")


def _versions(machine: Mapping[str, Any]) -> list[str]:
    """Versions and commit that a section was measured with."""
    found = [f"{name} {machine[name]}" for name in _PACKAGES if machine.get(name)]
    return [*found, f"commit {(machine.get('commit') or 'unknown')[:7]}"]


def page(folder: Path) -> str:
    """Machine, versions and all tables of a folder, as Markdown; a section's own where they differ."""
    documents = _documents(folder)
    about = next(document["machine"] for document in documents.values() if "machine" in document)
    chosen = ", and no library was to use more" if about.get("isa") else ""
    written = "Written" if set(documents) == {"own-data"} else "Medians; written"
    machine = f"{about['cpu']}, {about['cores']} cores, {about['threads']} threads"
    lines = [
        f"# {folder.name}",
        "",
        f"{machine}; {about['vector_unit']}{chosen}. "
        f"{', '.join(_versions(about))}. {written} by "
        "`python -m lstm_numba.benchmarks.figures` from the JSON files beside this page.",
    ]
    for name, document in documents.items():
        section = SECTIONS[name]
        others = [text for text in _versions(document.get("machine", about)) if text not in _versions(about)]
        source = f"`{document.get('command', '')}`: [{name}.json]({name}.json)"
        source += f" ({', '.join(others)})" if others else ""
        lines += ["", f"## {section.title}", "", *section.table(document), ""]
        lines += [*section.details(document), "", source] if section.details(document) else [source]
    return "\n".join(lines) + "\n"


def with_tables(text: str, root: Path) -> str:
    """A page with the tables of its blocks as the files say.

    Parameters
    ----------
    text : str
    root : Path
        The page's folder.

    Raises
    ------
    ValueError
        A block names no table.
    """

    def block(*words: str) -> list[str]:
        folder = RESULTS if len(words) == 1 else root / words[0]
        name = words[-1]
        if len(words) > 2 or (name not in SECTIONS and name not in OTHER_TABLES):
            known = ", ".join((*SECTIONS, *OTHER_TABLES))
            raise ValueError(f"figures {' '.join(words)}: expected a folder and one of {known}")
        if name in OTHER_TABLES:
            return OTHER_TABLES[name](folder)
        return SECTIONS[name].table(stored_tables.read(folder, name))

    return with_blocks(text, "figures", block)


def pages() -> list[Path]:
    """The pages of this checkout that have blocks.

    Raises
    ------
    lstm_numba.errors.DataError
        This is an installed package, which has no pages.
    """
    if not RESULTS.is_dir():
        raise DataError(f"{RESULTS}: expected the results of a checkout, found no such folder")
    root = RESULTS.parents[1]
    folders = [root / name for name in ("benchmarks", "cli", "data", "lstm_numba")]
    found = [root / "README.md", *(path for folder in folders for path in sorted(folder.rglob("*.md")))]
    return [path for path in found if "<!-- figures " in path.read_text(encoding="utf-8")]


def folders() -> list[Path]:
    """The folders of results whose page `tables` writes."""
    return sorted({path.parent for name in ("layers", "own-data") for path in RESULTS.glob(f"*/{name}.json")})


def update() -> None:
    """Write the tables of all pages; see `pages`."""
    found = pages()
    for folder in folders():
        (folder / "README.md").write_text(page(folder), encoding="utf-8")
    for path in found:
        path.write_text(with_tables(path.read_text(encoding="utf-8"), path.parent), encoding="utf-8")


def _draw() -> None:
    """Draw the README's picture; see `pages`."""
    pages()
    from lstm_numba.benchmarks.summary import processor_columns
    from lstm_numba.plots.adaptive import svg
    from lstm_numba.plots.ratios import draw

    path = RESULTS / "pictures" / "ratios.svg"
    path.write_bytes(svg(draw(processor_columns(RESULTS))))


def main() -> None:
    """Parse, measure, write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("action", choices=["measure", "tables", "readme", "pages", "picture"])
    parser.add_argument("path", type=Path, nargs="?", help="folder of results, or a page")
    names = list(SECTIONS)
    parser.add_argument(
        "--only", nargs="+", choices=names, default=names, metavar="SECTION", help=f"of {', '.join(names)}"
    )
    parser.add_argument("--isa", choices=ISAS, help="as of lstm-numba bench")
    parser.add_argument("--data-dir", help="folder with the files of MNIST and PTB")
    args = parser.parse_args()
    if args.action in ("pages", "picture"):
        if args.path is not None:
            parser.error(f"{args.action}: expected no path, got {args.path}")
        try:
            update() if args.action == "pages" else _draw()
        except DataError as error:
            parser.error(str(error))
        return
    if args.path is None:
        parser.error(f"{args.action}: expected a path, got none")
    if args.action == "readme":
        text = with_tables(args.path.read_text(encoding="utf-8"), args.path.parent)
        args.path.write_text(text, encoding="utf-8")
        return
    if args.action == "measure":
        measure(args.path, args.only, args.isa, args.data_dir)
    (args.path / "README.md").write_text(page(args.path), encoding="utf-8")


if __name__ == "__main__":
    main()
