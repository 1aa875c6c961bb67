"""The estimators on real data sets, beside simple methods and those of other packages.

    pip install aeon statsmodels
    python -m lstm_numba.benchmarks.own_data --json benchmarks/results/zen3-avx2/own-data.json

Forecasts: yearly sunspots and the CO2 of Mauna Loa, as statsmodels ships them. `RNNForecaster` beside the
last value, the value of a season ago, and a linear forecast from a window, see `own_forecasts`. Classes:
BasicMotions and JapaneseVowels, whose sequences differ in length, as aeon ships them, in their own split.
`RNNClassifier` beside aeon's 1-NN DTW and ROCKET with aeon's defaults, see `own_classes`.

Every method's settings are chosen among a few on a part of the data for training, and the test part is looked
at once, with each of the seeds. A package that is not installed is left out, with a line. Nothing is
downloaded.
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from lstm_numba.benchmarks import own_classes, own_forecasts
from lstm_numba.benchmarks.own_classes import Labelled
from lstm_numba.benchmarks.own_forecasts import Series
from lstm_numba.benchmarks.results import machine
from lstm_numba.environment import versions

SEEDS = (0, 1, 2)
#: Packages whose versions matter here, beside those of `lstm_numba.benchmarks.results.machine`.
_PACKAGES = ("scikit-learn", "aeon", "statsmodels")
_NOTE = "Seconds are only indicative: other programs ran on this machine."

Loader = Callable[[], Any]


def sunspots() -> Series:
    """Yearly numbers of sunspots from 1700 to 2008."""
    from statsmodels.datasets import sunspots

    values = sunspots.load_pandas().data["SUNACTIVITY"].to_numpy(np.float64)
    return Series("Sunspots", "sunspots", "statsmodels.datasets.sunspots, yearly from 1700", values, 11, 11)


def carbon_dioxide() -> Series:
    """Monthly means of the CO2 at Mauna Loa, 1958 to 2001; of five early months there is none."""
    from statsmodels.datasets import co2

    months = co2.load_pandas().data["co2"].resample("MS").mean()
    missing = int(months.isna().sum())
    about = (
        f"statsmodels.datasets.co2, weekly; means of months from March 1958, {missing} of them filled in "
        "linearly"
    )
    return Series("CO2", "ppm", about, months.interpolate().to_numpy(np.float64), 12, 12)


def _labelled(name: str, load: Callable[..., tuple[Any, npt.NDArray[Any]]]) -> Labelled:
    def part(split: str) -> tuple[list[npt.NDArray[Any]], npt.NDArray[Any]]:
        sequences, labels = load(split=split)
        return [np.ascontiguousarray(sequence.T, np.float64) for sequence in sequences], np.asarray(
            labels, str
        )

    return Labelled(name, f"aeon.datasets, {name}, its own split", *part("train"), *part("test"))


def basic_motions() -> Labelled:
    """Accelerometer and gyroscope of a watch, four activities."""
    from aeon.datasets import load_basic_motions

    return _labelled("BasicMotions", load_basic_motions)


def japanese_vowels() -> Labelled:
    """Twelve coefficients of a spoken vowel, nine speakers; 7 to 29 steps."""
    from aeon.datasets import load_japanese_vowels

    return _labelled("JapaneseVowels", load_japanese_vowels)


SERIES: dict[str, Loader] = {"Sunspots": sunspots, "CO2": carbon_dioxide}
LABELLED: dict[str, Loader] = {"BasicMotions": basic_motions, "JapaneseVowels": japanese_vowels}


def _loaded(loaders: Mapping[str, Loader], left_out: dict[str, str]) -> list[Any]:
    """Data sets whose package is there; why the others are not is noted."""
    found = []
    for name, load in loaders.items():
        try:
            found.append(load())
        except ImportError as error:
            left_out[name] = f"{error}"
            print(f"{name}: left out: {error}", flush=True)
    return found


def compare(
    series: Mapping[str, Loader],
    labelled: Mapping[str, Loader],
    seeds: Sequence[int] = SEEDS,
    forecasters: Callable[[int], Mapping[str, Any]] = own_forecasts.methods,
    classifiers: Callable[[int], tuple[Mapping[str, Any], Mapping[str, str]]] = own_classes.methods,
) -> dict[str, Any]:
    """Measure all methods on all data sets.

    Parameters
    ----------
    series, labelled : dict of callable
        Each loads a `Series`, a `Labelled`; ImportError leaves it out.
    seeds : sequence of int
    forecasters : callable
        The methods for a season, see `lstm_numba.benchmarks.own_forecasts.methods`.
    classifiers : callable
        The methods for a largest length, and why others are left out, see
        `lstm_numba.benchmarks.own_classes.methods`.

    Returns
    -------
    dict
        ``forecasts`` and ``classes`` (lists, see the two `measure`), and ``left_out`` (name -> why).
    """
    left_out: dict[str, str] = {}
    forecasts = [
        own_forecasts.measure(data, forecasters(data.season), seeds) for data in _loaded(series, left_out)
    ]
    classes = []
    for data in _loaded(labelled, left_out):
        ways, without = classifiers(max(map(len, [*data.train, *data.test])))
        for name, why in without.items():
            if name not in left_out:
                print(f"{name}: left out: {why}", flush=True)
        left_out.update(without)
        classes.append(own_classes.measure(data, ways, seeds))
    return {"forecasts": forecasts, "classes": classes, "left_out": left_out}


def main() -> None:
    """Parse, measure, print, write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--data", nargs="+", choices=[*SERIES, *LABELLED], default=[*SERIES, *LABELLED],
        help="data sets  [default: all]",
    )  # fmt: skip
    parser.add_argument("--json", type=Path, help="write the results to this file")
    args = parser.parse_args()
    found = compare(
        {name: load for name, load in SERIES.items() if name in args.data},
        {name: load for name, load in LABELLED.items() if name in args.data},
    )
    if args.json:
        about = {
            "command": shlex.join(["python", "-m", "lstm_numba.benchmarks.own_data", *sys.argv[1:]]),
            "machine": {**machine(), **versions(_PACKAGES)},
            "seeds": SEEDS,
            "note": _NOTE,
            "fixed": {"forecasts": own_forecasts.FIXED, "classes": own_classes.FIXED},
            "folds": own_classes.FOLDS,
        }
        args.json.write_text(json.dumps({**about, **found}, indent=1) + "\n")


if __name__ == "__main__":
    main()
