"""Views of device memory, and memory to work in."""

from __future__ import annotations

import numpy as np
from cuda_tools import download, normal, upload

from lstm_numba.gpu.memory import copy, fill, scratch, span


def test_span_reaches_from_the_first_to_the_last_number() -> None:
    array = normal((4, 6), np.float32)
    device = upload(array)
    np.testing.assert_array_equal(download(span(device)), array.reshape(-1))
    np.testing.assert_array_equal(download(span(device.T)), array.reshape(-1))
    np.testing.assert_array_equal(download(span(device[1:, 2:4])), array.reshape(-1)[8:22])
    assert span(device[:, 2:2]).size == 0


def test_span_is_no_copy() -> None:
    device = upload(np.zeros((3, 4), np.float32))
    fill(span(device[:, 1:3]), 1)
    np.testing.assert_array_equal(download(device).reshape(-1), [0, *[1] * 10, 0])


def test_scratch_is_kept_for_one_purpose() -> None:
    first = scratch("first", 5, np.float32)
    assert scratch("first", 5, np.float32) is first
    assert scratch("second", 5, np.float32) is not first
    assert scratch("first", 5, np.float64).dtype == np.float64
    assert scratch("first", 6, np.float32).shape == (6,)


def test_copy_of_a_part() -> None:
    source, target = upload(np.arange(9.0)), upload(np.zeros(7))
    copy(target, source, to=2, at=4, count=3)
    np.testing.assert_array_equal(download(target), [0, 0, 4, 5, 6, 0, 0])
