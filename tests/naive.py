"""The slow, readable estimator that the fast one is compared with: full n x n distances in float64.

It imports nothing of the package, follows the papers line by line and does one thing a line. Conventions:

- *Continuous target*: Kraskov, Stoegbauer & Grassberger (2004, doi:10.1103/PhysRevE.69.066138), first algorithm. The
  radius eps of a sample is its k-th smallest max(d_x, d_y); neighbours strictly inside it are counted.
- *Radius zero* (the sample and its k nearest are copies): Gao, Kannan, Oh & Viswanath (2017, arXiv:1709.06212).
  k~ and both counts are of points at distance exactly zero, the sample included.
- *Discrete target*: Ross (2014, doi:10.1371/journal.pone.0087357). eps reaches to the k-th neighbour of the same class
  (the last one there is, in smaller classes), and its position among all samples is one more than the number strictly
  inside. Classes of one member are left out from the start.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import digamma, ndtri
from scipy.stats import rankdata

__all__ = ["bounds", "mutual_information"]

Array = NDArray[np.float64]


def mutual_information(
    x: ArrayLike, y: ArrayLike, *, k: int = 3, metric: str = "euclidean", space: str = "scores", discrete: bool = False
) -> float:
    """I(x;y) in nats, x of shape (n,) or (n, d), y of shape (n,) or (n, q), or labels (n,) with discrete=True."""
    return bounds(x, y, k=k, metric=metric, space=space, discrete=discrete, slack=0.0)[0]


def bounds(
    x: ArrayLike,
    y: ArrayLike,
    *,
    k: int = 3,
    metric: str = "euclidean",
    space: str = "scores",
    discrete: bool = False,
    slack: float = 1e-6,
) -> tuple[float, float]:
    """Lowest and highest I(x;y) in nats if distances that agree to a relative slack may count as less or not.

    Ranks make distances that are equal on paper and differ in the last bit: the scores of x and of y are the same
    numbers, so that a distance of one side often equals one of the other. On continuous numbers both ends agree.
    """
    x, y = np.asarray(x), np.asarray(y)
    if discrete:
        labels, counts = np.unique(y.reshape(-1), return_counts=True)
        kept = ~np.isin(y.reshape(-1), labels[counts == 1])
        y = y.reshape(-1)[kept]
        dx = side(x[kept], k, metric, space)
        rows = [_ross_row(dx, y, k, i, slack) for i in range(len(y))]
    else:
        dx, dy = side(x, k, metric, space), side(y, k, metric, space)
        rows = [_ksg_row(dx, dy, k, i, slack) for i in range(len(dx))]
    low, high = np.mean(rows, axis=0) if rows else (0.0, 0.0)
    return float(low), float(high)


def side(values: Array, k: int, metric: str, space: str) -> Array:
    """Distances (n, n) of one side, in the space and on the balanced scale; infinite on the diagonal."""
    columns = np.asarray(values, np.float64).reshape(len(values), -1)
    n = len(columns)
    if space == "standard":
        deviation = columns.std(axis=0)
        columns = (columns - columns.mean(axis=0)) / np.where(deviation > 0, deviation, 1.0)
    elif space == "scores":
        columns = ndtri((rankdata(columns, axis=0) - 0.5) / n)
    distances = pairwise_distances(columns, metric)
    if space == "raw":
        return distances
    return distances / balanced_scale(distances, k)


def pairwise_distances(columns: Array, metric: str) -> Array:
    """Distances (n, n) by differences, so that nothing cancels; infinite on the diagonal."""
    distances = np.zeros((len(columns), len(columns)))
    for column in columns.T:
        apart = np.abs(column[:, None] - column[None, :])
        distances = np.maximum(distances, apart) if metric == "chebyshev" else distances + apart**2
    if metric == "euclidean":
        distances = np.sqrt(distances)
    np.fill_diagonal(distances, np.inf)
    return distances


def balanced_scale(distances: Array, k: int) -> float:
    """Median distance to the ceil(sqrt(k n))-th neighbour; where it is zero the mean of those above zero, or 1."""
    n = len(distances)
    m0 = min(n - 1, int(np.ceil(np.sqrt(k * n))))
    reach = np.sort(distances, axis=1)[:, m0 - 1]
    if np.median(reach) > 0:
        return float(np.median(reach))
    positive = reach[reach > 0]
    return float(positive.mean()) if len(positive) else 1.0


def _ksg_row(dx: Array, dy: Array, k: int, i: int, slack: float) -> tuple[float, float]:
    """KSG 1 at sample i, or Gao et al. where the radius is zero: lowest and highest value over near ties."""
    n = len(dx)
    others = np.arange(n) != i
    row_x, row_y = dx[i][others], dy[i][others]
    joint = np.maximum(row_x, row_y)
    kth = np.argsort(joint, kind="stable")[k - 1]
    eps = joint[kth]
    if eps == 0:
        copies, n_x, n_y = 1 + np.sum(joint == 0), 1 + np.sum(row_x == 0), 1 + np.sum(row_y == 0)
        value = float(digamma(copies) + digamma(n) - digamma(n_x) - digamma(n_y))
        return value, value
    few_x, many_x = _inside(row_x, eps, row_x[kth] == eps, slack)
    few_y, many_y = _inside(row_y, eps, row_y[kth] == eps, slack)
    low = digamma(k) + digamma(n) - digamma(1 + many_x) - digamma(1 + many_y)
    high = digamma(k) + digamma(n) - digamma(1 + few_x) - digamma(1 + few_y)
    return float(low), float(high)


def _inside(row: Array, eps: float, sets_eps: bool, slack: float) -> tuple[int, int]:
    """How many distances are below eps, at least and at most, if those within the slack may be on either side.

    A distance equal to eps on the side that set it is the same number in any arithmetic: it is never inside.
    """
    if slack == 0:
        count = int(np.sum(row < eps))
        return count, count
    near = np.abs(row - eps) <= slack * eps
    if sets_eps:
        near &= row != eps
    sure = int(np.sum((row < eps) & ~near))
    return sure, sure + int(near.sum())


def _ross_row(dx: Array, labels: Array, k: int, i: int, slack: float) -> tuple[float, float]:
    """Ross at sample i, in a class of two members or more: lowest and highest value over near ties."""
    n = len(dx)
    others = np.arange(n) != i
    row, same = dx[i][others], (labels == labels[i])[others]
    n_class = 1 + same.sum()
    k_class = min(k, n_class - 1)
    eps = np.sort(row[same])[k_class - 1]
    if eps == 0:
        copies, n_x = 1 + np.sum(row[same] == 0), 1 + np.sum(row == 0)
        value = float(digamma(copies) + digamma(n) - digamma(n_class) - digamma(n_x))
        return value, value
    few, many = _inside(row, eps, True, slack)
    low = digamma(k_class) + digamma(n) - digamma(n_class) - digamma(1 + many)
    high = digamma(k_class) + digamma(n) - digamma(n_class) - digamma(1 + few)
    return float(low), float(high)
