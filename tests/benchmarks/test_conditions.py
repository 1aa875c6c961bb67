"""`lstm-numba bench` with pauses, beside other processes, and with another instruction set."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest
from cli_tools import PROGRAM, invoke

from lstm_numba import timing
from lstm_numba.benchmarks import conditions, gemm_peak

TINY = "--cell rnn --shape 2x3x4x5 --task inference --implementation cpu-serial --implementation cpu-parallel"


@pytest.fixture(autouse=True)
def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timing, "REPEAT_SECONDS", 1e-4)
    monkeypatch.setattr(timing, "PAUSE_SECONDS", 0.0)
    monkeypatch.setattr(gemm_peak, "SIZE", 48)
    monkeypatch.setattr(conditions, "_SETTLED", 0.05)


def test_others_compute_in_the_context_only(monkeypatch: pytest.MonkeyPatch) -> None:
    started = []
    popen = subprocess.Popen

    def start(*args: object, **options: object) -> object:
        started.append(popen(*args, **options))  # type: ignore[call-overload]
        return started[-1]

    monkeypatch.setattr(conditions.subprocess, "Popen", start)

    def interrupted() -> None:
        with conditions.busy(2):
            assert [process.poll() for process in started] == [None, None]
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert all(process.poll() is not None for process in started)


@pytest.mark.skipif(sys.platform == "win32", reason="a process there keeps its parent's number")
def test_others_end_with_whoever_started_them() -> None:
    """Even if it was killed."""
    program = "import os; from lstm_numba.benchmarks import conditions as c\n"
    program += "with c.busy(1): os.kill(os.getpid(), 9)"
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE) as process:
        # The child has the other end too: it is closed when both are gone.
        assert process.stdout is not None
        began = time.monotonic()
        process.stdout.read()
        assert time.monotonic() - began < 60


def test_pause_and_busy(tmp_path: Path) -> None:
    path = tmp_path / "out.json"
    answer = invoke(f"bench {TINY} --repeats 2 --pause 2 --busy 1 --json", path)
    assert answer.status == 0, answer.err
    document = json.loads(path.read_text())
    assert document["protocol"]["call_pause_seconds"] == 0.002
    assert document["protocol"]["busy"] == 1
    for entry in document["rows"][0]["contestants"].values():
        assert entry["calls"] == timing.PAUSED_CALLS
        assert 0 < entry["quiet_median"] < 0.002  # the pause does not count
    assert "beside 1 process that computes without end" in answer.out
    assert "after a pause of 2 ms" in answer.out
    assert "busy: time of cpu-parallel / cpu-serial" in answer.out


def test_without_them_nothing_is_said(tmp_path: Path) -> None:
    path = tmp_path / "out.json"
    answer = invoke(f"bench {TINY} --repeats 1 --json", path)
    assert "quiet_median" not in path.read_text()
    assert "busy" not in answer.out
    assert "pause" not in answer.out


@pytest.mark.parametrize("words", ["--busy -1", "--busy x", "--pause -3", "--pause nan", "--isa mmx"])
def test_bad_values_are_refused(words: str) -> None:
    answer = invoke(f"bench {TINY} {words}")
    assert answer.status == 2
    assert words.split()[0] in answer.err


@pytest.mark.skipif(not conditions.offers("avx2"), reason="this processor has no AVX2")
def test_isa(tmp_path: Path) -> None:
    path = tmp_path / "out.json"
    words = f"bench {TINY} --implementation onnxruntime --repeats 1 --isa avx2 --json".split()
    done = subprocess.run([*PROGRAM, *words, str(path)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    document = json.loads(path.read_text())
    assert document["machine"]["vector_unit"] == "AVX2"
    assert document["machine"]["isa"] == "avx2"
    assert "--isa avx2" in document["command"]
    assert document["unavailable"]["onnxruntime"] == "it has no switch for the instruction set"
    assert set(document["rows"][0]["contestants"]) == {"cpu-serial", "cpu-parallel"}
    assert "AVX2 (all libraries were told to use no more)" in done.stdout


def test_an_instruction_set_that_there_is_not_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conditions, "offers", lambda isa: False)
    answer = invoke(f"bench {TINY} --isa avx2")
    assert answer.status == 1
    assert "--isa avx2: this processor does not have it" in answer.err
