"""Views of device memory, and copies of parts."""

from __future__ import annotations

import ctypes

import numpy as np
import pytest
from cuda_tools import download, normal, upload

from lstm_numba.engines.cuda import page_locked
from lstm_numba.engines.cuda.device_array import columns, span, transposed
from lstm_numba.engines.cuda.memory import fill


def test_span_reaches_from_the_first_to_the_last_element() -> None:
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
    fill(span(columns(columns(device, 1, 6), 4, 5)), 7)  # the last column, and what is between its elements
    np.testing.assert_array_equal(download(device).reshape(-1)[5:], 7)
    np.testing.assert_array_equal(download(device)[0, :5], matrix[0, :5])
    assert columns(device, 3, 3).size == 0


def test_page_locked_memory_is_used_again_when_it_has_been_read(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[PageLocked] = []
    events: list[Event] = []
    copies: list[tuple[int, bytes]] = []

    class PageLocked:
        def __init__(self, size: int) -> None:
            self.bytes = np.zeros(size, np.uint8)
            self.address = self.bytes.ctypes.data
            made.append(self)

    class Event:
        read = False

        def __init__(self) -> None:
            events.append(self)

        def passed(self) -> bool:
            return self.read

        def record(self, stream: int) -> None:
            self.read = False

    class Driver:
        @staticmethod
        def cuMemcpyHtoDAsync(target: int, source: int, size: int, stream: int) -> None:
            copies.append((source, ctypes.string_at(source, size)))

    for name, stand_in in (("PageLocked", PageLocked), ("Event", Event), ("driver", Driver)):
        monkeypatch.setattr(page_locked, name, stand_in)
    staging = page_locked.Staging()
    values = [np.full((2, 3), n, np.float32) for n in range(4)]
    for value in values[:2]:
        staging.copy(value, 0)
    assert len(made) == 2  # the first has not been read yet
    events[0].read = True
    staging.copy(values[2], 0)
    assert len(made) == 2
    assert copies[2][0] == copies[0][0] != copies[1][0]
    staging.copy(values[3], 0)  # the one in front has not been read
    assert len(made) == 3
    assert [content for _, content in copies] == [value.tobytes() for value in values]
