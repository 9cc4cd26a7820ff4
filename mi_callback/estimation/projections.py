r"""Readings of a few numbers made of each side: their information cannot exceed that of the sides themselves.

By the data-processing inequality, and since held-out log density ratios are lower bounds, each of these errs downwards.
They see what neighbours in many dimensions miss:

- *copula*: the log density ratio of a Gaussian in normal scores, between predictions of one side and the side itself,
  along canonical variates. With Gaussian marginals no dependence of the same correlation has less information: a pair
  of correlation r has :math:`-\frac12 \log(1 - r^2)` nats. It reads information of any strength in many dimensions.
- *prediction*: neighbours of a prediction of a single target, one dimension against one.
- *radii*: neighbours of the logarithms of both sides' radii in normal scores, for dependence in the norm alone, such as
  that of heavy tails or of a common scale. Nothing is fitted.

Predictions are by ridge regression, cross-fitted in five folds: no sample is read by a fit that has seen it. Features
are the coordinates themselves; and, with them, their hinges and random ReLU units (Rahimi & Recht 2008), which predict
additive and smooth functions.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mi_callback.estimation.decoders import ridge_folds
from mi_callback.estimation.neighbors import Metric, NeighborTable, balance_rank, default_width
from mi_callback.estimation.parallel import one_blas_thread
from mi_callback.estimation.permutation import Permutations, stream
from mi_callback.estimation.readings import Reading, read_table
from mi_callback.estimation.spaces.linear import Whitening, principal_basis
from mi_callback.estimation.subsampling import error_at_points
from mi_callback.estimation.targets import LabelTarget, ScalarTarget, Target

__all__ = ["project"]

_PURPOSE = 7  # of the stream that cuts the folds
_FOLDS = 5
_FEWEST = 50  # samples: ten a fold
_MOST_SAMPLES = 20_000  # a single dimension reads the same of more; by hand
_MOST_FEATURES, _MOST_TARGETS = 512, 128  # of wider sides the leading principal components, to bound the time
# Hinges alone read .018 nats less of 48 random dependences with a single target, no hinges or units .050; 400 units and
# five knots .001 more, for four times the time (n = 1,000).
_KNOTS, _UNITS = (-1.0, 0.0, 1.0), 150
_MOST_BENT = 128  # coordinates
_MOST_PAIRS = 64
_GUARD = 0.01  # share of independence mixed into the Gaussian, so that no sample costs more than log 100
_PAIR_SIGNIFICANT = 2.0  # standard errors of a correlation, 1 / sqrt(n)
_MOST_CORRELATED = 1 - 1e-9


@one_blas_thread()
def project(
    x: NDArray[np.floating],
    y: NDArray[Any],
    *,
    k: int,
    metric: Metric,
    permutations: Permutations,
    points: NDArray[np.int64] | None = None,
    seed: int,
) -> list[Reading]:
    """Read projections of two sides, with the null of the permutations that other readings have.

    Args:
        x: shape (n, d), normal scores.
        y: shape (n, q), normal scores; or shape (n,), class numbers from 0, each with several members.
        k: number of neighbours.
        metric: "euclidean" or "chebyshev".
        permutations: of all samples; if there are evaluation points, of them among themselves.
        points: shape (Q,), evaluation points; None if all samples are.
        seed: seed of the folds, and of which other samples stand beside the points.

    Returns:
        One reading for each projection that both sides have, at the points.
    """
    n = len(x)
    if points is not None and n > _MOST_SAMPLES:
        beside = np.ones(n, bool)
        beside[points] = False
        others = stream(seed, _PURPOSE, 1).permutation(np.flatnonzero(beside))[: max(_MOST_SAMPLES - len(points), 0)]
        rows = np.sort(np.concatenate([points, others]))
        places = np.flatnonzero(np.isin(rows, points, assume_unique=True))
        permutations = Permutations(len(rows), len(permutations), permutations.seed, places)
        x, y, points = x[rows], y[rows], places
        if y.ndim == 1 and np.bincount(y)[y].min() < 2:
            return []

    def neighbors(name: str, a: NDArray[np.floating], b: NDArray[Any]) -> Reading:
        n = len(a)
        width, rank = default_width(n, k), balance_rank(n, k)
        target: Target = LabelTarget.build(b) if y.ndim == 1 else ScalarTarget.build(b, unit_rank=rank, points=points)
        table = NeighborTable.build(a[:, None].astype(np.float64), width, metric, unit_rank=rank, points=points)
        reading = read_table(table, target, k, permutations)
        return replace(reading, fitted_space=name, stderr=error_at_points(reading.local, n))

    found = []
    if x.shape[1] > 1 or (y.ndim > 1 and y.shape[1] > 1):
        found.append(neighbors("radii", _radius(x), y if y.ndim == 1 else _radius(y)))
    if y.ndim == 1 or len(x) < _FEWEST:
        return found
    features, targets = (_leading(z, most, seed) for z, most in ((x, _MOST_FEATURES), (y, _MOST_TARGETS)))
    single = targets.shape[1] == 1
    pairs = [(features, targets)]
    if features.shape[1] <= _MOST_BENT:
        pairs.append((_bent(features, seed), targets))
    if not single and targets.shape[1] <= _MOST_BENT and features.shape[1] <= _MOST_TARGETS:
        pairs.append((_bent(targets, seed), features))
    for a, b in pairs:
        predicted = _predict(a, b, seed)
        found.append(_copula(predicted, permutations, points))
        if single and predicted.all_varies:
            found.append(neighbors("prediction", predicted.held_out[:, 0], targets[:, 0]))
    return found


def _radius(z: NDArray[np.floating]) -> NDArray[np.float64]:
    """Logarithm of the length of each row, shape (n,); a single column as it is."""
    if z.shape[1] == 1:
        return z[:, 0].astype(np.float64)
    squares = np.einsum("ij,ij->i", z, z, dtype=np.float64)
    return np.asarray(0.5 * np.log(squares + np.finfo(np.float32).tiny))


@dataclass(frozen=True, slots=True, eq=False)
class _Predictions:
    """Cross-fitted linear predictions.

    Attributes:
        targets: shape (n, q), what is predicted.
        held_out: shape (n, q), for each sample by the fit without its fold.
        folds: shape (n,).
        all_varies: whether no fold is predicted by a constant.
    """

    targets: NDArray[np.float64]
    held_out: NDArray[np.float64]
    folds: NDArray[np.intp]
    all_varies: bool


def _predict(features: NDArray[np.float64], targets: NDArray[np.float64], seed: int) -> _Predictions:
    folds = stream(seed, _PURPOSE).permutation(np.arange(len(features)) % _FOLDS)
    held_out = np.empty_like(targets)
    all_varies = True
    for fit in ridge_folds(features, targets, folds):
        own = folds == fit.fold
        held_out[own] = fit.predicted[own]
        all_varies &= not fit.is_constant
    return _Predictions(targets, held_out, folds, all_varies)


def _bent(z: NDArray[np.float64], seed: int) -> NDArray[np.float64]:
    """Coordinates, their hinges, and random ReLU units of the whitened ones, standardised."""
    whitened = Whitening.fit(z.astype(np.float32))(z.astype(np.float32)).astype(np.float64)
    rng = stream(seed, _PURPOSE, 2)
    weights = rng.standard_normal((whitened.shape[1], _UNITS)) / math.sqrt(whitened.shape[1])
    units = np.maximum(whitened @ weights + rng.standard_normal(_UNITS), 0)
    f = np.concatenate([z, *(np.maximum(z - knot, 0) for knot in _KNOTS), units], axis=1)
    f -= f.mean(axis=0)
    spread = f.std(axis=0)
    return np.asarray(f[:, spread > 0] / spread[spread > 0])


def _leading(z: NDArray[np.floating], most: int, seed: int) -> NDArray[np.float64]:
    """The columns, or if there are more the leading principal components."""
    if z.shape[1] > most:
        centred = (z - z.mean(axis=0)).astype(np.float32)
        z = centred @ principal_basis(centred, most, iterations=2, seed=seed)
    return z.astype(np.float64)


def _copula(predicted: _Predictions, permutations: Permutations, points: NDArray[np.int64] | None) -> Reading:
    """Held-out log density ratio of a Gaussian along pairs of predictions and targets.

    Directions and correlations of a fold come from the other folds. Under a permutation the Gaussian stays as it is.
    """
    y, folds = predicted.targets, predicted.folds
    rows = np.arange(len(y)) if points is None else points
    batch = _row_permutations(permutations, rows)
    local, null = np.zeros(len(rows)), np.zeros(len(batch))
    for fold in range(_FOLDS):
        others, own = folds != fold, np.flatnonzero(folds[rows] == fold)
        whiten = Whitening.fit(y[others].astype(np.float32))
        z, g = whiten(y.astype(np.float32)), whiten(predicted.held_out.astype(np.float32))
        u, v, correlations = _canonical(g, z, others)
        if not correlations.size or not len(own):
            continue
        weights = correlations / (1 - correlations**2)
        constant = -0.5 * np.log1p(-(correlations**2)).sum()
        pull = u[rows[own]] * weights
        own_part = constant - 0.5 * (u[rows[own]] ** 2) @ (weights * correlations)
        other_part = -0.5 * (v**2) @ (weights * correlations)
        local[own] = _guarded(own_part + (pull * v[rows[own]]).sum(axis=1) + other_part[rows[own]])
        for number, partners in enumerate(batch):
            paired = partners[own]
            ratio = own_part + np.einsum("ij,ij->i", pull, v[paired]) + other_part[paired]
            null[number] += _guarded(ratio).sum()
    stderr = error_at_points(local, len(y))
    return Reading(local, null / len(rows), 0, stderr=stderr, fitted_space="copula", is_bound=True)


def _guarded(log_ratio: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.logaddexp(log_ratio + math.log1p(-_GUARD), math.log(_GUARD))


def _row_permutations(permutations: Permutations, rows: NDArray[np.integer]) -> NDArray[np.int32]:
    """Shape (P, R): the samples whose targets go with the rows."""
    if not len(permutations):
        return np.empty((0, len(rows)), np.int32)
    return permutations.pairs(rows, rows[:0], 1, 1 + len(permutations))[0]


def _canonical(
    predictions: NDArray[np.float32], targets: NDArray[np.float32], fitted: NDArray[np.bool_]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Pairs of a prediction and a target that correlate above chance, and their correlations.

    Where predictions are E[Y|X] their covariance with whitened targets has the squared canonical correlations for
    eigenvalues.

    Args:
        predictions: shape (n, p), of whitened targets.
        targets: shape (n, p).
        fitted: shape (n,), the samples that directions, moments and correlations are taken from.

    Returns:
        Both variates of all samples, shape (n, r), of zero mean and unit variance on the samples fitted to, and the
        correlations, shape (r,).
    """
    g, z = (side.astype(np.float64) for side in (predictions, targets))
    g -= g[fitted].mean(axis=0)
    z -= z[fitted].mean(axis=0)
    moments = g[fitted].T @ z[fitted]
    strength, axes = np.linalg.eigh(moments + moments.T)
    axes = axes[:, strength > 0][:, ::-1][:, :_MOST_PAIRS]
    u, v = g @ axes, z @ axes
    u_spread, v_spread = u[fitted].std(axis=0), v[fitted].std(axis=0)
    varies = (u_spread > 1e-9) & (v_spread > 1e-9)
    u, v = u[:, varies] / u_spread[varies], v[:, varies] / v_spread[varies]
    correlations = np.minimum((u[fitted] * v[fitted]).mean(axis=0), _MOST_CORRELATED)
    kept = correlations > _PAIR_SIGNIFICANT / math.sqrt(np.count_nonzero(fitted))
    return u[:, kept], v[:, kept], correlations[kept]
