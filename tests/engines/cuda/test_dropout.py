"""Dropout masks drawn on the device."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from cuda_tools import DTYPES, cases, download, upload

from lstm_numba.engines.cuda import dropout as module
from lstm_numba.engines.cuda.dropout import Draws, dropout
from lstm_numba.engines.cuda.launch import launch_over
from lstm_numba.engines.dropout_masks import draw_mask as draw_mask_of_cpu

SHAPES = cases([(1,), (3, 5), (8,), (0,), (2, 3, 7), (16,)], [(1000, 651)])


def generator(seed: int = 1) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(seed))


def draw_mask(
    rng: np.random.Generator, shape: tuple[int, ...], p: float, dtype: Any = np.float32, out: Any = None
) -> Any:
    """The mask of an array of that shape, which it is multiplied with."""
    x = np.arange(1, 1 + np.prod(shape)).reshape(shape).astype(dtype)
    product, mask = dropout(rng, upload(x), p, mask=out)
    np.testing.assert_array_equal(download(product), x * download(mask))
    return mask


def same_state(a: np.random.Generator, b: np.random.Generator) -> bool:
    return str(a.bit_generator.state) == str(b.bit_generator.state)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("p", [0.0, 0.1, 0.5, 0.999])
def test_bits_and_state_of_numpy(p: float, dtype: Any) -> None:
    ours, cpu = generator(), generator()
    for shape in SHAPES:
        expected = draw_mask_of_cpu(cpu, shape, p, dtype)
        actual = download(draw_mask(ours, shape, p, dtype))
        assert actual.dtype == dtype
        np.testing.assert_array_equal(actual, expected)
        assert same_state(ours, cpu)
    assert ours.random() == cpu.random()


def test_numbers_are_those_of_numpy() -> None:
    numbers = generator().random(29, dtype=np.float32)
    mask = download(draw_mask(generator(), (29,), 0.4))
    np.testing.assert_array_equal(mask, (numbers >= np.float32(0.4)) * np.float32(1 / (1 - 0.4)))


def test_a_probability_that_is_drawn() -> None:
    number = float(generator().random(5, dtype=np.float32)[3])
    for p in (number, np.nextafter(np.float32(number), np.float32(1))):
        expected = draw_mask_of_cpu(generator(), (5,), float(p))
        np.testing.assert_array_equal(download(draw_mask(generator(), (5,), float(p))), expected)


def test_numbers_drawn_ahead_are_forgotten() -> None:
    ours, cpu = generator(), generator()
    for rng in (ours, cpu):
        rng.random(3, dtype=np.float32)
    expected = draw_mask_of_cpu(cpu, (9,), 0.5)
    np.testing.assert_array_equal(download(draw_mask(ours, (9,), 0.5)), expected)
    assert same_state(ours, cpu)


@pytest.mark.parametrize("words", [1, 2, 3, 4])
def test_the_counter_carries(words: int) -> None:
    start = 2 ** (64 * words) - 2
    rngs = [np.random.Generator(np.random.Philox(key=5, counter=start)) for _ in range(2)]
    expected = draw_mask_of_cpu(rngs[0], (40,), 0.5)
    np.testing.assert_array_equal(download(draw_mask(rngs[1], (40,), 0.5)), expected)
    assert same_state(*rngs)


def test_given_array() -> None:
    out = upload(np.full((3, 3), np.nan, np.float32))
    assert draw_mask(generator(), (3, 3), 0.5, out=out) is out
    np.testing.assert_array_equal(download(out), draw_mask_of_cpu(generator(), (3, 3), 0.5))


def test_bad_arguments() -> None:
    with pytest.raises(TypeError, match="Philox"):
        draw_mask(np.random.default_rng(0), (3,), 0.5)
    with pytest.raises(ValueError, match="probability"):
        draw_mask(generator(), (3,), 1.0)


def test_draws_that_are_repeated() -> None:
    """A recorded launch draws what the generator would draw at its repetition."""
    ours, cpu = generator(), generator()
    draws = Draws(ours)
    with draws.recorded():
        x, launched = upload(np.ones(20)), dropout_launch(ours)
    draw_mask_of_cpu(cpu, (20,), 0.5)
    for _ in range(2):
        draws.repeat()
        np.testing.assert_array_equal(download(launched(x)), draw_mask_of_cpu(cpu, (20,), 0.5))
        assert same_state(ours, cpu)


def dropout_launch(rng: np.random.Generator) -> Any:
    """What repeats the launch of a mask of 20 numbers."""
    recorded: list[Any] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "launch_over", lambda *args: recorded.append(args))
        dropout(rng, upload(np.ones(20)), 0.5)
    kernel, size, *args, _, mask, out = recorded[0]

    def repeat(x: Any) -> Any:
        launch_over(kernel, size, *args, x, mask, out)
        return mask

    return repeat


def test_in_place() -> None:
    x = upload(np.arange(20.0))
    out, mask = dropout(generator(), x, 0.5, out=x)
    assert out is x
    np.testing.assert_array_equal(download(x), np.arange(20.0) * download(mask))
