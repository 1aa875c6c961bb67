"""A line says that kernels are being compiled, where somebody looks and nobody else says so."""

from __future__ import annotations

import io
import logging
import os
import re
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from numba.core import event
from terminal_tools import NotebookStream, run_in_terminal, screen

from lstm_numba.engines import compile_notice, engine
from lstm_numba.engines.compile_notice import COMPILE_EVENT, Notice, compiling
from lstm_numba.progress_line import Spinner
from lstm_numba.training.callbacks import Reporter
from lstm_numba.training.compile_watch import CompileWatch

LINE = "lstm_numba: compiling kernels for this processor (kept on disk for later runs) ..."

terminal = pytest.mark.skipif(not hasattr(os, "openpty"), reason="needs pseudo-terminals")


@pytest.fixture
def stream(monkeypatch: pytest.MonkeyPatch) -> NotebookStream:
    """Standard error of a notebook; short times."""
    made = NotebookStream()
    # pytest sets that of `sys` anew before a test's body.
    monkeypatch.setattr(compile_notice, "sys", SimpleNamespace(stderr=made))
    monkeypatch.setattr(compile_notice, "DELAY", 0.1)
    monkeypatch.setattr(compile_notice, "GAP", 0.3)
    monkeypatch.delenv("LSTM_NUMBA_PROGRESS", raising=False)
    return made


def wait_until_quiet() -> None:
    """Until the burst is over."""
    end = time.monotonic() + 10
    while compile_notice._notice._watcher is not None:
        assert time.monotonic() < end
        time.sleep(0.01)


def compile_for(seconds: float) -> None:
    """Stands for a compilation."""
    with compiling():
        time.sleep(seconds)


def test_a_burst_is_one_line(stream: NotebookStream) -> None:
    for _ in range(4):  # each shorter than what goes unsaid
        compile_for(0.08)
        assert screen(stream.text) in ([""], [LINE, ""])  # nothing is left on the line
        time.sleep(0.05)
    wait_until_quiet()
    assert screen(stream.text) == [LINE, ""]
    assert re.search(r"\r[|/\\-] \d+ s", stream.text)
    compile_for(0.3)
    wait_until_quiet()
    assert screen(stream.text) == [LINE, LINE, ""]


def test_short_ones_are_silent(stream: NotebookStream) -> None:
    compile_for(0.01)
    wait_until_quiet()
    assert stream.writes == []


def test_an_exception_ends_it(stream: NotebookStream) -> None:
    def fail(error: type[BaseException]) -> None:
        with compiling():
            time.sleep(0.2)
            raise error

    for error in (ValueError, KeyboardInterrupt):
        with pytest.raises(error):
            fail(error)
        assert screen(stream.text)[-2:] == [LINE, ""]
        wait_until_quiet()
    assert compile_notice._notice._compiling == 0


def test_threads_share_a_line(stream: NotebookStream) -> None:
    threads = [threading.Thread(target=compile_for, args=(0.2 + 0.02 * n,)) for n in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert screen(stream.text) == [LINE, ""]
    wait_until_quiet()
    assert screen(stream.text) == [LINE, ""]


def test_variable_and_watch_silence_it(stream: NotebookStream, monkeypatch: pytest.MonkeyPatch) -> None:
    with CompileWatch(Reporter()):
        compile_for(0.2)
        assert compile_notice._notice._watcher is None
    monkeypatch.setenv("LSTM_NUMBA_PROGRESS", "0")
    compile_for(0.2)
    assert stream.writes == []
    monkeypatch.setenv("LSTM_NUMBA_PROGRESS", "1")
    compile_for(0.2)
    assert screen(stream.text) == [LINE, ""]
    wait_until_quiet()


def test_a_watch_that_begins_later_silences_it(stream: NotebookStream) -> None:
    with compiling():
        time.sleep(0.02)
        with compile_notice.silenced():
            time.sleep(0.2)
    wait_until_quiet()
    assert stream.writes == []


def test_elsewhere_it_is_logged(
    stream: NotebookStream, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    pipe = io.StringIO()
    monkeypatch.setattr(compile_notice.sys, "stderr", pipe)
    with caplog.at_level(logging.INFO, "lstm_numba"):
        compile_for(0.2)
        compile_for(0.2)
        wait_until_quiet()
    assert [(record.name, record.levelname) for record in caplog.records] == [("lstm_numba", "INFO")]
    assert caplog.records[0].getMessage() == LINE.partition(": ")[2]
    assert pipe.getvalue() == ""
    for gone in (None, io.StringIO()):
        monkeypatch.setattr(compile_notice.sys, "stderr", gone)
        if gone is not None:
            gone.close()
        compile_for(0.2)
        wait_until_quiet()


class Function:
    """Stands for a dispatcher of Numba."""

    def __init__(self, module: str) -> None:
        self.py_func = type("function", (), {"__module__": module})


def test_only_the_librarys_kernels_count(stream: NotebookStream) -> None:
    engine("cpu")

    def numba_compiles(module: str) -> Any:
        return event.trigger_event("numba:compile", data={"dispatcher": Function(module)})

    def passes() -> Any:
        return event.trigger_event("numba:run_pass", data={})

    with numba_compiles("lstm_numba_like"), numba_compiles("users"), passes():
        time.sleep(0.2)
    with event.trigger_event(COMPILE_EVENT, data={}):  # is read from disk
        time.sleep(0.2)
    wait_until_quiet()
    assert stream.writes == []
    with numba_compiles("users"), numba_compiles("lstm_numba.kernels.forward"), numba_compiles("users"):
        time.sleep(0.2)
    wait_until_quiet()
    assert screen(stream.text) == [LINE, ""]
    with event.trigger_event(COMPILE_EVENT, data={}), passes():
        time.sleep(0.2)
    wait_until_quiet()
    assert screen(stream.text) == [LINE, LINE, ""]


def test_a_fault_of_its_own_stops_nothing(stream: NotebookStream, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: Any, **options: Any) -> Any:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(compile_notice.threading, "Thread", refuse)
        compile_for(0.2)
    monkeypatch.setattr(compile_notice, "Spinner", refuse)
    compile_for(0.2)
    wait_until_quiet()
    assert stream.writes == []


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_forked_process_has_its_own(stream: NotebookStream) -> None:
    engine("cpu")
    reading, writing = os.pipe()
    notice = compile_notice._notice
    with compiling():
        time.sleep(0.15)
        with notice._changed:  # the worst moment
            child = os.fork()
            if child == 0:
                compile_notice._here.__dict__.clear()  # its thread is no compiling one
                stream.writes.clear()
                compile_for(0.3)
                os.write(writing, stream.text.encode())
                os._exit(0)
    os.close(writing)
    with os.fdopen(reading, newline="") as file:
        text = file.read()
        assert screen(text) == [LINE, ""]
    assert os.waitpid(child, 0)[1] == 0
    wait_until_quiet()


def test_spinner_rests_and_ends(stream: NotebookStream) -> None:
    spinner = Spinner(stream, True)  # type: ignore[arg-type]
    end = time.monotonic() + 10
    while "0 s" not in stream.text and time.monotonic() < end:
        time.sleep(0.01)
    assert screen(stream.text) == [LINE, "| 0 s"]
    spinner.rest()
    assert screen(stream.text) == [LINE, ""]
    spinner.end()
    assert screen(stream.text) == [LINE, ""]
    assert not Notice()._compiling


#: A layer's first call and the second; what is said on standard output stands for the program's own.
_LAYER = """
import numpy as np, lstm_numba as ln
rnn, x = ln.RNN(2, 2, seed=0), np.ones((1, 1, 2), np.float32)
for _ in range(2):
    y, _ = rnn(x)
print(y.shape)
"""
_SMALL = """
import logging, sys
from lstm_numba.engines import compile_notice, engine
from lstm_numba.engines.cpu.checksum import checksum_address
engine("cpu")
compile_notice.DELAY = 0.02
logging.basicConfig(level=logging.INFO, stream=sys.stdout, format="%(name)s %(levelname)s %(message)s")
checksum_address()
"""


@terminal
def test_first_call_of_a_layer_in_a_terminal(tmp_path: Path) -> None:
    first = run_in_terminal(_LAYER, NUMBA_CACHE_DIR=str(tmp_path))
    assert (first.status, first.out) == (0, "(1, 1, 2)\n"), first.err
    assert screen(first.err) == [LINE, ""]
    assert re.search(r"\r[|/\\-] [1-9]\d* s", first.err)
    again = run_in_terminal(_LAYER, NUMBA_CACHE_DIR=str(tmp_path))
    assert (again.status, again.out, again.err) == (0, "(1, 1, 2)\n", "")


@terminal
def test_small_function_in_a_terminal_and_not(tmp_path: Path) -> None:
    shown = run_in_terminal(_SMALL, NUMBA_CACHE_DIR=str(tmp_path / "a"))
    assert (screen(shown.err), shown.out) == ([LINE, ""], "")
    off = run_in_terminal(_SMALL, NUMBA_CACHE_DIR=str(tmp_path / "b"), LSTM_NUMBA_PROGRESS="0")
    assert (off.err, off.out) == ("", "")
    done = subprocess.run(
        [sys.executable, "-c", _SMALL],
        env={**os.environ, "NUMBA_CACHE_DIR": str(tmp_path / "c")}, capture_output=True, text=True,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"lstm_numba INFO {LINE.partition(': ')[2]}\n"
