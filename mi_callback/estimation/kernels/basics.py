"""What all kernels share: how they are compiled, what they are given, the distance of two samples, counts in rows."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable
from importlib.resources import files
from typing import Any, NamedTuple

import numpy as np
from numba import njit
from numba.core import event
from numpy.typing import NDArray

__all__ = [
    "CHEBYSHEV",
    "EUCLIDEAN",
    "INF",
    "Block",
    "Output",
    "Table",
    "compiled",
    "compiled_sum",
    "count_below",
    "count_limits",
    "count_piece",
    "count_within",
    "distance",
    "insert",
    "lower_bound",
    "lower_bound_scaled",
    "widened",
    "within_line",
]

_log = logging.getLogger("mi_callback")


def _content() -> str:
    """What stands in all files of kernels."""
    sources = sorted(
        (one for one in files(__package__).iterdir() if one.name.endswith(".py")), key=lambda one: one.name
    )
    return hashlib.sha256(b"".join(one.read_bytes() for one in sources)).hexdigest()[:12]


_CONTENT = _content()


def _compiler(**options: Any) -> Callable[[Callable[..., Any]], Any]:
    """Numba's, with a cache that knows all files.

    Numba stamps a cached kernel by its own file, and would go on using what it inlined from another one before that
    changed. The name of a cached kernel comes from the function's: with the content of all files in it, a change in any
    of them finds no kernel in the cache. Numba itself looks at its version and at the processor.
    """

    def compile_function(function: Callable[..., Any]) -> Any:
        function.__qualname__ = f"{function.__qualname__}_{_CONTENT}"
        return njit(nogil=True, cache=True, error_model="numpy", **options)(function)

    return compile_function


compiled = _compiler()
# Sums over features may be reordered and fused, so that they vectorise; NaN and infinity keep their meaning.
compiled_sum = _compiler(fastmath={"reassoc", "contract"})


class _Notice(event.Listener):
    """Says, once a process, that kernels are being compiled; numba does not compile what is in its cache."""

    said = False

    def on_start(self, event: event.Event) -> None:
        if not self.said and event.data["dispatcher"].py_func.__module__.startswith(__package__):
            self.said = True
            _log.warning(  # a warning, so that it is seen where nobody has set up logging
                "mi_callback compiles its kernels: some seconds, once after each installation (cached from then on)."
            )

    def on_end(self, event: event.Event) -> None:
        pass


event.register("numba:compile", _Notice())

EUCLIDEAN, CHEBYSHEV = 0, 1
INF = np.float32(np.inf)
_ONE, _NONE = np.uint32(1), np.uint32(0)


class Table(NamedTuple):
    """A neighbour table: rows of m neighbours, among n samples. See ``NeighborTable``."""

    values: NDArray[np.floating]  # (n, d)
    leaders: NDArray[np.int32]  # (n,) the first of the samples that coincide with each
    samples: NDArray[np.int64]  # (rows,) the sample that each row belongs to
    metric: int  # EUCLIDEAN or CHEBYSHEV
    indices: NDArray[np.uint32]  # (rows, m)
    distances: NDArray[np.float32]  # (rows, m)
    lengths: NDArray[np.int32]  # (rows,)
    radii: NDArray[np.float32]  # (rows,)
    farthest: NDArray[np.float32]  # (rows,)
    copies: NDArray[np.int32]  # (rows,) number of samples that coincide with the row's, itself included


class Block(NamedTuple):
    """Rows at hand, with approximate distances to all samples, or without: those needed are then computed singly."""

    rows: NDArray[np.int64]  # (B,) rows of the table
    distances: NDArray[np.float32]  # (B, n), Euclidean: squared; (0, 0) if they were not computed
    slack: NDArray[np.float32]  # (B + 1,) absolute bounds on their errors; last, the bound relative to the distance


class Output(NamedTuple):
    """What the scans write, under P permutations."""

    local: NDArray[np.float64]  # (rows,) the terms of the first permutation
    sums: NDArray[np.float64]  # (P,) the terms are added
    completed: NDArray[
        np.float32
    ]  # (rows, P) radius of a row that went beyond its table, else -1; of labels inf if it is still to be read
    x_counts: NDArray[
        np.int32
    ]  # (rows, P) n_x + 1 of a row of which a side is still to be counted, 0 if it is this one;
    y_counts: NDArray[np.int32]  # else both are as they were


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
def count_below(row, low, high):
    """Numbers of entries below two limits; of fewer than 2^32."""
    below_low, below_high = np.uint32(0), np.uint32(0)
    for j in range(row.size):  # the plainest loop, in the width of the entries: it vectorises, three times as quick
        below_low = np.uint32(below_low + (_ONE if row[j] < low else _NONE))
        below_high = np.uint32(below_high + (_ONE if row[j] < high else _NONE))
    return np.int64(below_low), np.int64(below_high)


@compiled
def widened(radius, metric, absolute, relative):
    """Largest approximate distance (Euclidean: squared) that may belong to a radius, given bounds on its error."""
    limit = radius * radius if metric == EUCLIDEAN else radius
    return limit + absolute + relative * limit


@compiled
def count_limits(epsilon, ratio, metric, absolute, relative):
    """Approximate distances below which a sample surely lies within a radius, and from which on it does not.

    Both are -inf where squares leave the range of floats: then nothing can be told from approximate distances.
    """
    limit = epsilon / ratio
    high = widened(limit, metric, absolute, relative)
    low = np.float32(2) * (limit * limit if metric == EUCLIDEAN else limit) - high
    return (low, high) if low < high < INF else (-INF, -INF)


@compiled
def count_piece(piece, start, x, i, metric, ratio, epsilon, low, high):
    """Number of samples, i itself among them, whose distance to i, times a ratio, is below a radius above zero.

    Args:
        piece: approximate distances (Euclidean: squared) of i to the samples from ``start`` on. Some thousands: few
            pieces hold a close call, which is recomputed, and there few of their parts.
        start: the first of them.
        x: (n, d) values.
        i: sample.
        metric: EUCLIDEAN or CHEBYSHEV.
        ratio: factor that turns the distances into the unit of the radius.
        epsilon: radius.
        low, high: its limits, see ``count_limits``.
    """
    count, possibly = count_below(piece, low, high)
    if possibly == count and high > -INF:
        return count
    for part_start in range(0, piece.size, 128):
        part = piece[part_start : part_start + 128]
        surely, possibly = count_below(part, low, high)
        if possibly > surely or high == -INF:
            for j in range(part.size):
                if low <= part[j] < high or high == -INF:
                    count += distance(x, i, x, start + part_start + j, metric) * ratio < epsilon
    return count


@compiled
def count_within(approximate, x, i, metric, epsilons, absolute, relative, counts):
    """Count the samples whose distance to i is below each of some radii, i not counted.

    A piece of the distances is held against all radii while it is in the cache.

    Args:
        approximate: (n,) distances (Euclidean: squared) of sample i to all samples.
        x: (n, d) values.
        i: sample.
        metric: EUCLIDEAN or CHEBYSHEV.
        epsilons: (E,) radii above zero.
        absolute, relative: bounds on the error of the approximate distances.
        counts: (E,) written.
    """
    one = np.float32(1)
    counts[: epsilons.size] = -1
    for start in range(0, approximate.size, 2048):
        piece = approximate[start : start + 2048]
        for e in range(epsilons.size):
            low, high = count_limits(epsilons[e], one, metric, absolute, relative)
            counts[e] += count_piece(piece, start, x, i, metric, one, epsilons[e], low, high)


@compiled
def within_line(line, position, below, above, epsilon):
    """Number of sorted values, the one at a position included, at a float32 distance below epsilon, walking inwards."""
    value = line[position]
    while below + 1 < position and np.float32(value - line[below + 1]) >= epsilon:
        below += 1
    while above - 1 > position and np.float32(line[above - 1] - value) >= epsilon:
        above -= 1
    return above - below - 1
