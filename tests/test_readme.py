"""The README's library example runs and learns; its commands are the ones that the checks run."""

from __future__ import annotations

import contextlib
import io
import re
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    """Code blocks of the README in a language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", README, re.DOTALL | re.MULTILINE)


def test_library_examples_run_learn_and_stream() -> None:
    source, streaming, inside = blocks("python")[:3]
    lines = [line for line in source.splitlines() if line and not line.startswith("import")]
    assert len(lines) <= 10
    names: dict[str, object] = {}
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(source, "README.md", "exec"), names)
    found = float(printed.getvalue().split()[-1])
    target = np.asarray(names["target"])
    # A network that has learnt nothing about its input can do no better than the target's mean.
    assert found < 0.5 * float(np.mean((target - target.mean()) ** 2))
    exec(compile(streaming, "README.md", "exec"), names)
    expected = names["rnn"](names["x"])[0][-1, 0]  # type: ignore[operator]
    np.testing.assert_allclose(np.asarray(names["h"]), expected, atol=1e-6)
    exec(compile(inside, "README.md", "exec"), names)
    expected = names["rnn"](names["x"])[1][0][0]  # type: ignore[operator]
    np.testing.assert_allclose(np.asarray(names["h"]), expected, atol=1e-6)


def test_command_that_tests_is_marked_for_the_checks() -> None:
    marked = re.findall(r"<!-- test-command -->\n```sh\n(.+)\n```", README)
    assert len(marked) == 1
    assert marked[0].endswith("-m pytest -n auto --dist loadfile")
    assert "-e '.[test]'" in marked[0]


def test_links_lead_somewhere() -> None:
    links = re.findall(r"\]\((?!https?:)([^)#]+)\)", README)
    assert links
    assert [link for link in links if not (ROOT / link).exists()] == []
