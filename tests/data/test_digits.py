"""Drawn digits: the same for ever, each addressed by its number, and readable."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
import pytest

from lstm_numba.data import _random, digits
from lstm_numba.data._glyphs import glyphs
from lstm_numba.data.images import NORMALISATION


@pytest.fixture(scope="module")
def train() -> Any:
    return digits.load("train", count=3000)


def test_the_same_for_ever(train: Any) -> None:
    """Results that a README or a paper reports rest on these very pixels, on every machine."""
    digest = hashlib.sha256(train.images[:500].tobytes() + train.labels[:500].tobytes()).hexdigest()
    assert digest == "af9c320bad9ead064aad7eb1098d5f0ffd5f886b7cb63ea164933d484157e898"


def test_an_image_depends_on_its_number_alone(train: Any) -> None:
    numbers = np.array([2999, 0, 17, 255, 256, 17])
    pixels, labels = digits.draw("train", numbers)
    np.testing.assert_array_equal(pixels, train.images[numbers])
    np.testing.assert_array_equal(labels, train.labels[numbers])
    few = digits.load("train", count=7)
    np.testing.assert_array_equal(few.images, train.images[:7])


def test_splits_and_seeds_share_nothing(train: Any) -> None:
    sets = [train.images[:600]]
    sets += [digits.load("test", count=600).images, digits.load("train", seed=1, count=600).images]
    everything = np.concatenate(sets).reshape(1800, -1)
    assert len(np.unique(everything, axis=0)) == 1800


def test_classes_are_even(train: Any) -> None:
    counts = np.bincount(train.labels, minlength=10)
    assert counts.sum() == 3000
    assert ((counts - 300.0) ** 2 / 300.0).sum() < 9 + 4 * np.sqrt(18)


def test_form_of_mnist(train: Any) -> None:
    """Light ink on black, centred, nothing cut off at the border."""
    assert train.images.dtype == np.uint8
    assert train.labels.dtype == np.uint8
    ink = train.images.astype(np.float64)
    ink[ink < 100] = 0
    places = np.arange(28)
    for axis in (1, 2):
        profile = ink.sum(axis=axis)
        middle = profile @ places / profile.sum(axis=1)
        assert abs(middle.mean() - 13.5) < 0.2
        assert np.abs(middle - 13.5).max() < 5
    border = np.concatenate([ink[:, 0], ink[:, -1], ink[:, :, 0], ink[:, :, -1]], axis=1)
    assert (border > 0).mean() < 0.003
    assert (border > 0).sum(axis=1).max() <= 14
    assert np.all(ink.max(axis=(1, 2)) >= 150)


def test_normalisation_is_that_of_the_training_images() -> None:
    images = digits.load("train").images
    assert len(images) == 20_000
    mean, deviation = NORMALISATION["digits"]
    assert abs(images.mean() / 255 - mean) < 1e-5
    assert abs(images.std() / 255 - deviation) < 1e-5
    assert len(digits.load("test")) == 2000


def test_digits_can_be_told_apart_but_not_by_their_means(train: Any) -> None:
    """A nearest neighbour reads most of them, so labels fit the pictures; class means do not suffice."""
    test = digits.load("test", count=300)
    a = train.images.reshape(len(train), -1).astype(np.float32) / 255
    b = test.images.reshape(300, -1).astype(np.float32) / 255
    distance = (a * a).sum(axis=1) - 2 * (b @ a.T)
    nearest = (train.labels[distance.argmin(axis=1)] == test.labels).mean()
    means = np.stack([a[train.labels == digit].mean(axis=0) for digit in range(10)])
    by_mean = (((means * means).sum(axis=1) - 2 * (b @ means.T)).argmin(axis=1) == test.labels).mean()
    assert 0.85 < nearest < 0.995
    assert 0.4 < by_mean < 0.9


def test_every_way_of_writing_appears(train: Any) -> None:
    assert {glyph.digit for glyph in glyphs()} == set(range(10))
    choice = digits.CounterStream("digits", 0, "train").uniform(np.arange(3000), 0, 2)
    which = digits._choose_glyphs(train.labels, choice[:, 1])
    counts = np.bincount(which, minlength=len(glyphs()))
    for number, glyph in enumerate(glyphs()):
        weight = sum(other.weight for other in glyphs() if other.digit == glyph.digit)
        expected = 300 * glyph.weight / weight
        assert abs(counts[number] - expected) < 5 * np.sqrt(expected)


@pytest.mark.parametrize("number", [0, 9, 23, len(glyphs()) - 1])
@pytest.mark.smoke
def test_ink_against_plain_loops(number: int) -> None:
    """Every pixel is as dark as the disc that covers it most says: all pixels against all points."""
    items = np.array([4, 123456])
    stream = digits.CounterStream("digits", 0, "train")
    pen = digits._write(glyphs()[number], stream, items)
    got = digits._ink(pen, stream, items)
    words = stream.bits(items, digits._LANE_NOISE, 98)
    for n in range(2):
        for row in range(28):
            for column in range(28):
                distance = np.sqrt((pen.x[:, n] - column) ** 2 + (pen.y[:, n] - row) ** 2)
                cover = np.clip(0.5 + (pen.radius[:, n] - distance).max() / pen.softness[n], 0, 1)
                place = row * 28 + column
                byte = int(words[n, place // 8]) >> (8 * (place % 8)) & 255
                grey = cover * pen.ink[n] + (byte - 127.5) * 12.0 / 73.9
                assert abs(np.clip(grey, 0, 255) - got[n, row, column]) < 0.51


def test_strokes_pass_through_their_control_points() -> None:
    """Each glyph's sample points meet every control point, stay near the box, and are closely spaced."""
    for glyph in glyphs():
        for controls in glyph.controls:
            points = glyph.weights @ controls
            distances = np.sqrt(((points[:, None] - controls) ** 2).sum(axis=2))
            assert distances.min(axis=0).max() < 1e-12
            assert points.min() > -0.1
            assert points[:, 0].max() < 0.8
            assert points[:, 1].max() < 1.1
            steps = np.sqrt((np.diff(points, axis=0) ** 2).sum(axis=1))
            drawn = np.diff(glyph.along) > 0
            assert steps[drawn].max() < 0.07
        np.testing.assert_allclose(glyph.weights.sum(axis=1), 1.0, atol=1e-12)


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        (("valid",), ValueError, "split: expected 'train' or 'test', got 'valid'"),
        (("train", -1), ValueError, "seed: expected an integer >= 0, got -1"),
        (("train", 0.5), TypeError, "seed: expected an integer, got float"),
        (("train", 0, 0), ValueError, "count: expected an integer >= 1, got 0"),
        (("train", 0, True), TypeError, "count: expected an integer, got bool"),
    ],
)
def test_bad_arguments(arguments: tuple[Any, ...], error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        digits.load(*arguments)


# The random numbers underneath


def test_mixing_is_splitmix64() -> None:
    """The published first numbers of SplitMix64 from the seed 1234567."""
    state = np.array([1234567], np.uint64) + np.arange(1, 6, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    assert _random._mix(state).tolist() == [
        6457827717110365317,
        3203168211198807973,
        9817491932198370423,
        4593380528125082431,
        16408922859458223821,
    ]


def test_streams_are_uniform_and_independent() -> None:
    stream = _random.CounterStream("test", 1)
    numbers = stream.uniform(np.arange(4000), 0, 8)
    assert numbers.min() >= 0.0
    assert numbers.max() < 1.0
    assert np.abs(numbers.mean(axis=0) - 0.5).max() < 5 / np.sqrt(12 * 4000)
    shifted = numbers - 0.5
    correlation = 12 * shifted.T @ shifted / 4000
    assert np.abs(correlation - np.eye(8)).max() < 5 / np.sqrt(4000)
    assert abs(12 * (shifted[1:] * shifted[:-1]).mean()) < 5 / np.sqrt(32_000)
    counts = np.histogram(numbers, 50, (0, 1))[0]
    assert ((counts - 640.0) ** 2 / 640.0).sum() < 49 + 4 * np.sqrt(98)
    bell = stream.bell(np.arange(4000), 8, 8)
    assert abs(bell.mean()) < 5 / np.sqrt(32_000)
    assert abs(bell.var() - 1) < 0.05
    # Irwin-Hall of four: kurtosis 3 - 6 / (5 * 4).
    assert abs((bell**4).mean() - 2.7) < 0.1


def test_streams_are_addressed_not_drawn() -> None:
    stream = _random.CounterStream("test", 1)
    everything = stream.bits(np.arange(10), 0, 20)
    np.testing.assert_array_equal(stream.bits(np.array([7, 3]), 5, 4), everything[[7, 3], 5:9])
    other = _random.CounterStream("test", 2).bits(np.arange(10), 0, 20)
    assert not np.isin(other, everything).any()
    with pytest.raises(ValueError, match="beyond the 4096 lanes"):
        stream.bits(np.arange(2), 4090, 7)


@pytest.mark.smoke
def test_uniforms_and_permutations_come_from_raw_bits() -> None:
    """By hand from NumPy's bit generator, whose bits never change."""
    bits = np.random.PCG64(np.random.SeedSequence([5, int.from_bytes(b"x", "little")])).random_raw(20_000)
    source = _random.uniforms(5, "x")
    assert [next(source) for _ in range(20_000)] == [int(b) // 2048 / 2**53 for b in bits]
    order = _random.permutation(100, 5, "x")
    assert order.tolist() == sorted(range(100), key=lambda i: int(bits[i]))
