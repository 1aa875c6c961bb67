"""A model for each group of a user's tables: which groups there are, and which have enough rows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from lstm_numba.data.series import SeriesOptions, asked, series_of_tables
from lstm_numba.data.series_groups import Parted, part, read_parted
from lstm_numba.errors import DataError, UserError
from lstm_numba.training.series import series_options
from lstm_numba.training.series_examples import example_table


class Groups(NamedTuple):
    """The groups of tables.

    Attributes
    ----------
    column : str, optional
        The column that has their names; otherwise each file is a group.
    names : list of str
        Those that can be trained on, in the order of their first rows.
    skipped : dict of str
        The others, and why.
    """

    column: str | None
    names: list[str]
    skipped: dict[str, str]


def find_groups(config: Mapping[str, Any]) -> Groups:
    """Find the groups of a configuration's tables.

    Parameters
    ----------
    config : dict
        Of a run that would read all groups.

    Raises
    ------
    UserError
        The tables cannot be read, or do not have several groups, or none has enough rows.
    """
    options = series_options(config)
    parted = _parted(config, options)
    if options.group is None and len(parted) < 2:
        raise UserError("--per-group: expected --group COLUMN, or several files, each of them a group")
    names, skipped = [], {}
    for name, tables in parted.items():
        try:
            series_of_tables(tables, options)
        except DataError as error:
            skipped[name] = str(error)
        else:
            names.append(name)
    if not names:
        raise UserError(f"--per-group: no group can be trained on; the first: {next(iter(skipped.values()))}")
    return Groups(options.group, names, skipped)


def _parted(config: Mapping[str, Any], options: SeriesOptions) -> Parted:
    example = config["data"]["example"]
    if example is not None:
        return part([example_table(example)], options.group)
    return read_parted(config["data"]["files"], *asked(options), options.group)


def of_group(config: Mapping[str, Any], name: str) -> dict[str, Any]:
    """The configuration of a run on one group."""
    return {**config, "data": {**config["data"], "only": name}}
