"""The options of ``train series``: what a user can say of tables. See `lstm_numba.training.settings`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lstm_numba.training.setting import (
    DATA,
    OPTIMISATION,
    POSITIVE,
    SERIES,
    Choice,
    check_names,
    check_text,
    setting,
)

#: Tables that the program makes itself.
EXAMPLES = ("pendulum", "gestures")
#: Share of the data to test with, where none is given.
TEST_SHARE = 0.2
LOSSES = ("mse", "mae", "huber", "quantile")


def test_share(data: Mapping[str, Any]) -> float:
    """Share of the data to test with, of a configuration's options of the data."""
    share = data["test"]
    return TEST_SHARE if share is None else float(share)


@dataclass(frozen=True)
class SeriesOptions:
    """Options of the data set ``series``; see `lstm_numba.data.series.SeriesOptions`."""

    files: Sequence[str] | None = setting(None, check_names, only=SERIES)
    example: str | None = setting(
        None,
        Choice(EXAMPLES),
        "Generated table instead of FILE: pendulum, the angle of a driven pendulum to forecast, or gestures, "
        "to classify.",
        DATA,
        SERIES,
    )
    target: Sequence[str] | None = setting(
        None, check_names, "Columns to predict.", DATA, SERIES, unset="inferred", metavar="COLUMN,..."
    )
    features: Sequence[str] | None = setting(
        None,
        check_names,
        "Columns to predict from; a forecast reads the targets too.",
        DATA,
        SERIES,
        unset="all other columns of numbers",
        metavar="COLUMN,...",
    )
    time: str | None = setting(
        None, check_text, "Column that orders the rows.", DATA, SERIES, unset="inferred", metavar="COLUMN"
    )
    group: str | None = setting(
        None,
        check_text,
        "Column that identifies the sequence of a row.",
        DATA,
        SERIES,
        unset="each file is a sequence",
        metavar="COLUMN",
    )
    #: Of a run in a set with a model for each group: the group.
    only: str | None = setting(None, check_text, only=())
    task: str | None = setting(
        None,
        Choice(("forecast", "regress", "classify")),
        "Predict the target's next steps, its number or its class from the features.",
        DATA,
        SERIES,
        unset="inferred",
    )
    window: int | None = setting(
        None, POSITIVE, "Window length in steps.", DATA, SERIES, unset="whole groups, else up to 32"
    )
    horizon: int | None = setting(None, POSITIVE, "Forecast horizon in steps.", DATA, SERIES, unset="1")
    stride: int = setting(1, POSITIVE, "Stride between windows in steps.", DATA, SERIES)
    split: str | None = setting(
        None,
        Choice(("time", "group", "random")),
        "Split into training, validation and test data: by time within each sequence, by whole groups, or by "
        "whole sequences at random.",
        DATA,
        SERIES,
        unset="time for windows, else group",
    )
    scale: str = setting(
        "standard",
        Choice(("standard", "none")),
        "Scaling: standard, to mean 0 and standard deviation 1 of the training data, or none.",
        DATA,
        SERIES,
    )
    loss: str | None = setting(
        None,
        Choice(LOSSES),
        "Loss for numbers: mean squared, mean absolute, Huber, or quantile loss (10, 50 and 90 %).",
        OPTIMISATION,
        SERIES,
        unset="mse",
    )
