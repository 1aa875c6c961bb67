"""Options that commands share, as decorators."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import click

from lstm_numba.cli.types import (
    CellName,
    Choice,
    ColumnNames,
    F,
    Folder,
    Names,
    Number,
    RunFolder,
    argument,
    flat_names,
    joined_names,
    option,
)
from lstm_numba.training import settings
from lstm_numba.training.config import default_config

POSITIVE = Number(settings.POSITIVE)
NATURAL = Number(settings.NATURAL)
NOT_NEGATIVE = Number(settings.NOT_NEGATIVE)


json_option = option("Output", "--json", "as_json", is_flag=True, help="Print the result as one JSON object.")


def _data_dir(help: str, exists: bool) -> Callable[[F], F]:
    return option("Data", "--data-dir", type=Folder(exists), help=help)


#: A folder that exists, and one that may have to be made.
data_dir_option = _data_dir("Folder with the data files.  [default: LSTM_NUMBA_DATA, then the cache]", True)
download_dir_option = _data_dir("Folder to download to.  [default: LSTM_NUMBA_DATA, then the cache]", False)
#: Of commands that use a run.
run_cell_option = option(
    "Network",
    "--cell",
    type=CellName(),
    metavar="MODULE:CLASS",
    help="The run's cell if it is a custom cell; its module is imported.",
)
checkpoint_option = option(
    "Network",
    "--checkpoint",
    type=Choice(["last", "best"]),
    help="Checkpoint to use: of the last epoch, or of the best one (lowest validation loss, or training loss "
    "if there is no validation split).  [default: as the run's --keep]",
)
threads_option = option(
    "Computer",
    "--threads",
    type=POSITIVE,
    help="Number of threads.  [default: all available cores]",
)
device_option = option(
    "Computer",
    "--device",
    type=Choice(["cpu", "auto", "cuda"]),
    default="cpu",
    show_default=True,
    help="Device; auto: cuda if available, else cpu.",
)


def _type(setting: settings.Setting) -> dict[str, Any]:
    """Click's attributes for what a setting may be."""
    check = setting.check
    if isinstance(check, settings.Range):
        return {"type": Number(replace(check, above=check.above and not setting.zero_is_none))}
    if isinstance(check, settings.Choice):
        return {"type": Choice(check.values)}
    if check is settings.check_cell:  # a run for each
        return {"type": CellName(), "multiple": True}
    if check is settings.check_names:
        return {"type": ColumnNames(), "multiple": True, "callback": flat_names}
    if check is settings.check_forms:
        return {"type": Names(settings.LOG_FORMS), "multiple": True, "callback": joined_names}
    return {"is_flag": True} if check is settings.check_flag else {}


def setting_options(dataset: str, section: str) -> list[Callable[[F], F]]:
    """The options of one section of ``train DATASET``, with the data set's own defaults."""
    config = default_config(dataset)
    owners = (
        (settings.DataOptions, config["data"]),
        (settings.Settings, config),
        (settings.ScheduleOptions, config["schedule_options"]),
    )
    found = []
    for kind, values in owners:
        for name, one in settings.described(kind).items():
            if not one.help or one.section != section or dataset not in one.only:
                continue
            default = values.get(name, getattr(kind, name))
            unset = f"  [default: {one.unset}]" if default is None and one.unset else ""
            attributes: dict[str, Any] = {"metavar": one.metavar, **_type(one)}
            several = default is not None and "multiple" in attributes
            found.append(
                option(
                    section,
                    one.option or f"--{name.replace('_', '-')}",
                    name,
                    default=[default] if several else default,
                    show_default=default is not None,
                    help=one.help + unset,
                    **attributes,
                )
            )
    return found


def _path_argument(dataset: str) -> Callable[[F], F]:
    """A user's own data: a text, or a folder of images. A run that goes on knows them."""
    metavar, help = {
        "images": ("[PATH]", "Folder of images with one folder per class, or folder of IDX files."),
        "text": ("[FILE]", "Text in UTF-8."),
    }[dataset]
    return argument("file", metavar, f"{help} Not with --resume.", required=False, type=click.Path())


#: A user's own tables. A run that goes on knows them.
_tables_argument = argument(
    "files",
    "[FILE]...",
    "Table with named columns; each file is a sequence. With --resume: the tables' new paths.",
    nargs=-1,
    type=click.Path(),
)


#: Runs of a set at most; more are a typing error.
_MOST_SEEDS = 10_000
_seeds_option = option(
    settings.RUN,
    "--seeds",
    type=Number(settings.Range(1, _MOST_SEEDS, whole=True)),
    metavar="N",
    help="Train N runs with the seeds from --seed on, --threads of them in parallel with one thread each, "
    "and report the spread of the results.  [default: one run]",
)
_per_group_option = option(
    settings.DATA,
    "--per-group",
    is_flag=True,
    help="Train one model per group of --group, otherwise per FILE, --threads of them in parallel with one "
    "thread each. Groups with too few rows are skipped.",
)


def train_options(dataset: str) -> Callable[[F], F]:
    """All options of ``train DATASET``."""
    resume = (
        "Resume this run, or all runs of a set, with its own settings. Can be combined with --epochs, "
        "--early-stopping, --log, --threads, --device, --data-dir, --json, and --cell for a custom cell only."
    )
    out = "New folder for the run, or for the runs of several cells, seeds or groups.  "
    out += f"[default: runs/{dataset}-1, -2, ...]"
    decorators = [
        *setting_options(dataset, settings.NETWORK),
        *setting_options(dataset, settings.OPTIMISATION),
        *([data_dir_option] if dataset in settings.DATA_OPTIONS["data_dir"].only else []),
        *([_path_argument(dataset)] if dataset in settings.DATA_OPTIONS["file"].only else []),
        *([_tables_argument] if dataset in settings.SERIES else []),
        *setting_options(dataset, settings.DATA),
        device_option,
        threads_option,
        *([_per_group_option] if dataset in settings.SERIES else []),
        *setting_options(dataset, settings.RUN),
        _seeds_option,
        option(settings.RUN, "--out", type=click.Path(), metavar="RUN", help=out),
        option(settings.RUN, "--resume", type=RunFolder(), metavar="RUN", help=resume),
        json_option,
    ]

    def apply(function: F) -> F:
        for decorate in reversed(decorators):
            function = decorate(function)
        return function

    return apply
