"""Local values of a small sample, straight from all of its distances: quicker than a table that is read only once."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import digamma

from mi_callback.estimation import kernels
from mi_callback.estimation.estimators import digamma_table
from mi_callback.estimation.neighbors import Metric, balance_rank, typical
from mi_callback.estimation.parallel import run_in_threads
from mi_callback.estimation.targets import distances_on_line

__all__ = ["read_directly"]

_CHUNK = 128  # rows a task
_NEGLIGIBLE = 1e-13  # squared distances over squared norms: the samples coincide


def read_directly(x: NDArray[np.floating], y: NDArray[Any], k: int, metric: Metric) -> NDArray[np.float64]:
    """Terms whose mean is the mutual information of x and y on the balanced scale, in nats; as ``read_table`` has them.

    Time and memory grow like n^2: for a few thousand samples.

    Args:
        x: shape (n, d).
        y: shape (n, q); or shape (n,), class numbers from 0, each with two members at least.
        k: number of neighbours, less than n.
        metric: "euclidean" or "chebyshev".

    Returns:
        Shape (n,).
    """
    n = len(x)
    psi = digamma_table(n)
    local = np.empty(n)
    order = np.argsort(y.ravel(), kind="stable") if y.size == n else np.arange(n)
    to_x = _distances(x[order], metric)
    if y.ndim == 1:
        codes, starts = y[order], np.concatenate([[0], np.cumsum(np.bincount(y))])

        def read(start: int, stop: int) -> None:
            kernels.read_classes(to_x[start:stop], codes, starts, psi, k, start, local)
    elif y.shape[1] == 1:
        line = y[order, 0].astype(np.float64)
        line *= _unit(to_x, k) / typical(distances_on_line(line, balance_rank(n, k)))

        def read(start: int, stop: int) -> None:
            kernels.read_on_line(to_x[start:stop], line, psi, k, start, local)
    else:
        to_y = _distances(y, metric)
        ratio = np.float32(_unit(to_x, k) / _unit(to_y, k))

        def read(start: int, stop: int) -> None:
            kernels.read_pairs(to_x[start:stop], to_y[start:stop], ratio, psi, k, start, local)

    run_in_threads(read, n, _CHUNK)
    terms = np.empty(n)
    terms[order] = local + digamma(n)
    return terms


def _distances(values: NDArray[np.floating], metric: Metric) -> NDArray[np.float32]:
    """All distances, shape (n, n). Products in float64: what cancels there is less than rounding to float32."""
    n = len(values)
    values = values.astype(np.float64)
    values -= values.mean(axis=0)
    distances = np.empty((n, n), np.float32)
    if metric == "chebyshev":
        run_in_threads(
            lambda start, stop: kernels.distance_rows(
                values, np.arange(start, stop), kernels.CHEBYSHEV, distances[start:stop]
            ),
            n,
            _CHUNK,
        )
        return distances
    products, squares = values @ values.T, np.einsum("ij,ij->i", values, values)
    run_in_threads(
        lambda start, stop: kernels.distances_from_products(
            products[start:stop], squares, _NEGLIGIBLE, start, distances[start:stop]
        ),
        n,
        _CHUNK,
    )
    return distances


def _unit(distances: NDArray[np.float32], k: int) -> float:
    """Typical distance to the neighbour that sets the balanced scale; the sample itself comes first in its row."""
    rank = balance_rank(len(distances), k)
    return typical(np.partition(distances, rank, axis=1)[:, rank].astype(np.float64))
