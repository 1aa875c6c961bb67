"""What tests of pages share."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import pytest
from page_files import make_files
from pages import Done, Runner, run_page, text_of


@pytest.fixture(scope="session")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Runner:
    """A page's Python, run once in a folder of its own with the files that it reads."""
    found: dict[str, list[Done] | Exception] = {}

    def run(page: str) -> list[Done]:
        if page not in found:
            try:
                found[page] = fresh(page)
            except Exception as error:  # it is not tried again for the page's other tests
                found[page] = error
        done = found[page]
        if isinstance(done, Exception):
            raise done
        return done

    def fresh(page: str) -> list[Done]:
        text, folder = text_of(page), tmp_path_factory.mktemp("page")
        make_files(text, folder)
        with pytest.MonkeyPatch.context() as patch:
            patch.chdir(folder)
            return run_page(text, page)

    return run


@pytest.fixture(scope="module")
def torch() -> Any:
    """PyTorch, in float64 where a module is made."""
    return pytest.importorskip("torch", reason="torch is not installed")


@pytest.fixture(scope="module")
def keras() -> Iterator[Any]:
    """Keras with PyTorch below it."""
    pytest.importorskip("torch", reason="torch is not installed")
    before = os.environ.get("KERAS_BACKEND")
    os.environ["KERAS_BACKEND"] = "torch"
    yield pytest.importorskip("keras", reason="keras is not installed")
    if before is None:
        del os.environ["KERAS_BACKEND"]
    else:
        os.environ["KERAS_BACKEND"] = before
