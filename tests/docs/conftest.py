"""What tests of pages share."""

from __future__ import annotations

import pytest
from page_files import make_files
from pages import Done, Runner, run_page, text_of


@pytest.fixture(scope="session")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Runner:
    """A page's Python, run once in a folder of its own with the files that it reads."""
    found: dict[str, list[Done]] = {}

    def run(page: str) -> list[Done]:
        if page not in found:
            text, folder = text_of(page), tmp_path_factory.mktemp("page")
            make_files(text, folder)
            with pytest.MonkeyPatch.context() as patch:
                patch.chdir(folder)
                found[page] = run_page(text, page)
        return found[page]

    return run
