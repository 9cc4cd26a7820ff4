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

from mi_callback.estimation.estimators import read_table
from mi_callback.estimation.neighbors import NeighborTable, balance_rank, default_width
from mi_callback.estimation.permutation import stream
from mi_callback.estimation.targets import LabelTarget, Target

__all__ = ["PARTS_OF_HALVES", "Subsamples", "drop_singletons", "subsample"]

_PARTS = (2, 3, 4, 5)  # parts of the partitions: 10 degrees of freedom, so the error bar is good to a fifth or so
PARTS_OF_HALVES = (2, 4)  # of each of two halves that are read apart: 8 degrees of freedom together
_SMALLEST_PART = 12  # samples


@dataclass(frozen=True, slots=True, eq=False)
class Subsamples:
    """Estimates on the parts of random partitions, in nats.

    Attributes:
        n_samples: number of samples n of the whole.
        values: one array a partition: the estimates on its parts, each of n / (number of parts) samples; NaN for a
            part in which too few samples have another of their class.
    """

    n_samples: int
    values: tuple[NDArray[np.float64], ...]

    @property
    def stderr(self) -> float:
        """Standard error of the estimate on all samples; NaN where n is too small for partitions."""
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


def subsample(
    table: NeighborTable, target: Target, k: int, seed: int, *, parts: tuple[int, ...] = _PARTS, balanced: bool = True
) -> Subsamples:
    """Estimate on the parts of random partitions of the samples, each part as if it were all there is.

    Args:
        table: neighbours of n samples.
        target: what they are compared with.
        k: number of neighbours.
        seed: the same seed gives the same partitions.
        parts: number of parts of each partition.
        balanced: whether both sides are on the balanced scale.
    """
    n = table.n_samples
    rng = stream(seed, 0x5B5)
    values = []
    for number in parts:
        order = rng.permutation(n)
        if n // number < max(_SMALLEST_PART, 2 * k + 2):
            continue
        pieces = [np.sort(piece) for piece in np.array_split(order, number)]
        values.append(np.array([_estimate(table, target, k, piece, balanced) for piece in pieces]))
    return Subsamples(n, tuple(values))


def _estimate(table: NeighborTable, target: Target, k: int, rows: NDArray[np.intp], balanced: bool) -> float:
    if isinstance(target, LabelTarget):
        kept = drop_singletons(target.restricted(rows))
        if kept is not None:
            rows = rows[kept]
    n = len(rows)
    if n < k + 2:
        return math.nan
    width, rank = default_width(n, k), balance_rank(n, k) if balanced else None
    return float(read_table(table.restricted(rows, width, rank), target.restricted(rows, width, rank), k).local.mean())
