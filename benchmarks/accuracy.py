"""The published trainings: run by the command line, their results collected, tables and a picture of them.

    python -m lstm_numba.benchmarks.accuracy list
    python -m lstm_numba.benchmarks.accuracy run ptb-small mnist-cells --out runs --data-dir DATA --threads 1
    python -m lstm_numba.benchmarks.accuracy collect runs/ptb-small --out benchmarks/results/accuracy
    python -m lstm_numba.benchmarks.accuracy tables
    python -m lstm_numba.benchmarks.accuracy picture

`run` resumes a training that was interrupted, and leaves one that is complete as it is. DATA holds the files,
or folders ``mnist`` and ``ptb`` with them. `collect` reads run folders that are finished or not, and writes a
JSON file for each row of the tables; `tables` writes the tables of all pages, as ``figures pages`` does;
`picture` draws the validation perplexity of PTB medium (extra plot).
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lstm_numba.benchmarks.accuracy_runs import rows
from lstm_numba.benchmarks.accuracy_tables import read_rows
from lstm_numba.benchmarks.accuracy_trainings import TRAININGS, Training
from lstm_numba.benchmarks.results import machine
from lstm_numba.errors import DataError, UserError
from lstm_numba.training.presets import PUBLISHED
from lstm_numba.training.run_sets import folder_names

#: Of what a machine says of itself: what results depend on.
_FACTS = ("cpu", "vector_unit", "cores", "python", "numpy", "numba", "lstm_numba", "commit")
#: The training whose curve is drawn: data set, preset.
_DRAWN = ("ptb", "medium")
_SOURCE = "Zaremba et al. 2014"


def facts() -> dict[str, Any]:
    """This machine and these versions, without anything that names a place."""
    found = machine()
    return {name: found[name] for name in _FACTS}


def commands(training: Training, out: Path) -> list[tuple[list[str], Path]]:
    """The command lines of a training, each with the file that its result goes to.

    What is there already is resumed. Cells are trained one after the other, by a command of their own, as one
    command with several `--cell` trains them; a set of seeds is one command.
    """
    base = ["train", training.dataset]
    folder, options = out / training.name, training.options.split()
    if training.is_set or len(training.cells) < 2:
        words = [*options, *(word for cell in training.cells for word in ("--cell", cell))]
        plans = [(words, folder)]
    else:
        names = folder_names(training.cells)
        plans = [([*options, "--cell", cell], folder / names[cell]) for cell in training.cells]
    found = []
    for words, place in plans:
        begun = any((place / name).is_file() for name in ("config.json", "set.json"))
        more = ["--resume", str(place)] if begun else [*words, "--out", str(place)]
        found.append(([*base, *more, "--json"], place.with_name(f"{place.name}.json")))
    return found


def run(training: Training, out: Path, data_dir: Path | None, threads: int | None) -> int:
    """Run a training by the command line; return the exit status of the first command that failed, else 0."""
    more = ["--threads", str(threads)] if threads else []
    if data_dir is not None:
        inside = data_dir / training.dataset
        more += ["--data-dir", str(inside if inside.is_dir() else data_dir)]
    out.mkdir(parents=True, exist_ok=True)
    (out / f"{training.name}.machine.json").write_text(json.dumps(facts(), indent=1) + "\n", encoding="utf-8")
    for words, result in commands(training, out):
        print(f"{training.name}: lstm-numba {' '.join(words)}", flush=True)
        result.parent.mkdir(parents=True, exist_ok=True)
        status, printed = _printed([*words, *more])
        if status:
            return status
        result.write_text(printed, encoding="utf-8")
    return 0


def _printed(words: Sequence[str]) -> tuple[int, str]:
    """Exit status of the command line, and what it printed; at Ctrl-C it saves before it ends."""
    command = [sys.executable, "-m", "lstm_numba", *words]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            printed, _ = process.communicate()
        except KeyboardInterrupt:
            process.wait()
            return 130, ""
    return process.returncode, printed


def collect(folders: Sequence[Path], out: Path, commit: str | None = None) -> list[Path]:
    """Write a JSON file for each row that the folders have.

    Parameters
    ----------
    folders : sequence of Path
        Of runs, sets of runs, or runs by cells.
    out : Path
        Folder for the files, made if it is not there.
    commit : str, optional
        Of the program that trained, where no ``NAME.machine.json`` beside the folder says so.

    Raises
    ------
    lstm_numba.errors.DataError
        See `lstm_numba.benchmarks.accuracy_runs.rows`.
    """
    written = []
    out.mkdir(parents=True, exist_ok=True)
    for folder in folders:
        said = folder.with_name(f"{folder.name}.machine.json")
        where = (
            json.loads(said.read_text(encoding="utf-8")) if said.is_file() else {**facts(), "commit": None}
        )
        if commit is not None:
            where["commit"] = commit
        for row in rows(folder, where):
            path = out / f"{row['name']}.json"
            path.write_text(json.dumps(row, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
            written.append(path)
    return written


def draw(results: Path) -> Path:
    """Draw the picture of PTB medium; return its path.

    Raises
    ------
    lstm_numba.errors.DataError
        There is no result of it.
    """
    from lstm_numba.plots.adaptive import svg
    from lstm_numba.plots.perplexity import draw as curve

    found = [
        row for row in read_rows(results) if (row["dataset"], row["preset"]) == _DRAWN and not row["options"]
    ]
    values = [value for row in found for value in row["runs"][0]["valid"] if value is not None]
    if not values:
        raise DataError(f"{results}: expected a result of {' '.join(_DRAWN)}, found none")
    paper = PUBLISHED[_DRAWN[1]]
    figure = curve(
        f"Penn Treebank: {found[0]['command']}", values, found[0]["epochs"], paper["valid"], _SOURCE
    )
    path = results / "pictures" / "ptb-medium.svg"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(svg(figure))
    return path


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    actions = parser.add_subparsers(dest="action", required=True)
    actions.add_parser("list", help="names and commands of the trainings")
    one = actions.add_parser("run", help="run or resume trainings")
    one.add_argument("names", nargs="+", choices=list(TRAININGS), metavar="NAME", help=", ".join(TRAININGS))
    one.add_argument("--out", type=Path, required=True, help="folder of the run folders")
    one.add_argument("--data-dir", type=Path, help="folder with the data, or with folders mnist and ptb")
    one.add_argument("--threads", type=int, help="as of lstm-numba train")
    one = actions.add_parser("collect", help="write the results of run folders")
    one.add_argument("folders", nargs="+", type=Path, metavar="FOLDER")
    one.add_argument("--out", type=Path, required=True, help="folder for the JSON files")
    one.add_argument("--commit", help="of the program that trained, where the runs do not say so")
    actions.add_parser("tables", help="write the tables of all pages")
    actions.add_parser("picture", help="draw the curve of PTB medium")
    return parser


def main(words: Sequence[str] | None = None) -> int:
    """Parse, run, collect, write; return the exit status."""
    from lstm_numba.benchmarks import figures

    args = _parser().parse_args(words)
    try:
        if args.action == "list":
            for training in TRAININGS.values():
                print(f"{training.name}: {training.command}")
        elif args.action == "run":
            for name in args.names:
                if status := run(TRAININGS[name], args.out, args.data_dir, args.threads):
                    return status
        elif args.action == "collect":
            for path in collect(args.folders, args.out, args.commit):
                print(path)
        elif args.action == "tables":
            figures.update()
        else:
            print(draw(figures.RESULTS))
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
