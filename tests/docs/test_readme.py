"""The README: short, its two commands are marked, its Python runs."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from page_files import make_files
from pages import python_blocks, reason_to_skip, run_page, text_of

README = text_of("README.md")


@pytest.mark.smoke
def test_it_can_be_read() -> None:
    assert len(README.splitlines()) <= 200
    assert README.startswith("# ")


@pytest.mark.smoke
@pytest.mark.parametrize("name", ["start", "test"])
def test_the_two_commands_are_marked(name: str) -> None:
    """``.ci/run`` runs what stands there."""
    (command,) = re.findall(rf"^<!-- {name}-command -->\n```sh\n(.*?)^```$", README, re.DOTALL | re.MULTILINE)
    (line,) = command.splitlines()
    assert line.startswith("python3 -m venv .venv && ")
    assert {"start": "lstm-numba train digits", "test": "-m pytest"}[name] in line


def test_its_python_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = python_blocks(README)
    assert found
    make_files(README, tmp_path)
    monkeypatch.chdir(tmp_path)
    done = run_page(README, "README.md")
    assert [one.block for one in done] == [block for block in found if not reason_to_skip(block)]
    assert done, "every block is skipped"


def test_what_stands_below_its_python_is_what_it_prints(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Word for word; numbers of a training differ between processors in their last digits."""
    make_files(README, tmp_path)
    monkeypatch.chdir(tmp_path)
    shown = dict(re.findall(r"^```py\n(.*?)^```$\n\n^```text\n(.*?)^```$", README, re.DOTALL | re.MULTILINE))
    done = {one.block.source: one.printed for one in run_page(README, "README.md") if one.printed}
    assert len(done) == 4
    assert shown.keys() == done.keys()
    for source, printed in done.items():
        number = r"-?\d+\.\d+"
        assert re.sub(number, "#", shown[source]) == re.sub(number, "#", printed)
        np.testing.assert_allclose(
            [float(one) for one in re.findall(number, printed)],
            [float(one) for one in re.findall(number, shown[source])],
            rtol=0.1,
            atol=0.002,
        )
