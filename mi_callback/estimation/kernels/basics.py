"""What all kernels share: how they are compiled, the distance of two samples, searching rows and counting in them."""

from __future__ import annotations

import numpy as np
from numba import njit

__all__ = [
    "CHEBYSHEV",
    "EUCLIDEAN",
    "INF",
    "compiled",
    "compiled_sum",
    "count_below",
    "count_row",
    "distance",
    "insert",
    "lower_bound",
    "lower_bound_scaled",
    "reach",
    "within_line",
]

compiled = njit(nogil=True, cache=True)
# Sums over features may be reordered and fused, so that they vectorise; NaN and infinity keep their meaning.
compiled_sum = njit(nogil=True, cache=True, fastmath={"reassoc", "contract"})

EUCLIDEAN, CHEBYSHEV = 0, 1
INF = np.float32(np.inf)


@compiled_sum
def distance(x, i, y, j, metric):
    """Distance of row i of x and row j of y; the square for the Euclidean metric is summed in the type of x."""
    total = abs(x[i, 0] * 0)  # zero of the type of x; not -0, whose bits would sort last
    if metric == CHEBYSHEV:
        for c in range(x.shape[1]):
            total = max(total, abs(x[i, c] - y[j, c]))
        return np.float32(total)
    for c in range(x.shape[1]):
        difference = x[i, c] - y[j, c]
        total += difference * difference
    return np.float32(np.sqrt(total))


@compiled
def insert(best, value):
    """Insert a value into an ascending array, dropping the last."""
    c = best.size - 1
    while c > 0 and best[c - 1] > value:
        best[c] = best[c - 1]
        c -= 1
    best[c] = value


@compiled
def lower_bound(row, length, value):
    """Number of the first ``length`` entries, ascending, that are below a value."""
    start = 0
    while length > 0:
        half = (length + 1) >> 1
        # Adding a product in place of a branch: the outcome cannot be predicted, and a wrong guess costs more.
        start += half * (row[start + half - 1] < value)
        length -= half
    return start


@compiled
def lower_bound_scaled(row, length, ratio, value):
    """Number of the first ``length`` entries, ascending, that are below a value when multiplied by a ratio."""
    start = 0
    while length > 0:
        half = (length + 1) >> 1
        start += half * (row[start + half - 1] * ratio < value)
        length -= half
    return start


@compiled
def count_below(row, limit):
    """Number of entries below a limit."""
    count = 0
    for j in range(row.size):  # the plainest loop: it vectorises
        count += row[j] < limit
    return count


@compiled
def reach(radius, metric, absolute, relative):
    """Largest approximate distance (Euclidean: squared) that may belong to a radius, given bounds on its error."""
    limit = radius * radius if metric == EUCLIDEAN else radius
    return limit + absolute + relative * limit


@compiled
def count_row(approximate, x, i, metric, ratio, epsilon, absolute, relative):
    """Number of samples whose distance to i, times a ratio, is below epsilon > 0; close calls are recomputed.

    Args:
        approximate: (n,) distances (Euclidean: squared) of sample i to all samples.
        x: (n, d) values.
        i: sample, itself not counted.
        metric: EUCLIDEAN or CHEBYSHEV.
        ratio: factor that turns the distances into the unit of epsilon.
        epsilon: radius.
        absolute, relative: bounds on the error of the approximate distances.
    """
    limit = epsilon / ratio
    high = reach(limit, metric, absolute, relative)
    low = 2 * (limit * limit if metric == EUCLIDEAN else limit) - high
    count = 0
    if not (low < high < INF):  # squares leave the range of floats
        for j in range(approximate.size):
            count += distance(x, i, x, j, metric) * ratio < epsilon
        return count - 1
    for start in range(0, approximate.size, 2048):  # few pieces hold a close call, and there few of their parts
        piece = approximate[start : start + 2048]
        surely = count_below(piece, low)
        count += surely
        if count_below(piece, high) == surely:
            continue
        for part_start in range(0, piece.size, 128):
            part = piece[part_start : part_start + 128]
            if count_below(part, high) > count_below(part, low):
                for j in range(part.size):
                    if low <= part[j] < high:
                        count += distance(x, i, x, start + part_start + j, metric) * ratio < epsilon
    return count - 1


@compiled
def within_line(line, position, below, above, epsilon):
    """Number of sorted values, the one at a position included, at a float32 distance below epsilon, walking inwards."""
    value = line[position]
    while below + 1 < position and np.float32(value - line[below + 1]) >= epsilon:
        below += 1
    while above - 1 > position and np.float32(line[above - 1] - value) >= epsilon:
        above -= 1
    return above - below - 1
