"""Error bars from subsamples that do not overlap, read off the rows that are there, filtered.

The variance of a KSG estimate falls like B / n (Holmes & Nemenman 2019, doi:10.1103/PhysRevE.100.022404): B is found
from the scatter of the estimates on the parts of random partitions, and extrapolated to all samples. A bootstrap with
replacement would make duplicates, which inflate the estimate.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mi_callback.estimation.neighbors import NeighborTable, balance_rank, default_width
from mi_callback.estimation.permutation import stream
from mi_callback.estimation.readings import read_table
from mi_callback.estimation.targets import LabelTarget, Target

__all__ = ["PARTS_OF_HALVES", "Subsamples", "drop_singletons", "error_at_points", "read_part", "subsample"]

_PARTS = (2, 3, 4, 5)  # parts of the partitions: 10 degrees of freedom, so the error bar is good to a fifth or so
PARTS_OF_HALVES = (2, 4)  # of each of two halves that are read apart: 8 degrees of freedom together
_PARTS_AT_POINTS = (2,)  # for the drift alone: the error of sampling points is known
# Variance of an estimate on all n samples, times n, over that of its local values. Measured at n = 1,000 on seven cases
# (linear weak and strong, classes, ties, two dimensions, independent): 1.0 to 2.1.
_SHARED_NEIGHBORS = 1.5
_SMALLEST_PART = 12  # samples


@dataclass(frozen=True, slots=True, eq=False)
class Subsamples:
    """Estimates on the parts of random partitions, in nats.

    Attributes:
        n_samples: number of samples n of the whole.
        values: one array a partition: the estimates on its parts, each of n / (number of parts) samples; NaN for a
            part in which too few samples have another of their class.
        at_points: standard error of an estimate at evaluation points; None where all samples are points.
    """

    n_samples: int
    values: tuple[NDArray[np.float64], ...]
    at_points: float | None = None

    @property
    def stderr(self) -> float:
        """Standard error of the estimate on all samples; NaN where n is too small for partitions."""
        if self.at_points is not None:
            return self.at_points
        # Var(part) = B / (n / parts): pooled over the partitions by degrees of freedom.
        known = [(v.size, v[np.isfinite(v)]) for v in self.values]
        known = [(parts, v) for parts, v in known if v.size > 1]
        if not known:
            return math.nan
        freedom = sum(v.size - 1 for _, v in known)
        b = sum((v.size - 1) * v.var(ddof=1) * self.n_samples / parts for parts, v in known) / freedom
        return math.sqrt(b / self.n_samples)

    @property
    def half(self) -> float:
        """Mean of the estimates on halves of the samples; NaN where there are none."""
        halves = [v for v in self.values if v.size == 2 and np.isfinite(v).all()]
        return float(np.mean(halves)) if halves else math.nan


def drop_singletons(target: Target) -> NDArray[np.intp] | None:
    """Samples whose class has another member, or None if that is all of them."""
    if isinstance(target, LabelTarget) and target.sizes.min() < 2:
        return np.flatnonzero(target.sizes[target.codes] > 1)
    return None


def error_at_points(local: NDArray[np.float64], n_samples: int) -> float:
    """Standard error of a mean of local values, shape (Q,), at random points among n samples.

    The variance of an estimate at all samples, and var(local) (1 / Q - 1 / n) for taking it at Q of them.
    """
    q = len(local)
    return math.sqrt(float(local.var(ddof=1)) * (1 / q - 1 / n_samples + _SHARED_NEIGHBORS / n_samples))


def subsample(
    table: NeighborTable,
    target: Target,
    k: int,
    seed: int,
    *,
    local: NDArray[np.float64],
    parts: tuple[int, ...] = _PARTS,
    balanced: bool = True,
) -> Subsamples:
    """Estimate on the parts of random partitions of the samples, each part as if it were all there is.

    Args:
        table: neighbours of all n samples, or of evaluation points.
        target: what they are compared with.
        local: the local values read off them.
        k: number of neighbours.
        seed: the same seed gives the same partitions.
        parts: number of parts of each partition.
        balanced: whether both sides are on the balanced scale.
    """
    n = table.n_samples
    at_points = None
    if not table.is_complete:
        at_points, parts = error_at_points(local, n), _PARTS_AT_POINTS
    rng = stream(seed, 0x5B5)
    values = []
    for number in parts:
        order = rng.permutation(n)
        if n // number < max(_SMALLEST_PART, 2 * k + 2):
            continue
        pieces = [np.sort(piece) for piece in np.array_split(order, number)]
        values.append(np.array([_estimate(table, target, k, piece, balanced) for piece in pieces]))
    return Subsamples(n, tuple(values), at_points)


def read_part(
    part: NeighborTable, target: Target, samples: NDArray[np.integer], k: int, balanced: bool = True
) -> float:
    """The estimate on some of the samples, in nats.

    Args:
        part: the table restricted to them.
        target: what all samples are compared with.
        samples: shape (r,), ascending.
        k: number of neighbours.
        balanced: whether both sides are on the balanced scale.
    """
    n = len(samples)
    points = None if part.is_complete else part.samples
    rank = balance_rank(n, k) if balanced else None
    return float(read_table(part, target.restricted(samples, default_width(n, k), rank, points), k).local.mean())


def _estimate(table: NeighborTable, target: Target, k: int, rows: NDArray[np.intp], balanced: bool) -> float:
    if isinstance(target, LabelTarget):
        kept = drop_singletons(target.restricted(rows))
        if kept is not None:
            rows = rows[kept]
    n = len(rows)
    if n < k + 2:
        return math.nan
    part = table.restricted(rows, default_width(n, k), balance_rank(n, k) if balanced else None)
    return read_part(part, target, rows, k, balanced) if part.n_rows else math.nan
