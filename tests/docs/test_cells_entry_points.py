"""The page of entry points: its code runs, its commands exist, its links lead to files."""

from __future__ import annotations

import importlib.util
import re
import shlex
from pathlib import Path
from typing import Any

import click
import numpy as np
import pytest
from backends import reason_without_cuda
from repository import ROOT

import lstm_numba as ln
from lstm_numba.cells import evaluate
from lstm_numba.cli.main import cli
from lstm_numba.examples import janet

PATH = ROOT / "lstm_numba" / "README.md"
PAGE = PATH.read_text(encoding="utf-8")


def code_blocks() -> list[tuple[str, str]]:
    """What each block needs, and the block."""
    return re.findall(r"(?:<!-- needs ([\w ]+) -->\n)?^```python\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)


def _runs(needs: str) -> bool:
    """Whether the packages that a block needs are there."""
    return needs != "cuda" and all(importlib.util.find_spec(package) for package in needs.split())


def test_code_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All blocks, one after the other; those for packages or devices that are not there are left out."""
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {"__name__": "entry_points"}
    for needs, source in code_blocks():
        if _runs(needs):
            exec(compile(source, PATH.name, "exec"), names)
    y, (state, _) = ln.LSTM(4, 8, seed=0)(names["x"])
    np.testing.assert_allclose(names["out"], y[-1, 0], atol=1e-6)  # streamed
    np.testing.assert_allclose(names["h"], state[0, 0], atol=1e-6)  # in compiled code
    np.testing.assert_allclose(names["h_last"][:, 0], state[0], atol=1e-6)
    assert names["trace"]["f_l0"].shape == (30, 64, 8)
    assert len(names["histories"]) == 3
    after, _ = names["trained"](names["x"])
    assert ln.mean_squared_error(after, np.tanh(np.cumsum(names["x"], axis=0)))[0] < names["loss"]
    first, *_, last = names["history"]["loss"]
    assert last < first
    assert {path.name for path in tmp_path.iterdir()} == {"model.h", "rnn.safetensors"}
    point = evaluate.Point((0.3, -0.4), (0.2,), ())
    own, example = names["JANET"].cell, janet.JANET.cell
    assert evaluate.forward(own, point) == evaluate.forward(example, point)


@pytest.mark.gpu
def test_code_for_a_gpu_runs() -> None:
    if reason_without_cuda():
        pytest.skip(reason_without_cuda())
    ((_, source),) = (block for block in code_blocks() if block[0] == "cuda")
    x = np.random.default_rng(0).standard_normal((2, 2, 4)).astype(np.float32)
    names: dict[str, Any] = {"ln": ln, "x": x}
    exec(compile(source, PATH.name, "exec"), names)
    np.testing.assert_allclose(names["y"], ln.LSTM(4, 8, seed=0)(x)[0], atol=1e-6)


@pytest.mark.smoke
def test_names_exist() -> None:
    found = set(re.findall(r"\bln\.(\w+)", PAGE))
    assert found
    assert [name for name in found if not hasattr(ln, name)] == []


@pytest.mark.smoke
def test_commands_exist() -> None:
    lines = [
        line
        for block in re.findall(r"^```sh\n(.*?)^```$", PAGE, re.DOTALL | re.M)
        for line in block.splitlines()
    ]
    lines += re.findall(r"`(lstm-numba [a-z ]+(?: --[^`]*)?)`", PAGE)
    assert len(lines) > 8
    for line in lines:
        command, context = cli, click.Context(cli)
        words = shlex.split(line[line.index("lstm-numba") :])[1:]
        while words and isinstance(command, click.Group):
            found = command.get_command(context, words.pop(0))
            assert found is not None, line
            command = found  # type: ignore[assignment]
        options = {name for parameter in command.params for name in parameter.opts}
        assert {word for word in words if word.startswith("-") and word != "-h"} <= options, line


@pytest.mark.smoke
def test_links_lead_somewhere() -> None:
    links = re.findall(r"\]\((?!https?:)([^)]+)\)", PAGE)
    assert [link for link in links if not _leads(PATH, link)] == []


def _leads(page: Path, link: str) -> bool:
    """Whether a file is there, and has a section of that title."""
    file, _, anchor = link.partition("#")
    target = page.parent / file if file else page
    if not target.exists() or not anchor:
        return target.exists()
    titles = re.findall(r"^#+ (.*)$", target.read_text(encoding="utf-8"), re.MULTILINE)
    return anchor in {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}
