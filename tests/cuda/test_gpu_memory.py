"""Views of device memory, and copies of parts."""

from __future__ import annotations

import numpy as np
from cuda_tools import download, normal, upload

from lstm_numba.gpu.memory import copy, fill, span, transposed


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


def test_copy_of_a_part() -> None:
    source, target = upload(np.arange(9.0)), upload(np.zeros(7))
    copy(target, source, to=2, at=4, count=3)
    np.testing.assert_array_equal(download(target), [0, 0, 4, 5, 6, 0, 0])
