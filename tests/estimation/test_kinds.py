"""Whether values are classes or numbers is decided by type and values, told, and open to being overruled."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

from mi_callback import mutual_information
from mi_callback.estimation import Variable
from mi_callback.estimation.kinds import kind_of
from tests.ground_truth import information_of_rounded

RNG = np.random.default_rng(2024)
N = 1000
Z = RNG.standard_normal(N)
AGES = np.round(40 + 12 * Z).astype(int)
COUNTS = np.minimum(np.abs(20 * Z).astype(int), 39)


@pytest.mark.parametrize(
    ("values", "discrete", "guess"),
    [
        (np.array(["a", "b"])[(Z > 0).astype(int)], True, False),
        (np.array(["a", "b"])[np.column_stack([Z > 0, Z > 1]).astype(int)], True, False),
        (Z > 0, True, False),
        (np.arange(N) % 10, True, False),
        (np.full(N, 7), True, False),
        (np.sign(Z), True, False),
        ((Z > 0).astype(np.float32), True, False),
        (np.eye(4, dtype=np.float32)[np.arange(N) % 4], True, False),
        (np.column_stack([Z > 0, Z > 1]).astype(float), True, False),
        (Z, False, False),
        (np.full(N, 0.5), False, False),
        (np.column_stack([Z > 0, Z]), False, False),
        (AGES, False, False),
        (np.argsort(Z), False, False),
        (COUNTS, False, True),
        (RNG.integers(0, 100, N), False, True),
        (RNG.integers(0, 100, 5_000), True, False),
        (RNG.integers(1, 51, N), True, False),
        (np.arange(50_000) % 1000, True, False),
        (np.r_[-1, np.arange(49_999) % 1000], True, False),
        (1000 * RNG.integers(0, 20, N), False, False),
        (RNG.integers(0, 256, (N, 3)).astype(np.uint8), False, False),
        (RNG.integers(0, 2, (N, 12)), False, False),
        (RNG.integers(0, 2, (N, 3)), True, False),
        (np.arange(6), False, False),
    ],
)
def test_decisions(values, discrete, guess):
    """Evidence: the rule as it is written in ``kind_of``, case by case."""
    kind = Variable(values).kind
    assert (kind.discrete, kind.is_guess) == (discrete, guess), kind
    assert kind_of(np.asarray(values).reshape(len(values), -1), not discrete).discrete is not discrete


@pytest.mark.parametrize("n", [400, 1000])
def test_an_ordered_integer_target_is_not_read_as_classes(n):
    """Evidence: quadrature. As classes the same samples read less than half of it, which is how they once were read."""
    rng = np.random.default_rng(31)
    x = rng.standard_normal((n, 8))
    y = np.floor(12 * (x.mean(axis=1) * 8**0.5 + 0.4 * rng.standard_normal(n))).astype(int) + 140
    truth = information_of_rounded(12, 0.4)
    estimate = mutual_information(x, y, n_permutations=0)
    assert estimate.mi == pytest.approx(truth, abs=0.25)
    assert "y as numbers:" in estimate.reason
    assert "different integers" in estimate.reason
    forced = mutual_information(x, y, n_permutations=0, discrete=True)
    assert forced.mi < truth / 2
    assert forced.reason == "y as classes: as asked for"


@pytest.mark.parametrize("coded", ["float", "minus one and one", "one-hot"])
def test_float_labels_give_what_integer_labels_give(coded):
    """Evidence: an identity; how classes are coded does not matter."""
    rng = np.random.default_rng(33)
    labels = rng.integers(0, 2, 300)
    x = rng.standard_normal((300, 3)) + labels[:, None]
    y = {"float": labels.astype(float), "minus one and one": 2.0 * labels - 1, "one-hot": np.eye(2)[labels]}[coded]
    coded_estimate, estimate = (mutual_information(x, v, n_permutations=3) for v in (y, labels))
    assert coded_estimate.estimator == "ross"
    assert coded_estimate.raw == pytest.approx(estimate.raw, abs=1e-12)


def test_only_a_guess_is_warned_of():
    x = np.random.default_rng(5).standard_normal((N, 2))
    with pytest.warns(UserWarning, match=r"y is taken as numbers.*discrete=True"):
        mutual_information(x, COUNTS, n_permutations=0, space="scores")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for y in (Z, AGES, np.arange(N) % 10, Z > 0):
            mutual_information(x, y, n_permutations=0, space="scores")
        mutual_information(x, COUNTS, discrete=False, n_permutations=0, space="scores")
