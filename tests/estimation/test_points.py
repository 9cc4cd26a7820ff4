"""Evaluation points: estimates at some samples, with the neighbours, the bias and the meaning of those at all."""

from __future__ import annotations

import numpy as np
import pytest

from mi_callback import mutual_information
from mi_callback.estimation import Estimator, parallel
from mi_callback.estimation.mixture import mixture_information
from mi_callback.estimation.neighbors import NeighborTable
from mi_callback.estimation.permutation import Permutations
from mi_callback.estimation.points import FEWEST, MOST, evaluation_points, points_needed
from mi_callback.estimation.readings import read_table
from mi_callback.estimation.spaces.competition import read_in_best_space
from mi_callback.estimation.targets import LabelTarget, ScalarTarget
from mi_callback.estimation.variable import Variable
from tests import naive


def case(name, n, seed=0):
    rng = np.random.default_rng((17, seed))
    x = rng.standard_normal((n, 4))
    if name == "line":
        return x, x[:, 0] + rng.standard_normal(n)
    if name == "plane":
        return x, x[:, :2] + 0.7 * rng.standard_normal((n, 2))
    if name == "classes":
        return x, (x[:, 0] + 0.5 * rng.standard_normal(n) > 0).astype(int)
    if name == "ties":
        return np.maximum(x[:, :2], 0), np.maximum(x[:, 0] + 0.5 * rng.standard_normal(n), 0)
    if name == "fitted":
        wide = np.concatenate([x, rng.standard_normal((n, 20))], axis=1)
        return wide, np.sin(2 * x[:, 0]) + 0.3 * rng.standard_normal(n)
    assert name == "independent"
    return x, rng.standard_normal(n)


CASES = ("line", "plane", "classes", "ties")


# --- which points -----------------------------------------------------------------------------------------------------


def test_points_are_the_first_of_one_order():
    """Sets of points are nested, ascending, the same at every call, and others for another seed."""
    few, more = evaluation_points(5_000, 100, 3), evaluation_points(5_000, 700, 3)
    assert set(few) < set(more)
    assert (np.diff(more) > 0).all()
    assert np.array_equal(more, evaluation_points(5_000, 700, 3))
    assert not np.array_equal(more, evaluation_points(5_000, 700, 4))
    assert evaluation_points(5_000, 5_000, 3) is None


def test_as_many_points_as_the_spread_asks_for():
    """Evidence: sd / sqrt(Q) is at most .02 nats, within 2,000 to 10,000 points."""
    rng = np.random.default_rng(0)
    for sd in (0.3, 0.8, 1.1, 1.6, 4.0):
        q = points_needed(sd * rng.standard_normal(500))
        assert FEWEST <= q <= MOST
        assert sd / np.sqrt(q) < 0.022 or q == MOST


@pytest.mark.parametrize(
    ("n", "n_points", "used"), [(400, "auto", 400), (400, None, 400), (400, 9_999, 400), (400, 50, 50)]
)
def test_the_result_says_how_many_there_were(n, n_points, used):
    x, y = case("line", n)
    result = mutual_information(x, y, n_points=n_points, n_permutations=2)
    assert (result.n_samples, result.n_points) == (n, used)


def test_up_to_the_limit_nothing_changes():
    """Identity: "auto", None and more points than samples are the same estimate, to the last bit."""
    x, y = case("fitted", 700)
    results = [mutual_information(x, y, n_points=points, n_permutations=5) for points in ("auto", None, 700, 10**6)]
    assert len({(r.raw, r.stderr, r.part_mi, *r.null) for r in results}) == 1


def test_beyond_the_limit_auto_takes_some():
    x, y = case("classes", MOST + 500)
    result = mutual_information(x, y, space="scores", n_permutations=2)
    assert result.n_points == FEWEST
    assert result.n_samples == MOST + 500


@pytest.mark.parametrize(
    ("n_points", "error", "message"),
    [
        (4, ValueError, r"n_points: expected at least k \+ 2 = 5 evaluation points, got 4"),
        (0, ValueError, "n_points"),
        (-3, ValueError, "n_points"),
        ("all", ValueError, "n_points: expected 'auto', a whole number or None, got 'all'"),
        (2.5, TypeError, "n_points: expected a whole number"),
        (True, TypeError, "n_points"),
    ],
)
def test_what_is_no_number_of_points(n_points, error, message):
    x, y = case("line", 100)
    with pytest.raises(error, match=message):
        mutual_information(x, y, n_points=n_points)


# --- what is read at them ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("metric", ["euclidean", "chebyshev"])
@pytest.mark.parametrize("name", CASES)
def test_local_values_are_those_of_all_samples(name, metric):
    """Identity: a point's neighbours are among all samples, so its local value does not know of the other points."""
    x, y = case(name, 300)
    points = evaluation_points(300, 70, 0)

    def sides(points):
        if name == "classes":
            target = LabelTarget.build(y)
        elif y.ndim > 1:
            target = NeighborTable.build(y, 40, metric, points=points)
        else:
            target = ScalarTarget.build(y)
        return NeighborTable.build(x, 40, metric, points=points), target

    whole, part = (read_table(*sides(p), 3).local for p in (None, points))
    np.testing.assert_allclose(part, whole[points], atol=1e-12)


@pytest.mark.parametrize("name", CASES)
def test_the_null_is_the_estimate_on_permuted_targets(name):
    """Evidence: the oracle's local values, at the points alone, on the very permutations; points stay with points."""
    x, y = case(name, 120)
    points = evaluation_points(120, 30, 0)
    permutations = Permutations(120, 4, 5, points)
    if name == "classes":
        target = LabelTarget.build(y)
    else:
        target = ScalarTarget.build(y) if y.ndim == 1 else NeighborTable.build(y, 20, points=points)
    reading = read_table(NeighborTable.build(x, 20, points=points), target, 3, permutations)
    batch = permutations.batch(0, 5)
    assert np.array_equal(np.sort(batch, axis=1), np.tile(np.arange(120), (5, 1)))
    assert np.array_equal(batch[0], np.arange(120))
    assert {tuple(np.sort(p[points])) for p in batch} == {tuple(points)}
    whole = [read_table(NeighborTable.build(x, 119), _all_of(name, y[p]), 3).local[points].mean() for p in batch]
    np.testing.assert_allclose([reading.local.mean(), *reading.null], whole, atol=1e-6)
    expected = naive.mutual_information(x, y[batch[1]], k=3, space="raw", discrete=name == "classes")
    found = read_table(NeighborTable.build(x, 119), _all_of(name, y[batch[1]]), 3).local.mean()
    assert found == pytest.approx(expected, abs=1e-3)


def _all_of(name, y):
    if name == "classes":
        return LabelTarget.build(y)
    return ScalarTarget.build(y) if y.ndim == 1 else NeighborTable.build(y, 119)


def test_pairs_are_those_of_the_permutations():
    """Identity: what goes with a sample, and what goes with a target, by shifting and by looking the permutation up."""
    points = evaluation_points(200, 40, 0)
    permutations = Permutations(200, 9, 1, points)
    samples, targets = np.array([3, 150, 7]), np.arange(199, -1, -1)
    forth, back = permutations.pairs(samples, targets, 2, 8)
    batch = permutations.batch(2, 8)
    assert np.array_equal(forth, batch[:, samples])
    assert np.array_equal(np.take_along_axis(batch, back, axis=1), np.tile(targets, (6, 1)))
    assert np.array_equal(Permutations(200, 3, 1, points).batch(0, 4), permutations.batch(0, 4))


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_points_estimate_the_whole_with_the_error_that_is_said(name):
    """Evidence: 200 draws of points. Their mean is the estimate at all samples, their spread what the error bar says.

    The error bar counts fresh samples too; that part is small beside the points', which are a tenth of all.
    """
    x, y = case(name, 2_000)
    x, y = Variable(x, discrete=False), Variable(y, discrete=name == "classes")
    options = {"space": "scores", "unit": "nats", "n_permutations": 0}
    whole = Estimator(n_points=None, **options).estimate(x, y)
    draws = [Estimator(n_points=200, seed=seed, **options).estimate(x, y) for seed in range(200)]
    _check_draws([d.raw for d in draws], [d.stderr for d in draws], whole.raw)


@pytest.mark.slow
def test_points_estimate_the_whole_in_fitted_spaces():
    """Evidence: as above, with one fit for all draws."""
    x, y = (Variable(side, discrete=False) for side in case("fitted", 1_500))

    def read(points):
        table, target = x.table("scores", "euclidean", 3, points), y.target("scores", "euclidean", 3, points)
        in_scores = read_table(table, target, 3).local
        options = {"k": 3, "metric": "euclidean", "n_permutations": 0, "seed": 0, "always": True}
        return read_in_best_space(x, y, table, target, in_scores, points=points, **options)[0]

    whole = read(None).local.mean()
    draws = [read(evaluation_points(1_500, 150, seed)) for seed in range(100)]
    assert all(draw.fitted_space for draw in draws)
    _check_draws([draw.local.mean() for draw in draws], [draw.stderr for draw in draws], whole)


def _check_draws(values, said, whole):
    values = np.array(values)
    error = values.std(ddof=1) / np.sqrt(len(values))
    assert abs(values.mean() - whole) < 4 * error + 0.002  # the balanced scale is told from the points alone
    assert 0.8 < np.sqrt(np.mean(np.square(said))) / values.std(ddof=1) < 1.25


def test_mixture_at_points_is_the_mixture_of_all():
    """Evidence: the estimate at all samples, within the sampling error of 4,000 draws; the bounds likewise."""
    s = np.random.default_rng(0).standard_normal((3_000, 3))
    points = evaluation_points(3_000, 600, 0)
    whole, part = mixture_information(s, 0.5), mixture_information(s, 0.5, points=points)
    assert part.local.shape == (600,)
    error = part.local.std() / np.sqrt(600)
    assert abs(part.local.mean() - whole.local.mean()) < 4 * error
    assert abs(part.half - whole.half) < 4 * error
    assert part.lower == pytest.approx(whole.lower, rel=0.05)
    assert part.upper == pytest.approx(whole.upper, rel=0.05)


@pytest.mark.slow
def test_p_values_are_uniform_under_independence():
    """Evidence: 2,000 independent samples; rejection at .05 is .05 up to its standard error of .005."""
    p = np.array(
        [
            mutual_information(
                *case("independent", 150, seed), space="scores", n_points=40, n_permutations=19, seed=seed
            ).p_value
            for seed in range(2_000)
        ]
    )
    assert 0.04 < np.mean(p <= 0.05) < 0.06
    assert 0.46 < np.mean(p <= 0.5) < 0.54


@pytest.mark.parametrize("name", ["plane", "classes", "fitted"])
def test_same_numbers_whatever_the_threads(name, monkeypatch):
    """Identity: chunks depend on the samples alone."""
    x, y = case(name, 900)

    def run():
        result = mutual_information(x, y, n_points=300, n_permutations=9)
        return (result.raw, result.stderr, *result.null)

    usual = run()
    for workers in (1, 5):
        monkeypatch.setattr(parallel, "n_workers", lambda workers=workers: workers)
        assert run() == usual


@pytest.mark.slow
def test_with_plenty_beside_the_points_fits_are_made_outside_them():
    """Evidence: a sine of one axis among 12, .85 nats; normal scores alone read less than half."""
    rng = np.random.default_rng(2)
    x = rng.standard_normal((14_000, 12))
    y = np.sin(2 * x[:, 0]) + 0.3 * rng.standard_normal(14_000)
    result = mutual_information(x, y, unit="nats", n_permutations=10)
    assert result.n_points < 14_000
    assert "supervised" in result.space
    assert result.mi == pytest.approx(0.861, abs=4 * result.stderr)
    assert abs(result.null_mean) < 0.03
