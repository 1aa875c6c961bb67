"""What the pages share: find the network, compare with the original, then time both in turn.

A page is a `Package` and a function that loads its network and returns comparisons. Where the numbers of a
comparison differ by more than rounding nothing is timed.
"""

from __future__ import annotations

import argparse
import importlib
import json
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from lstm_numba.engines.cpu.threads import set_thread_count
from lstm_numba.errors import UserError
from lstm_numba.examples.networks.package import Package, download, find_installed
from lstm_numba.timing import Call, Times, measure

Array = np.ndarray[Any, Any]


class Comparison(NamedTuple):
    """Two ways to compute the same.

    Parameters
    ----------
    what : str
        What is computed, and of what.
    rival : str
        Who computes it too.
    difference : float
        Largest difference between the two over the largest number, see `difference`.
    tolerance : float
        What rounding explains.
    ours, theirs : callable
        The computations, without arguments.
    number : int
        How many of `unit` a call computes.
    unit : str
        What the times are of.
    note : str
        What else was found to agree.
    """

    what: str
    rival: str
    difference: float
    tolerance: float
    ours: Callable[[], Any]
    theirs: Callable[[], Any]
    number: int = 1
    unit: str = "call"
    note: str = ""

    @property
    def agrees(self) -> bool:
        """Whether the numbers are the same up to rounding; not with NaN among them."""
        return self.difference <= self.tolerance


#: Loads the network of a file and compares: path, number of threads -> comparisons.
Page = Callable[[Path, int], Sequence[Comparison]]


def difference(found: Any, expected: Any) -> float:
    """Largest difference of two arrays over the largest number expected; NaN where either has a NaN."""
    found, expected = np.asarray(found, np.float64), np.asarray(expected, np.float64)
    if found.shape != expected.shape:
        raise ValueError(f"found: expected shape {expected.shape}, got {found.shape}")
    return float(np.max(np.abs(found - expected)) / np.max(np.abs(expected)))


def peer(name: str) -> Any:
    """Import the package of a rival.

    Raises
    ------
    UserError
        It is not installed.
    """
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise UserError(f"the comparison needs {name}, which is not installed ({error})") from None


def run(package: Package, compare: Page, arguments: Sequence[str] | None = None) -> None:
    """The program of a page: find, compare, time, print.

    Parameters
    ----------
    package : Package
    compare : callable
    arguments : sequence of str, optional
        Those of the command line by default.
    """
    options = _parser(package).parse_args(arguments)
    with tempfile.TemporaryDirectory() as temporary:
        try:
            set_thread_count(options.threads)
            path = _find(package, options, Path(temporary))
            rows = [_time(package, found, options) for found in compare(path, options.threads)]
        except UserError as error:
            raise SystemExit(f"error: {error}") from None
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1) + "\n")


def _parser(package: Package) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=f"The network of {package} beside its own runtime.",
        epilog="By default the network is that of the installed package.",
    )
    parser.add_argument("--file", type=Path, help=f"the network's file, {Path(package.network).name}")
    parser.add_argument(
        "--download", nargs="?", const="", metavar="FOLDER",
        help="get the package from the package index, into this folder or a temporary one",
    )  # fmt: skip
    parser.add_argument("--threads", type=int, default=1, help="number of threads  [default: 1]")
    parser.add_argument("--repeats", type=int, default=11, help="repeats of the timing  [default: 11]")
    parser.add_argument("--json", type=Path, help="write the result to this file")
    return parser


def _find(package: Package, options: argparse.Namespace, temporary: Path) -> Path:
    """The network's file, as the options say."""
    if options.file is not None:
        if not options.file.is_file():
            raise UserError(f"--file: {options.file}: no such file")
        return Path(options.file)
    if options.download is not None:
        return download(package, Path(options.download) if options.download else temporary)
    return find_installed(package)


def _time(package: Package, found: Comparison, options: argparse.Namespace) -> dict[str, Any]:
    """Time a comparison and print a line; returns its row of the table."""
    row = {
        "package": package.name,
        "version": package.version,
        "threads": options.threads,
        **{key: getattr(found, key) for key in ("what", "rival", "unit", "difference", "tolerance", "note")},
    }
    note = f" ({found.note})" if found.note else ""
    print(
        f"{package}: {found.what}\n  largest difference {found.difference:.1e} of the largest number{note}",
        flush=True,
    )
    if not found.agrees:
        raise UserError(f"{found.rival} gives other numbers: {found.tolerance:.1e} was expected at most")
    times = measure({"ours": Call(found.ours), "theirs": Call(found.theirs)}, options.repeats)
    row |= _ratio(times, found.number)
    first, third = row["ratio_quartiles"]
    print(
        f"  a {found.unit}: {duration(row['ours'])}, {found.rival} {duration(row['theirs'])}; "
        f"ratio {row['ratio']:.2f} ({first:.2f} to {third:.2f}), threads: {options.threads}",
        flush=True,
    )
    return row


def _ratio(times: dict[str, Times], count: int) -> dict[str, Any]:
    """Median seconds of a unit, and the ratio of neighbouring repeats: theirs over ours."""
    ours, theirs = (np.array(times[name].seconds) / count for name in ("ours", "theirs"))
    ratios = theirs / ours
    return {
        "ours": float(np.median(ours)),
        "theirs": float(np.median(theirs)),
        "ratio": float(np.median(ratios)),
        "ratio_quartiles": [float(q) for q in np.percentile(ratios, [25, 75])],
        "ours_seconds": ours.tolist(),
        "theirs_seconds": theirs.tolist(),
    }


def duration(seconds: float) -> str:
    """Seconds in a unit that suits them."""
    for unit, size in (("s", 1.0), ("ms", 1e-3)):
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds * 1e6:.3g} µs"
