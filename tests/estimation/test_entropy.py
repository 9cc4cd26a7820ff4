"""Counting equal rows."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from mi_callback.estimation.entropy import binned, entropy, group_rows, is_enumerable, plugin_information

CUBE = np.array(list(itertools.product([0.0, 1.0], repeat=12)))


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int64, np.bool_, "U3"])
@pytest.mark.parametrize("width", [1, 3, 40])
def test_groups_equal_those_of_sorting(dtype, width):
    rows = np.random.default_rng(0).integers(0, 3 if width < 4 else 2, (700, width)).astype(dtype)
    rows[350:] = rows[:350]
    groups = group_rows(rows)
    _, inverse, counts = np.unique(rows, axis=0, return_inverse=True, return_counts=True)
    inverse = inverse.reshape(-1)
    assert len(groups.first) == len(counts)
    assert groups.counts.sum() == 700
    np.testing.assert_array_equal(rows[groups.first][groups.inverse], rows)
    np.testing.assert_array_equal(groups.counts[groups.inverse], counts[inverse])


def test_both_zeros_are_one_value():
    assert len(group_rows(np.array([0.0, -0.0])).first) == 1


def test_values_that_differ_in_the_last_bit_are_different():
    x = np.full(5, 0.1)
    x[3] = np.nextafter(0.1, 1)
    assert len(group_rows(x).first) == 2


def test_entropy_of_known_distributions():
    assert entropy(CUBE).mean() / math.log(2) == pytest.approx(12)
    assert entropy(np.repeat([0, 1, 1, 1], 25)).mean() == pytest.approx(-0.25 * math.log(0.25) - 0.75 * math.log(0.75))
    assert entropy(np.zeros(9)).mean() == 0


def test_plugin_information():
    parity = CUBE.sum(axis=1) % 2
    assert plugin_information(CUBE, parity).mean() == pytest.approx(math.log(2))
    assert plugin_information(CUBE[:, :6], CUBE[:, 6:]).mean() == pytest.approx(0, abs=1e-12)
    assert plugin_information(CUBE[:, :3], CUBE[:, 1:4]).mean() == pytest.approx(2 * math.log(2))


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (CUBE, True),
        (CUBE[::3], True),
        (np.random.default_rng(0).choice([-3.0, -1.0, 1.0, 3.0], 500), True),
        (np.repeat(np.random.default_rng(0).standard_normal((50, 9)), 20, axis=0), True),
        (np.random.default_rng(0).standard_normal(500), False),
        (np.random.default_rng(0).integers(0, 17, (1797, 64)), False),
        (np.random.default_rng(0).integers(0, 2, (500, 30)), False),
    ],
)
def test_is_enumerable(values, expected):
    assert is_enumerable(values) is expected


def test_binning_makes_information_vanish_that_is_there():
    x = np.linspace(-3, 3, 1000)[:, None]
    assert entropy(np.tanh(x)).mean() == pytest.approx(math.log(1000))
    assert entropy(binned(np.tanh(20 * x))).mean() < entropy(binned(np.tanh(x))).mean() - 1
