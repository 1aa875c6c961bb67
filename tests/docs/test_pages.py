"""Every page: its Python runs and gives what it says, its commands parse, its links lead somewhere."""

from __future__ import annotations

import contextlib
import ctypes
import importlib.util
import re
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import click
import numpy as np
import pytest
from pages import (
    Block,
    Done,
    Runner,
    all_pages,
    anchors,
    broken_links,
    commands,
    links,
    mentions,
    needs_gpu,
    python_blocks,
    reason_to_skip,
    run_page,
    text_of,
)
from repository import ROOT
from tolerances import assert_close

import lstm_numba as ln
from lstm_numba.cli.main import cli

PAGES = [path.as_posix() for path in all_pages()]
#: Pages whose Python other tests of this folder run.
ELSEWHERE = {
    "README.md",
    "lstm_numba/README.md",
    "lstm_numba/cells/README.md",
    "lstm_numba/cells/CUSTOM_CELLS.md",
}
PYTHON = [
    pytest.param(page, block, id=f"{page}:{block.line}", marks=[pytest.mark.gpu] * needs_gpu(block))
    for page in PAGES
    if page not in ELSEWHERE
    for block in python_blocks(text_of(page))
]
WITH_COMMANDS = [page for page in PAGES if commands(text_of(page))]
#: Programs of others in ``sh`` blocks.
OTHERS = {
    "pip",
    "python",
    "python3",
    "pytest",
    "bash",
    "tail",
    "pre-commit",
    "source",
    "cp",
    "cd",
    "export",
    "sphinx-build",
}


def done_with(done: list[Done], text: str) -> Done:
    """The block that holds a text."""
    (found,) = (one for one in done if text in one.block.source)
    return found


# -- Python --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("page", "block"), PYTHON)
def test_the_python_of_a_page_runs(page: str, block: Block, ran: Runner) -> None:
    """All blocks of a page run together, one after the other, when the first is asked for."""
    if reason_to_skip(block):
        pytest.skip(reason_to_skip(block))
    assert block in [one.block for one in ran(page)]


@pytest.mark.processor
def test_layers_learn_and_stream() -> None:
    page = "lstm_numba/nn/README.md"
    blocks = {name: done_source(page, name) for name in ("rnn.backward(tape, 2", "ln.Stream(rnn)")}
    inside = done_source("lstm_numba/kernels/README.md", "def run_apart")
    names: dict[str, Any] = {}
    printed, streamed, stepped = _run_layers(list(blocks.values()), inside, names)
    target = names["target"]
    # A network that has learnt nothing about its input can do no better than the target's mean.
    assert float(printed.split()[-1]) < 0.5 * float(np.mean((target - target.mean()) ** 2))
    y, (last, _) = names["rnn"](names["x"])
    np.testing.assert_allclose(streamed, y[-1, 0], atol=1e-6)
    np.testing.assert_allclose(stepped, last[0], atol=1e-6)
    # Where an array begins differs from run to run, what comes out must not.
    again_inside = inside[inside.index("weights = ") :]  # the function is compiled once
    for _ in range(9):
        again, *states = _run_layers(list(blocks.values()), again_inside, names)
        assert again == printed
        np.testing.assert_array_equal(states[0], streamed)
        np.testing.assert_array_equal(states[1], stepped)


def done_source(page: str, text: str) -> str:
    """The source of a page's block that holds a text."""
    (found,) = (block.source for block in python_blocks(text_of(page)) if text in block.source)
    return found


def _run_layers(
    layers: list[str], inside: str, names: dict[str, Any]
) -> tuple[str, np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """What the first example prints, and the states after streaming and in compiled code."""
    text = "\n".join(f"```py\n{source}```" for source in (*layers, inside))
    learned, streaming, compiled = run_page(text, "layers", names)
    names.update(compiled.names)
    return learned.printed, np.array(streaming.names["h"]), np.array(compiled.names["h"])


def test_many_models_have_an_axis_in_front(ran: Runner) -> None:
    names = done_with(ran("lstm_numba/nn/README.md"), "models=256").names
    assert names["state"][0].shape == (256, 1, 16, 32)
    alone = ln.LSTM(8, 32, seed=3)
    np.testing.assert_allclose(names["out"][3], alone(names["series"][3])[0], atol=1e-6)


def test_resets_cut_the_rows(ran: Runner) -> None:
    names = done_with(ran("lstm_numba/nn/README.md"), "resets=starts").names
    y, _ = names["rnn"](names["x"][10:20])
    np.testing.assert_allclose(names["y"][10:20], y, atol=1e-6)


def test_audio_callbacks_are_the_layer(ran: Runner) -> None:
    """A NaN stays until the state is zero again; the function for C gives the same."""
    names = ran("lstm_numba/kernels/README.md")[-1].names
    x = np.random.default_rng(0).standard_normal(64).astype(np.float32)
    h, c, found, state = *np.zeros((2, 16), np.float32), np.empty_like(x), np.zeros(32, np.float32)

    def process(x: np.ndarray) -> None:
        names["process"](names["amp"], names["readout"], x, found, h, c, names["scratch"])

    weight, bias = names["head"].params["weight"], names["head"].params["bias"]
    expected = x + (names["lstm"](x[:, None, None])[0] @ weight.T + bias)[:, 0, 0]
    process(np.full_like(x, np.nan))
    process(x)
    assert np.isnan(found).all()
    h[:], c[:] = 0, 0
    process(x)
    assert_close(found, expected, "forward")
    pointer = ctypes.POINTER(ctypes.c_float)
    memory = [array.ctypes.data_as(pointer) for array in (x, found, state)]
    for _ in range(2):
        found[:], state[:] = 0, 0
        names["callback"].ctypes(*memory[:2], 64, memory[2])
        assert_close(found, expected, "forward")


def test_training_on_arrays_learns(ran: Runner) -> None:
    done = ran("lstm_numba/training/README.md")
    quick = done_with(done, "ln.fit(model")
    assert float(re.findall(r"accuracy=([\d.]+)", quick.printed)[0]) > 0.75
    names = done_with(done, "ln.SequenceData").names
    assert ln.evaluate(names["model"], (names["x"], names["y"])).accuracy > 0.8
    several = done_with(done, "ln.fit_models").names
    assert len(several["histories"]) == 10
    assert min(one.accuracy for one in several["results"]) > 0.8


def test_a_run_is_opened(ran: Runner) -> None:
    done = done_with(ran("lstm_numba/training/README.md"), "load_run")
    assert f"{done.names['model'].parameter_count:,}" in done.printed
    chances = done.names["model"].probabilities(
        done.names["image_sequences"](done.names["images"], dataset="digits")
    )
    np.testing.assert_allclose(chances.sum(axis=-1), 1, atol=1e-5)


def test_weights_come_in_and_go_out(ran: Runner) -> None:
    done = ran("lstm_numba/interop/README.md")
    first = done_with(done, "inspect_weights")
    written = ln.RNN(3, 5, seed=0).state_dict()
    assert first.names["tensors"].keys() == {f"encoder.{name}" for name in written}
    for name, array in written.items():
        np.testing.assert_array_equal(first.names["tensors"][f"encoder.{name}"], array)
    if importlib.util.find_spec("h5py"):
        model = done_with(done, "network.keras").names["model"]
        # All of the linear layer's weights are ones, the biases too.
        h = model.rnn(np.ones((2, 1, 3), np.float32))[0]
        got = model.scores(np.ones((2, 1, 3), np.float32))
        np.testing.assert_allclose(got, np.repeat(h.sum(-1, keepdims=True) + 1, 2, axis=-1), atol=1e-5)


def test_a_classifier_of_pytorch_is_trained_on_and_carried_back(ran: Runner) -> None:
    torch = pytest.importorskip("torch")
    names = done_with(ran("lstm_numba/interop/README.md"), "classifier.pt").names
    theirs = names["network"](torch.from_numpy(names["x"])).detach().numpy()
    np.testing.assert_allclose(theirs, names["model"].scores(names["x"].swapaxes(0, 1)), atol=1e-5)


def test_estimators_predict(ran: Runner) -> None:
    pytest.importorskip("sklearn", reason="scikit-learn is not installed")
    names = ran("lstm_numba/estimators/README.md")[-1].names
    classifier, X, y = (names[name] for name in ("classifier", "X", "y"))
    assert np.mean(classifier.predict(X) == y) > 0.6
    low, high = np.moveaxis(
        np.asarray(
            names["forecaster"].predict_quantiles(12, (0.05, 0.95), X=names["features_of_the_next_12_steps"])
        ),
        -1,
        0,
    )
    assert (low < high).all()


# -- links ---------------------------------------------------------------------------------------------


@pytest.mark.smoke
@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page: str) -> None:
    assert broken_links(Path(page)) == []


@pytest.mark.smoke
def test_the_pages_of_the_folders_are_found() -> None:
    folders = ("cli", "data", "benchmarks", *(f"lstm_numba/{name}" for name in (
        "nn", "training", "kernels", "interop", "estimators", "archives", "engines/cuda", "examples",
        "experiments", "cells",
    )))  # fmt: skip
    assert {f"{folder}/README.md" for folder in folders} | {
        "README.md",
        "CONTRIBUTING.md",
        "CHANGELOG.md",
    } <= {*PAGES}
    assert sum(len(links(text_of(page))) for page in PAGES) > 100


@pytest.mark.smoke
def test_anchors_are_those_of_github() -> None:
    text = "# The `first` one\n\n## A b, c: d_e-f\n\n```sh\n# no heading\n```\n\n## [Link](x.md)\n\n## Link\n"
    assert anchors(text) == {"the-first-one", "a-b-c-d_e-f", "link", "link-1"}


def test_pictures_are_there_and_small() -> None:
    found = [
        (ROOT / page).parent / path
        for page in PAGES
        for path in re.findall(r'<img [^>]*?src="((?!https?:)[^"]+)"', text_of(page))
    ]
    assert found
    for path in found:
        content = path.read_bytes()
        assert len(content) < 60_000, path
        assert ElementTree.fromstring(content).tag.endswith("}svg")
    for page in PAGES:
        for image in re.findall(r"<img [^>]*>", text_of(page)):
            assert len(re.findall(r'alt="([^"]+)"', image)[0]) > 80, (page, image)


# -- commands ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("page", WITH_COMMANDS)
def test_commands_parse(page: str) -> None:
    for words in commands(text_of(page)):
        name = Path(words[0]).name
        if name == "lstm-numba":
            parse(words[1:])
        elif name in ("python", "python3") and words[1:2] != ["-m"]:
            assert (ROOT / words[1]).is_file(), words
        elif name in ("python", "python3") and words[2].startswith("lstm_numba"):
            assert importlib.util.find_spec(words[2]) is not None, words
        else:
            assert name in OTHERS, f"{page}: which program is {name!r}?"


def parse(words: list[str]) -> None:
    """Read a command line of the program without running it; raises what is wrong with it."""
    words = [re.sub(r"^~.*", "/tmp", word) for word in words]
    command: click.Command = cli
    # The names of the help option come from the program's context, and Click remembers them.
    context = click.Context(cli, info_name="lstm-numba", **cli.context_settings)
    while isinstance(command, click.Group):
        child = command.get_command(context, words[0])
        assert child is not None, f"no command {words[0]}"
        command, words = child, words[1:]
        if isinstance(command, click.Group):
            context = click.Context(command, parent=context, info_name=command.name)
    with contextlib.suppress(click.exceptions.Exit):  # --help
        command.make_context(command.name, words, parent=context)


@pytest.mark.parametrize("page", PAGES)
def test_commands_and_options_in_the_prose_exist(page: str) -> None:
    """``lstm-numba train --cell gru …`` in a sentence need not be whole, but what it names must be there."""
    for mention in mentions(text_of(page)):
        command: click.Command = cli
        for word in mention.split():
            if isinstance(command, click.Group):
                command = command.get_command(click.Context(command), word) or command
            if word.startswith("--"):
                assert word in options_of(command), f"{page}: lstm-numba {mention}"
        assert command is not cli or mention.startswith("-"), f"{page}: lstm-numba {mention}"


def options_of(command: click.Command) -> set[str]:
    """The options of a command, of a group those of its commands."""
    found = {name for param in command.params for name in (*param.opts, *param.secondary_opts)} | {"--help"}
    if isinstance(command, click.Group) and command is not cli:
        for name in command.list_commands(click.Context(command)):
            below = command.get_command(click.Context(command), name)
            assert below is not None
            found |= options_of(below)
    return found
