"""`lstm-numba bench`: timing, implementations on devices that are not here, curves; times are made up."""

from __future__ import annotations

import pytest
from tolerances import assert_close

from lstm_numba import timing
from lstm_numba.benchmarks import cases, correctness, implementations, peers
from lstm_numba.benchmarks.cases import Shape


@pytest.fixture(autouse=True)
def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    """No pauses."""
    monkeypatch.setattr(timing, "PAUSE_SECONDS", 0.0)


class Recorder:
    """An implementation that only records the calls of its methods."""

    def __init__(self, name: str, record: list[str]) -> None:
        self.name, self._record = name, record

    def start(self) -> None:
        self._record.append(self.name)

    def call(self) -> None:
        pass

    def finish(self) -> None:
        pass


def test_implementations_alternate_and_every_repeat_begins_with_start(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    record: list[str] = []
    monkeypatch.setattr(timing, "REPEAT_SECONDS", 1e-6)
    times = timing.measure({name: Recorder(name, record) for name in "abc"}, 4)
    assert "".join(record[3:]) == "abcbcacababc"  # the first three determine the number of calls
    assert all(len(t.seconds) == 4 and min(t.seconds) > 0 for t in times.values())


def test_clock_is_read_after_everything_is_computed(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    waiting = 0  # calls that are not finished

    class Slow(Recorder):
        def call(self) -> None:
            nonlocal waiting
            waiting += 1
            assert waiting <= 8, "finish is not called"

        def finish(self) -> None:
            nonlocal now, waiting
            now += waiting  # a second for each
            waiting = 0

    monkeypatch.setattr(timing, "REPEAT_SECONDS", 5.0)
    monkeypatch.setattr(timing.time, "perf_counter", lambda: now)
    times = timing.measure({"slow": Slow("slow", [])}, 3)
    assert times["slow"] == ([1.0, 1.0, 1.0], 5)


def test_pytorch_on_a_gpu_is_float32_waits_and_does_not_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    """As far as it can be tested without a GPU: the tensors are on the CPU."""
    torch = pytest.importorskip("torch")
    waited: list[None] = []
    monkeypatch.setattr(peers.PyTorchCuda, "device", "cpu")
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: waited.append(None))
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    problem = implementations.Problem("lstm", Shape("", 3, 5, 4, 6), "training", "float64")
    implementation = peers.PyTorchCuda(problem, 1)
    assert not torch.backends.cuda.matmul.allow_tf32
    assert not torch.backends.cudnn.allow_tf32
    implementation.finish()
    assert len(waited) == 1
    found = correctness.compute(implementation, problem)
    expected = correctness.compute(implementations.CpuSerial(problem, 1), problem)
    assert list(found) == list(expected)
    for name, array in expected.items():
        assert_close(found[name], array, "backward", name)
    assert peers.PyTorchCuda.lacks("lstm", "streaming", "float32")
    assert peers.PyTorchCuda.lacks("peephole", "training", "float32")
    assert not peers.PyTorchCuda.lacks("gru", "training", "float64")


def test_every_implementation_has_a_colour() -> None:
    pytest.importorskip("matplotlib")
    from lstm_numba.cli import bench_plots

    assert set(bench_plots._COLOURS) == set(bench_plots._NAMES) == set(cases.IMPLEMENTATIONS)
    assert len(set(bench_plots._COLOURS.values())) == len(cases.IMPLEMENTATIONS)


def test_curves_of_devices_are_drawn_beside() -> None:
    pytest.importorskip("matplotlib")
    from lstm_numba.cli import bench_plots

    machine = {"cpu": "a processor", "vector_unit": "AVX", "cuda": {"device": "a card"}}
    names = ["cpu-parallel", "cuda", "cuda-transfers", "pytorch-cuda"]

    def lines(chosen: list[str]) -> tuple[str, list[str], str]:
        swept = []
        for batch in (1, 2, 4):
            entries = {n: {"median": 1.0, "quartiles": [0.9, 1.1]} for n in chosen}
            shape = Shape("", batch, 2, 3, 4)._asdict()
            row = {"cell": "gru", "task": "training", "dtype": "float32", "threads": 2, "flops": 10**9}
            swept.append({**row, "shape": shape, "contestants": entries})
        (figure,) = bench_plots.draw({"machine": machine, "rows": swept}, "batch").values()
        (axes,) = figure.axes
        return axes.get_yscale(), axes.get_legend_handles_labels()[1], figure.get_suptitle()

    scale, labels, title = lines(names)
    assert (scale, labels) == ("log", [bench_plots._NAMES[name] for name in names])
    assert title.endswith("a card")
    assert lines(names[:1])[0] == "linear"
