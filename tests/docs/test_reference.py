"""The API reference: it lists what is public, and docstrings say what a reader must know."""

from __future__ import annotations

import doctest
import importlib
import inspect
import io
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from repository import ROOT

import lstm_numba as ln
from lstm_numba.cells.functions import Function

DOCS = ROOT / "lstm_numba" / "docs"
MODULES = ("lstm_numba", "lstm_numba.cells", "lstm_numba.estimators", "lstm_numba.kernels", "lstm_numba.data")

#: A public object is documented under its module, or under the one that re-exports it.
DIRECTIVE = re.compile(r"^\.\. (currentmodule|auto\w+):: ([\w.]+)$", re.MULTILINE)

#: No text; parameters without a text; parameters that there are not; no text of what comes back.
CHECKS = ("GL08", "PR01", "PR02", "RT01")


def load(name: str) -> Any:
    """An object by its full name."""
    module, _, leaf = name.rpartition(".")
    return getattr(importlib.import_module(module), leaf)


def listed(text: str) -> set[str]:
    """Full names of what a page of the reference documents."""
    names, module = set(), ""
    for directive, name in DIRECTIVE.findall(text):
        if directive == "currentmodule":
            module = name
        else:
            names.add(name if name.startswith("lstm_numba.") else f"{module}.{name}")
    return names


def reference() -> set[str]:
    """Full names of what the reference documents."""
    return set[str]().union(*(listed(path.read_text("utf-8")) for path in (DOCS / "reference").glob("*.rst")))


def public(module: str) -> list[str]:
    """Full names of what a module exports, without modules and the version."""
    names = importlib.import_module(module).__all__
    found = {name: getattr(importlib.import_module(module), name) for name in names}
    return [
        f"{module}.{name}" for name, thing in found.items() if not inspect.ismodule(thing) and name[0] != "_"
    ]


@pytest.mark.parametrize("module", MODULES)
def test_the_reference_lists_what_a_module_exports(module: str) -> None:
    if module == "lstm_numba.estimators":
        pytest.importorskip("sklearn")
    assert set(public(module)) - reference() == set()


def test_the_reference_lists_every_error() -> None:
    errors = {name for name, thing in vars(ln.errors).items() if inspect.isclass(thing)}
    assert {name.rpartition(".")[2] for name in reference() if name.rpartition(".")[2] in errors} == errors


def test_every_page_of_the_reference_is_in_the_table_of_contents() -> None:
    index = (DOCS / "index.rst").read_text("utf-8")
    pages = {f"reference/{path.stem}" for path in (DOCS / "reference").glob("*.rst")}
    assert set(re.findall(r"^   (reference/\w+)$", index, re.MULTILINE)) == pages


def shown_elsewhere(name: str, code: str, message: str) -> bool:
    """Whether numpydoc misses what a docstring says in another way.

    ``**options`` stands for the options of another function, which the docstring names; the fields of a tuple
    or of a data class are its attributes; ``cls`` is an argument of `register_cell`, not of a method.
    """
    thing = load(name)
    text = inspect.getdoc(thing) or ""
    if "**options" in text and "See `" in " ".join(text.split()).replace("see `", "See `"):
        return code == "PR01" or "**options" in message
    if inspect.isclass(thing) and "Attributes\n---" in text and code == "PR01":
        return all(re.search(rf"\b{field}\b", text) for field in re.findall(r"'(\w+)'", message))
    return name == "lstm_numba.register_cell" and "'cls'" in message


def faults(name: str) -> list[str]:
    """What numpydoc finds wrong with a docstring, of `CHECKS`."""
    validate: Any = importlib.import_module("numpydoc.validate").validate
    found = [(code, text) for code, text in validate(name)["errors"] if code in CHECKS]
    return [f"{code} {text}" for code, text in found if not shown_elsewhere(name, code, text)]


def has_docstring(name: str) -> bool:
    """Not tables; not the functions of equations, which have the one line of the function that they are."""
    thing = load(name)
    return callable(thing) and not isinstance(thing, Function)


@pytest.mark.parametrize("module", MODULES)
def test_docstrings_are_complete(module: str) -> None:
    pytest.importorskip("numpydoc")
    if module == "lstm_numba.estimators":
        pytest.importorskip("sklearn")
    assert {name: found for name in public(module) if has_docstring(name) and (found := faults(name))} == {}


def with_examples() -> list[str]:
    """Public names whose docstring has an example, but for estimators, whose tests run theirs."""
    names = [name for module in MODULES if module != "lstm_numba.estimators" for name in public(module)]
    return [name for name in names if ">>>" in (getattr(load(name), "__doc__", None) or "")]


@pytest.mark.parametrize("name", with_examples())
def test_examples_of_docstrings_give_what_they_show(name: str) -> None:
    thing, printed = load(name), io.StringIO()
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS)
    names: dict[str, Any] = {"__name__": "examples"}
    test = doctest.DocTestParser().get_doctest(thing.__doc__, names, name, None, None)
    runner.run(test, out=printed.write)
    assert (runner.failures, printed.getvalue()) == (0, "")


def test_readers_find_examples() -> None:
    """Where one begins: without an example that a test can run, these names have lost theirs."""
    assert {
        "LSTM",
        "GRU",
        "Stream",
        "register_cell",
        "fit",
        "SequenceClassifier",
        "save_weights",
        "Adam",
        "step",
    } <= {name.rpartition(".")[2] for name in with_examples()}


@pytest.mark.slow
def test_sphinx_builds_without_warnings(tmp_path: Path) -> None:
    for module in ("sphinx", "numpydoc", "myst_parser", "furo"):
        pytest.importorskip(module)
    command = ["-b", "html", "-q", "-W", "--keep-going", "-c", str(DOCS), str(ROOT), str(tmp_path / "html")]
    done = subprocess.run([sys.executable, "-m", "sphinx", *command], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert "num_layers" in (tmp_path / "html/lstm_numba/docs/reference/layers.html").read_text("utf-8")
