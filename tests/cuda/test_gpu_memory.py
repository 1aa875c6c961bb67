"""Views of device memory, and copies of parts."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from cuda_tools import download, normal, upload

from lstm_numba.gpu import memory
from lstm_numba.gpu.memory import columns, fill, span, transposed


def test_span_reaches_from_the_first_to_the_last_number() -> None:
    array = normal((4, 6), np.float32)
    device = upload(array)
    np.testing.assert_array_equal(download(span(device)), array.reshape(-1))
    np.testing.assert_array_equal(download(span(transposed(device))), array.reshape(-1))
    np.testing.assert_array_equal(download(span(device[1:, 2:4])), array.reshape(-1)[8:22])
    assert span(device[:, 2:2]).size == 0


def test_span_is_no_copy() -> None:
    device = upload(np.zeros((3, 4), np.float32))
    fill(span(device[:, 1:3]), 1)
    np.testing.assert_array_equal(download(device).reshape(-1), [0, *[1] * 10, 0])


def test_transposed_is_no_copy() -> None:
    device = upload(np.arange(6.0).reshape(2, 3))
    view = transposed(device)
    assert view.shape == (3, 2)
    fill(device, 4)
    np.testing.assert_array_equal(download(span(view)), [4] * 6)


def test_columns_are_no_copy() -> None:
    matrix = normal((4, 6), np.float32)
    device = upload(matrix)
    part = columns(device, 2, 5)
    assert part.shape == (4, 3)
    np.testing.assert_array_equal(download(span(part)), matrix.reshape(-1)[2:23])
    fill(span(columns(columns(device, 1, 6), 4, 5)), 7)  # the last column, and what lies between its numbers
    np.testing.assert_array_equal(download(device).reshape(-1)[5:], 7)
    np.testing.assert_array_equal(download(device)[0, :5], matrix[0, :5])
    assert columns(device, 3, 3).size == 0


def test_page_locked_memory_is_used_again_when_it_has_been_read(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[np.ndarray] = []

    class Event:
        read = False

        def __init__(self, timing: bool) -> None:
            events.append(self)

        def query(self) -> bool:
            return self.read

        def record(self, stream: Any) -> None:
            self.read = False

    class Target:
        """A device array that reads what it is to hold only when it is told to."""

        def copy_to_device(self, source: np.ndarray, stream: Any) -> None:
            self.source = source

    def pin(size: int, dtype: Any) -> np.ndarray:
        made.append(np.zeros(size, dtype))
        return made[-1]

    events: list[Event] = []
    stream = staticmethod(lambda: "stream")
    names = {"pinned_array": staticmethod(pin), "event": Event, "default_stream": stream}
    monkeypatch.setattr(memory, "cuda", type("cuda", (), names))
    staging, targets = memory._Staging(), [Target() for _ in range(4)]
    values = [np.full((2, 3), n, np.float32) for n in range(4)]
    for target, value in zip(targets[:2], values, strict=False):
        staging.copy(value, target)
    assert len(made) == 2  # the first has not been read yet
    assert [t.source.tolist() for t in targets[:2]] == [v.tolist() for v in values[:2]]
    events[0].read = True
    staging.copy(values[2], targets[2])
    assert len(made) == 2
    assert targets[2].source.tolist() == targets[0].source.tolist() == values[2].tolist()
    assert targets[1].source.tolist() == values[1].tolist()
    staging.copy(values[3], targets[3])  # the one in front has not been read
    assert len(made) == 3
