"""Every option and argument of every command with odd values: a status, and one line of words."""

from __future__ import annotations

import contextlib
import platform
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import numpy as np
import pytest
from cli_tools import invoke
from mutations import pick
from watch import bounded, watched

from lstm_numba.cli.main import cli
from lstm_numba.errors import UserError
from lstm_numba.training.config import make_config
from lstm_numba.training.run import Run
from lstm_numba.training.run_sets import SEEDS, Member, RunSet

#: Command lines in CI, and with ``-m fuzz``.
SHORT, LONG = 300, 20_000
#: Words that somebody, or something, may write where others were meant. No command line holds a NUL byte.
ODD = (
    "", " ", "-", "--", "---x", "0", "-0", "1", "-1", "00", "1.5", "-1e-3", "1e3", "1e308", "1e400",
    "-1e400", "nan", "inf", "-inf", "0x10", "1_000", "1,5", "\u0663", "\u00bd", "10" * 200, "10" * 3000,
    "9" * 19, str(1 << 31), str(1 << 63), "1e-400", "true", "None", "[]", "{}", "a" * 5000, "\n", "a\nb",
    "\t", "\udcff", "\U0001f4a5", "e\u0301", "\x1b[31m", "%s", "%n", "{0}", "{run}", "$HOME",
    "~", "~nobody", ".", "..", "/", "/dev/null", "/dev/zero", "/proc/self/mem", "/nowhere/x", "x/../../y",
    "a:b", "os:system", "no_such_module:Cell", "builtins:int", ":", "lstm", "LSTM", "gru,lstm", "lstm,f=",
    "lstm,f=Sigmoid", "lstm,f=HardSigmoid,clip=nan", "0x0x0x0", "1x1x1", "hidden=", "hidden=0,1",
    "hidden=1" * 50, "threads=999999", "cpu", "cuda", "all", "float16", "float64", "http://localhost:1/x",
    "*", "?", ";", "|", "`id`", "$(id)",
)  # fmt: skip


def commands(
    command: click.Command = cli, path: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """Every command with its words."""
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            inner = command.get_command(context, name)
            assert inner is not None
            yield from commands(inner, (*path, name))
    else:
        yield path, command


COMMANDS = dict(commands())


class Reached(UserError):
    """All options were read; what follows is work."""


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to stand in; where commands begin to work, they are told that it was enough."""
    for kind in ("digits", "grammar"):
        Run.create(tmp_path / kind, make_config(kind, {"threads": 1, "hidden": 3}))
    members = [Member(f"seed-{k}", str(k), make_config("digits", {"seed": k, "threads": 1})) for k in (0, 1)]
    RunSet(tmp_path / "set", SEEDS, tuple(members)).write()
    (tmp_path / "text.txt").write_text("some words\n" * 50)
    (tmp_path / "sweep.toml").write_text('command = "train digits"\n[ranges]\nlr = [0.1, 0.2]\n')
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LSTM_NUMBA_DATA", str(tmp_path / "data"))
    # These ask other programs, once in a process.
    platform.platform()
    invoke("info")
    with contextlib.suppress(ImportError):
        import matplotlib.pyplot  # noqa: F401

    def enough(*_: Any, **__: Any) -> None:
        raise Reached("reached the work")

    for target in (
        "lstm_numba.training.tasks.build_task",
        "lstm_numba.training.tasks.open_task",
        "lstm_numba.training.warmup.warm_up",
        "lstm_numba.cli.run_sets.train_members",
        "lstm_numba.data.store.download",
        "lstm_numba.cli.cache._parts",
        "lstm_numba.cli.bench.plan_rows",
        "lstm_numba.cli.sweeping.opened",
        "lstm_numba.cli.bench.run_with_isa",
        "lstm_numba.experiments.workers.run_parts",
        "lstm_numba.experiments.long_gap.run_parts",
        "lstm_numba.experiments.odyssey.run_parts",
    ):
        monkeypatch.setattr(target, enough)
    return tmp_path


def words_of(parameter: click.Parameter, rng: np.random.Generator) -> list[str]:
    """A parameter with a value, mostly an odd one."""
    values = [str(pick(rng, ODD)) for _ in range(parameter.nargs if parameter.nargs > 1 else 1)]
    if isinstance(parameter.type, click.Choice) and rng.random() < 0.5:
        values = [str(pick(rng, list(parameter.type.choices)))]
    if parameter.name in ("run", "runs", "file", "resume") and rng.random() < 0.7:
        names = ("digits", "grammar", "set", "text.txt", "sweep.toml", ".", "new")
        values = [str(pick(rng, names))]
    if isinstance(parameter, click.Argument):
        return values
    flag = isinstance(parameter, click.Option) and parameter.is_flag
    return [str(pick(rng, parameter.opts)), *([] if flag else values)]


def command_line(name: tuple[str, ...], rng: np.random.Generator) -> list[str]:
    """A command with what it needs and one to three odd values."""
    parameters = [p for p in COMMANDS[name].params if p.name != "help"]
    odd = [pick(rng, parameters) for _ in range(int(rng.integers(1, 4)))]
    needed = [p for p in parameters if p.required and p not in odd]
    words = [word for parameter in (*needed, *odd) for word in words_of(parameter, rng)]
    if rng.random() < 0.1:
        words.insert(int(rng.integers(len(words) + 1)), str(pick(rng, ODD)))
    return [*name, *words]


def try_lines(count: int, seed: int, folder: Path) -> None:
    """Call the program so often; anything but success or a line that says why fails."""
    reached = 0
    for number in range(count):
        rng = np.random.default_rng([seed, number])
        name = pick(rng, list(COMMANDS))
        line = command_line(name, rng)
        with watched(folder, importing=True), bounded(1 << 30):
            answer = invoke(line[0], *line[1:])
        case = f"seed {seed}, line {number}: {line!r:.600}: {answer.status}, {answer.err!r:.600}"
        assert answer.status in (0, 1, 2), case
        assert "Traceback" not in answer.err, case
        assert "LSTM_NUMBA_DEBUG" not in answer.err, case  # the catch-all
        assert "out of memory" not in answer.err, case
        if answer.status and name != ("data", "verify"):  # whose answer may be that something is amiss
            *notes, last = answer.err.splitlines()
            assert last.startswith("error: "), case
            assert all(note.startswith("device: ") for note in notes), case
        reached += "reached the work" in answer.err or answer.status == 0
    assert reached > count // 50, "hardly any line was read to its end: the driver is broken"


def test_some_lines(place: Path) -> None:
    try_lines(SHORT, 1, place)


@pytest.mark.fuzz
@pytest.mark.parametrize("seed", range(2, 6))
def test_many_lines(seed: int, place: Path) -> None:
    try_lines(LONG, seed, place)
