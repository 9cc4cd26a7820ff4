"""Error bars against the scatter of estimates over fresh samples."""

from __future__ import annotations

import math

import numpy as np
import pytest

from mi_callback import mutual_information
from mi_callback.estimation.neighbors import NeighborTable
from mi_callback.estimation.subsampling import subsample
from mi_callback.estimation.targets import LabelTarget


def draw(kind, n, rng):
    x = rng.standard_normal((n, 2))
    y = x[:, 0] + rng.standard_normal(n)
    return (x, y > 0) if kind == "labels" else (x, y)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["continuous", "labels"])
@pytest.mark.parametrize("space", ["raw", "scores"])
def test_standard_error_is_the_scatter_over_fresh_samples(kind, space):
    """Evidence: 60 data sets. Their scatter is known to a tenth, the mean error bar to a thirtieth or so."""
    rng = np.random.default_rng(0)
    results = [mutual_information(*draw(kind, 400, rng), space=space, unit="nats", n_permutations=0) for _ in range(60)]
    scatter = np.std([r.raw for r in results], ddof=1)
    assert np.mean([r.stderr for r in results]) == pytest.approx(scatter, rel=0.3)


def test_too_few_samples_have_no_error_bar():
    result = mutual_information(*draw("continuous", 16, np.random.default_rng(0)), n_permutations=0)
    assert math.isnan(result.stderr)
    assert math.isnan(result.half)


def test_a_part_that_cannot_be_read_does_not_enter_the_error_bar():
    """Evidence: 40 pairs far apart, a class each. Whatever part can be read has positive information, so 0 is invented.

    A fifth of the samples has a pair or two in it, and sometimes none.
    """
    labels = np.repeat(np.arange(40), 2)
    x = 10.0 * labels[:, None] + np.tile([0.0, 0.1], 40)[:, None]
    parts = subsample(NeighborTable.build(x, 60), LabelTarget.build(labels), 1, 0, local=np.empty(80), balanced=False)
    known = [v[np.isfinite(v)] for v in parts.values]
    assert sum(map(len, known)) < sum(map(len, parts.values)), "some part has no pair"
    assert min(v.min() for v in known if len(v)) > 0
    read = [(len(whole), v) for whole, v in zip(parts.values, known, strict=True) if len(v) > 1]
    freedom = sum(len(v) - 1 for _, v in read)
    b = sum(((v - v.mean()) ** 2).sum() * 80 / number for number, v in read)
    assert parts.stderr == pytest.approx(math.sqrt(b / freedom / 80))


def test_half_of_the_samples_read_less_where_the_estimate_is_biased():
    rng = np.random.default_rng(0)
    x = rng.standard_normal((2000, 3))
    y = x + 0.05 * rng.standard_normal((2000, 3))
    result = mutual_information(x, y, space="scores", n_permutations=0)
    assert result.half < result.raw - result.stderr
