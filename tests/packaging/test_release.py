"""What a release needs: one version everywhere, one list of dependencies, an issue form."""

from __future__ import annotations

import importlib.util
import re
import sys
from types import ModuleType

import pytest
from repository import ROOT

import lstm_numba


@pytest.fixture(scope="module")
def check() -> ModuleType:
    """The program that the release workflow runs."""
    spec = importlib.util.spec_from_file_location("check_release", ROOT / ".ci" / "check_release.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_file_names_the_same_version(check: ModuleType) -> None:
    assert check.main(f"v{lstm_numba.__version__}") is None


def test_another_tag_is_refused(check: ModuleType) -> None:
    message = check.main("v9.9.9")
    assert message.startswith("tag v9.9.9, but ")
    assert all(f"{name}: {lstm_numba.__version__}" in message for name in check.PLACES)


def test_the_recipe_has_the_dependencies_of_the_package() -> None:
    pyproject = (ROOT / "pyproject.toml").read_text("utf-8")
    recipe = (ROOT / ".ci" / "conda" / "recipe.yaml").read_text("utf-8")
    wanted = re.findall(
        r'^    "([a-z]+)(>=.+)",$', pyproject.split("dependencies = [")[1].split("]")[0], re.M
    )
    assert len(wanted) > 3
    run = recipe.split("  run:\n")[1].split("\n\n")[0]
    assert re.findall(r"- (\w+) (>=.+)$", run, re.M)[1:] == wanted
    assert lstm_numba.__version__ in recipe


def test_pythons_of_the_workflow_are_those_of_the_classifiers() -> None:
    pyproject = (ROOT / "pyproject.toml").read_text("utf-8")
    workflow = (ROOT / ".github" / "workflows" / "release.yml").read_text("utf-8")
    tried = re.findall(r'"(3\.\d+)"', workflow.split("python: [")[1].split("]")[0])
    assert re.findall(r"Python :: (3\.\d+)", pyproject) == tried
    assert f"{sys.version_info.major}.{sys.version_info.minor}" in tried


def test_the_issue_form_asks_for_what_info_prints() -> None:
    assert "lstm-numba info --json" in (ROOT / ".github" / "ISSUE_TEMPLATE" / "bug.yml").read_text("utf-8")
