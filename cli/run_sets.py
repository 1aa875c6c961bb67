"""``train --seeds`` and ``train series --per-group``: sets of runs, begun or gone on with."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

import click

from lstm_numba.cli.console import Terminal, print_json, short_path
from lstm_numba.cli.next_step import command, next_line_of_set, resume_line
from lstm_numba.cli.plot import require_matplotlib
from lstm_numba.cli.resources import check_memory, choose_device, set_threads
from lstm_numba.cli.results import Done, result_values
from lstm_numba.cli.set_results import Row, identity, summary, table
from lstm_numba.cli.set_training import Ending, Failed, Stopped, failures, title, train_members
from lstm_numba.errors import UserError
from lstm_numba.training.config import ConfigError, check_config
from lstm_numba.training.run import Run, next_folder
from lstm_numba.training.run_sets import GROUPS, SEEDS, Member, RunSet, folder_names
from lstm_numba.wording import plural

#: Groups that are named when they are skipped.
_NAMED = 5


def refuse_combinations(given: Mapping[str, Any], cells: int) -> None:
    """Refuse what does not go together with a model for each group.

    Raises
    ------
    click.UsageError
    """
    if "per_group" in given and "seeds" in given:
        raise click.UsageError(
            "--seeds: cannot be combined with --per-group, which trains one model per group"
        )
    if "per_group" in given and cells > 1:
        raise click.UsageError(f"--cell: expected at most one with --per-group, got {cells}")


def begin_set(
    configs: Sequence[dict[str, Any]], threads: int, given: Mapping[str, Any], terminal: Terminal
) -> None:
    """Begin a set of runs and print its result.

    Parameters
    ----------
    configs : sequence of dict
        One for each cell.
    threads : int
        Runs at a time.
    given : mapping
        The options that the user gave.
    terminal : Terminal
    """
    column, skipped = None, {}
    if "per_group" in given:
        from lstm_numba.training.series_groups import find_groups

        groups = find_groups(configs[0])
        column, skipped = groups.column, groups.skipped
        members = group_members(configs[0], groups.names)
    else:
        members = seed_members(configs, given["seeds"])
    for member in members[:1] if "per_group" in given else members[:: given["seeds"]]:
        _try_out(member, given.get("data_dir"), terminal)
    folder = Path(given["out"]) if "out" in given else next_folder(Path("runs", configs[0]["dataset"]))
    kind = GROUPS if "per_group" in given else SEEDS
    found = RunSet(folder, kind, members, column, skipped)
    found.write()
    if skipped:
        _say_skipped(skipped, terminal)
    runs = [_run_of(found, member) for member in members]
    _train(found, runs, configs[0]["device"], threads, given, terminal)


def seed_members(configs: Sequence[Mapping[str, Any]], count: int) -> tuple[Member, ...]:
    """Members that differ in their seeds: of each configuration so many, from its own seed on.

    Each computes with one thread, on which the last bits depend.

    Raises
    ------
    click.UsageError
        A seed would be too large.
    """
    folders = folder_names([config["cell"] for config in configs])
    members = []
    for config in configs:
        within = f"{folders[config['cell']]}/" if len(configs) > 1 else ""
        for seed in range(config["seed"], config["seed"] + count):
            settings = {**config, "seed": seed, "threads": 1}
            members.append(Member(f"{within}seed-{seed}", str(seed), settings))
    try:
        check_config(members[-1].config)
    except ConfigError as error:
        raise click.UsageError(f"--seeds: the last one: {error}") from None
    return tuple(members)


def group_members(config: Mapping[str, Any], names: Sequence[str]) -> tuple[Member, ...]:
    """A member for each group; see `seed_members` of threads."""
    from lstm_numba.training.series_groups import of_group

    folders = folder_names(names, "group")
    return tuple(Member(folders[name], name, {**of_group(config, name), "threads": 1}) for name in names)


def _try_out(member: Member, data_dir: str | None, terminal: Terminal) -> None:
    """Read the data once, before there are folders and processes: what is wrong with them is said now."""
    from lstm_numba.training.tasks import build_task

    task = build_task(member.config, data_dir=data_dir, device=member.config["device"])
    check_memory(member.config, task.sequence_steps)
    for note in task.notes:
        terminal.say(note)


def _say_skipped(skipped: Mapping[str, str], terminal: Terminal) -> None:
    """Name the groups without a model."""
    for name, why in list(skipped.items())[:_NAMED]:
        terminal.say(f"group {name} is skipped: {why}")
    if len(skipped) > _NAMED:
        terminal.say(f"{plural(len(skipped) - _NAMED, 'other group')} skipped for similar reasons")


def _run_of(found: RunSet, member: Member) -> Run:
    """A member's run, whose folder is made if a training did not come to it."""
    folder = found.path(member)
    if (folder / "config.json").exists():
        return Run.open(folder)
    return Run.create(folder, member.config)


# -- a set that goes on ------------------------------------------------------------------------------


def resume_set(
    dataset: str,
    given: Mapping[str, Any],
    cells: Sequence[str],
    reopen: Callable[[str, dict[str, Any]], Run],
    terminal: Terminal,
) -> None:
    """Go on with every member of a set that is not complete, and print the result of all.

    Parameters
    ----------
    dataset : str
    given : mapping
        The options that the user gave, but for those of `cells`.
    cells : sequence of str
        Cells of the user's own, whose modules may be imported.
    reopen : callable
        Opens one run, as `given` with the run's folder as ``resume`` says.
    terminal : Terminal
    """
    found = RunSet.open(given["resume"])
    if found.dataset != dataset:
        trained = found.dataset
        raise click.UsageError(
            f"{found.folder} is a set of runs of {trained}: "
            f"lstm-numba train {trained} --resume {found.folder}"
        )
    foreign = next((cell for cell in cells if cell not in found.cells), None)
    if foreign is not None:
        raise UserError(f"--cell {foreign}: {found.folder} is a set of the cell {', '.join(found.cells)}")
    device = choose_device(given.get("device", found.members[0].config["device"]))
    threads = set_threads(given.get("threads"))
    runs = []
    for member in found.members:
        folder = _run_of(found, member).folder
        own = {"cell": member.cell} if member.cell in cells else {}
        runs.append(reopen(dataset, {**given, "resume": str(folder), **own}))
    _train(found, runs, device, threads, given, terminal)


# -- training and the result -------------------------------------------------------------------------


def _train(
    found: RunSet,
    runs: Sequence[Run],
    device: str,
    threads: int,
    given: Mapping[str, Any],
    terminal: Terminal,
) -> None:
    """Train the members and print the result; leaves the program if a signal ends it."""
    name, count = short_path(found.folder), min(threads, len(runs)) if device == "cpu" else 1
    where = f"{count} at a time, {plural(1, 'thread')} each" if device == "cpu" else device
    cells = ", ".join(found.cells)
    terminal.say(f"{found.dataset}: {cells}, {plural(len(runs), 'run')}, {where}; folder {name}")
    endings, signum = train_members(found, runs, given.get("data_dir"), device, count, terminal)
    if signum is not None:
        stopped = sum(isinstance(one, Stopped) for one in endings.values())
        ended = len(endings) - stopped
        told = "interrupted" if signum == 2 else "SIGTERM"
        terminal.say(f"{told}: {ended} of {plural(len(runs), 'run')} done, {stopped} stopped and saved")
        terminal.say(resume_line(found.dataset, name, found.cells))
        click.get_current_context().exit(128 + signum)
    if all(isinstance(one, Done) and one.outcome.already_complete for one in endings.values()):
        terminal.say("all runs are complete; --epochs N with a larger N resumes them")
    rows = [row_of(member, endings[number]) for number, member in enumerate(found.members)]
    files = draw(found, found.folder, terminal)
    if given.get("as_json"):
        print_json({**_document(found, endings), **summary(found, rows), "comparison": files})
    else:
        click.echo(table(found, rows))
    failed = failures(endings)
    if failed:
        _report_failures(found, failed)
    terminal.say(next_line_of_set(runs[0].config, name, found.cells, found.kind == GROUPS))


def row_of(member: Member, ending: Ending) -> Row:
    """A member's row in a table."""
    if isinstance(ending, Done):
        outcome = ending.outcome
        notes = ["stopped early"] * outcome.stopped_early + ["diverged"] * outcome.diverged
        values = outcome.evaluations["test"].as_dict()
        return Row(member.name, member.cell, values, outcome.epochs, ", ".join(notes), ending.baselines)
    diverged = isinstance(ending, Failed) and ending.diverged
    return Row(member.name, member.cell, None, None, "diverged" if diverged else "failed")


def _document(found: RunSet, endings: Mapping[int, Ending]) -> dict[str, Any]:
    runs = []
    for number, member in enumerate(found.members):
        ending = endings[number]
        if isinstance(ending, Done):
            runs.append({**identity(found, member), **result_values(ending)})
        elif isinstance(ending, Failed):
            what = {"diverged": ending.diverged, "error": ending.text}
            runs.append({**identity(found, member), "cell": member.cell, **what})
    return {"set": short_path(found.folder), "kind": found.kind, "runs": runs}


def _report_failures(found: RunSet, failed: Mapping[int, Failed]) -> NoReturn:
    number, first = next(iter(failed.items()))
    which = title(found, found.members[number])
    raise UserError(f"{len(failed)} of {plural(len(found.members), 'run')} failed; {which}: {first.text}")


def draw(found: RunSet, out: Path, terminal: Terminal) -> list[str]:
    """Draw the members' learning curves and return the files; without matplotlib, say how it is done."""
    try:
        require_matplotlib("a comparison")
    except UserError as error:
        terminal.say(f"{error}; then: {command('plot', paths=[short_path(found.folder)])}")
        return []
    from lstm_numba.cli.set_plots import write_curves

    files = write_curves(found, out)
    if files:
        terminal.say(f"comparison: {', '.join(files)}")
    return files
