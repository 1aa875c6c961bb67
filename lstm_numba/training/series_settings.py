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
        "In place of FILE a table that the program makes itself: a driven pendulum, whose angle is forecast,"
        " or gestures, which are classified.",
        DATA,
        SERIES,
    )
    target: Sequence[str] | None = setting(
        None, check_names, "Columns to predict.", DATA, SERIES, unset="found out", metavar="COLUMN,..."
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
        None, check_text, "Column that orders the rows.", DATA, SERIES, unset="found out", metavar="COLUMN"
    )
    group: str | None = setting(
        None,
        check_text,
        "Column that says which sequence a row belongs to.",
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
        unset="found out",
    )
    window: int | None = setting(
        None, POSITIVE, "Steps to predict from.", DATA, SERIES, unset="whole groups, else up to 32"
    )
    horizon: int | None = setting(None, POSITIVE, "Steps to forecast.", DATA, SERIES, unset="1")
    stride: int = setting(1, POSITIVE, "Steps from the beginning of a window to the next.", DATA, SERIES)
    split: str | None = setting(
        None,
        Choice(("time", "group", "random")),
        "How training, validation and test data are parted: each sequence in the order of time, or whole "
        "groups, or whole sequences, shuffled.",
        DATA,
        SERIES,
        unset="time for windows, else group",
    )
    scale: str = setting(
        "standard",
        Choice(("standard", "none")),
        "standard: mean 0 and standard deviation 1 in training.",
        DATA,
        SERIES,
    )
    loss: str | None = setting(
        None,
        Choice(LOSSES),
        "Loss of predicted numbers: squared, absolute or Huber's error, or the quantiles 10, 50 and 90 %.",
        OPTIMISATION,
        SERIES,
        unset="mse",
    )
