"""The table of nearest neighbours that every estimate is read off: (n, d) values to sorted rows, by one FAISS pass."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal

import faiss
import numpy as np
from numpy.typing import NDArray
from scipy.spatial.distance import cdist

from mi_callback.estimation import kernels
from mi_callback.estimation.parallel import in_own_thread, run_in_threads

__all__ = ["Metric", "NeighborTable", "balance_rank", "default_width", "typical", "width_for_classes"]

Metric = Literal["euclidean", "chebyshev"]

_CHUNK = 128  # rows a task: their distances to all samples are held at once, in each thread
_FEW_FEATURES = 4  # up to here differences are as quick as a matrix product, and exact
_PROBES = 256  # distances looked at to guess a row's radius


def balance_rank(n_samples: int, k: int) -> int:
    """Rank sqrt(k n) of the neighbour that sets the balanced scale: how far a scan goes under independence."""
    return min(n_samples - 1, math.ceil(math.sqrt(k * n_samples)))


def default_width(n_samples: int, k: int) -> int:
    """Columns of a table in which nearly all scans end: 3 sqrt(k n), at least 64, at most n - 1."""
    return min(n_samples - 1, max(64, math.ceil(3 * math.sqrt(k * n_samples))))


def width_for_classes(sizes: NDArray[np.integer], k: int) -> int:
    """Columns, at least 64, in which the k-th neighbour of the same class is nearly always listed, were labels drawn.

    Args:
        sizes: shape (classes,), members of each class.
        k: number of neighbours.
    """
    share = float(sizes.min() / sizes.sum())  # of m neighbours, m * share are of the class, give or take the root of it
    return max(64, math.ceil((k + 5 * math.sqrt(k) + 4) / share))


def typical(distances: NDArray[np.float64]) -> float:
    """Median of distances; where more than half are zero the mean of the others, and 1 where all are."""
    median = float(np.median(distances)) if distances.size else 0.0
    if median > 0:
        return median
    positive = distances[distances > 0]
    return float(positive.mean()) if positive.size else 1.0


@dataclass(frozen=True, slots=True, eq=False)
class NeighborTable:
    """Sorted nearest neighbours of n samples; m columns.

    Attributes:
        values: shape (n, d), centred and scaled by a power of two; distances are taken between them. In float64, for
            features on unlike scales and for clusters far apart.
        single: shape (n, d), the values in float32, for matrix products.
        metric: "euclidean" or "chebyshev".
        indices: shape (n, m): neighbours of each sample in order of distance, itself left out. Unsigned, which spares
            the kernels a test for negative places.
        distances: shape (n, m), float32, ascending.
        lengths: shape (n,): entries of a row in use.
        radii: shape (n,): every sample strictly nearer than this is listed.
        farthest: shape (n,): no sample is farther than this.
        copies: shape (n,): number of samples that coincide with each, itself included.
        leaders: shape (n,): the first of the samples that coincide with each.
        unit: distance that counts as 1 beside other tables; off the balanced scale, 1 in the values as given. Distances
            are not divided by it: rounded once, they equal what the kernels compute for pairs that are not listed.
    """

    values: NDArray[np.float64]
    single: NDArray[np.float32]
    metric: Metric
    indices: NDArray[np.uint32]
    distances: NDArray[np.float32]
    lengths: NDArray[np.int32]
    radii: NDArray[np.float32]
    farthest: NDArray[np.float32]
    copies: NDArray[np.int32]
    leaders: NDArray[np.int32]
    unit: float = 1.0

    @classmethod
    def build(
        cls, values: NDArray[np.floating], width: int, metric: Metric = "euclidean", *, unit_rank: int | None = None
    ) -> NeighborTable:
        """Find the nearest neighbours of every sample.

        Args:
            values: shape (n, d), finite.
            width: number of neighbours m to list, at most n - 1.
            metric: "euclidean" or "chebyshev".
            unit_rank: take the typical distance to the neighbour of this rank for unit (the balanced scale).
        """
        n, d = values.shape
        width = min(width, n - 1)
        # Medians keep the bulk of heavy-tailed features near zero, where floats are dense.
        values = np.asarray(values, dtype=np.float64)
        centred = np.ascontiguousarray(values - np.median(values, axis=0))
        # A power of two near the typical magnitude loses no digit, and keeps squares within the range of floats.
        scale = float(2.0 ** -np.round(np.log2(typical(np.abs(centred[:: max(1, n // 1024)])))))
        centred *= scale
        with np.errstate(over="ignore"):  # an outlier beyond all floats is infinitely far
            single = centred.astype(np.float32)
        table = cls(
            values=centred,
            single=single,
            metric=metric,
            indices=np.empty((n, width), np.uint32),
            distances=np.empty((n, width), np.float32),
            lengths=np.empty(n, np.int32),
            radii=np.empty(n, np.float32),
            farthest=np.empty(n, np.float32),
            copies=np.empty(n, np.int32),
            leaders=np.empty(n, np.int32),
        )
        if d == 1:
            table._fill_from_line()
        else:
            table._fill_from_blocks()
        return replace(table, unit=scale if unit_rank is None else table._typical_distance(unit_rank))

    @property
    def n_samples(self) -> int:
        """Number of samples n."""
        return len(self.lengths)

    @property
    def metric_code(self) -> int:
        """The metric, as the kernels know it."""
        return kernels.EUCLIDEAN if self.metric == "euclidean" else kernels.CHEBYSHEV

    @property
    def arrays(self) -> kernels.Table:
        """The table, as the kernels know it."""
        return kernels.Table(
            values=self.values,
            leaders=self.leaders,
            metric=self.metric_code,
            indices=self.indices,
            distances=self.distances,
            lengths=self.lengths,
            radii=self.radii,
            farthest=self.farthest,
            copies=self.copies,
        )

    def restricted(
        self, rows: NDArray[np.integer], width: int | None = None, unit_rank: int | None = None
    ) -> NeighborTable:
        """The table of a subset of the samples: the same rows, filtered. No search.

        Args:
            rows: shape (r,), samples, none twice.
            width: neighbours to keep, all if None.
            unit_rank: take the typical distance to the neighbour of this rank for unit; if None the unit stays.
        """
        local = np.full(self.n_samples, -1, np.int32)
        local[rows] = np.arange(len(rows), dtype=np.int32)
        _, leader, group, sizes = np.unique(
            self.leaders[rows], return_index=True, return_inverse=True, return_counts=True
        )
        shape = (len(rows), min(width or self.indices.shape[1], len(rows) - 1))
        table = replace(
            self,
            values=self.values[rows],
            single=self.single[rows],
            indices=np.empty(shape, np.uint32),
            distances=np.empty(shape, np.float32),
            lengths=np.empty(len(rows), np.int32),
            radii=np.empty(len(rows), np.float32),
            farthest=self.farthest[rows],
            copies=sizes[group].astype(np.int32),
            leaders=leader[group].astype(np.int32),
        )
        whole, part = self.arrays, table.arrays
        run_in_threads(
            lambda start, stop: kernels.restrict_rows(whole, rows, local, start, stop, part), len(rows), _CHUNK
        )
        return table if unit_rank is None else replace(table, unit=table._typical_distance(unit_rank))

    def count_nearer(
        self, rows: NDArray[np.integer], epsilon: NDArray[np.float32], ratio: float = 1.0
    ) -> NDArray[np.int64]:
        """Number of samples strictly nearer than a radius, from the distances to all samples.

        Args:
            rows: shape (r,), samples.
            epsilon: shape (r,), a radius above zero for each.
            ratio: unit of this table over the unit of the radii.
        """
        single = np.float32(ratio)
        everyone = epsilon > self.farthest[rows] * single * np.float32(1 + 1e-6)
        counts = np.full(len(rows), self.n_samples - 1, np.int64)
        wanted = np.flatnonzero(~everyone)
        if len(wanted):
            # Coincident samples share their distances: one row serves all. Sort by row, then by radius, as one number.
            sources = self.leaders[rows[wanted]]
            order = np.argsort((sources.astype(np.int64) << 32) | epsilon[wanted].view(np.int32))
            starts = np.flatnonzero(np.diff(sources[order], prepend=-1))
            distinct = sources[order[starts]]
            starts = np.append(starts, len(order))
            sorted_epsilon = epsilon[wanted][order]
            found = np.empty(len(order), np.int64)

            table = self.arrays

            def count(start: int, stop: int) -> None:
                block = self.distances_to_all(distinct[start:stop])
                kernels.count_nearer(table, block, single, starts[start : stop + 1], sorted_epsilon, found)

            run_in_threads(count, len(distinct), _CHUNK)
            counts[wanted[order]] = found
        return counts

    def _typical_distance(self, rank: int) -> float:
        column = self.distances[:, min(rank, self.indices.shape[1]) - 1]
        return typical(column[np.isfinite(column)].astype(np.float64))  # filtered rows can be shorter

    def _fill_from_blocks(self) -> None:
        n, width = self.indices.shape
        probes = min(n, _PROBES)
        probe = np.linspace(0, n - 1, probes).astype(np.int64)
        expected = (width + 1) * probes / n
        rank = math.ceil(expected + 1.5 * math.sqrt(expected))

        table = self.arrays

        def select(start: int, stop: int) -> None:
            block = self.distances_to_all(np.arange(start, stop))
            probed = np.sort(block.distances[:, probe], axis=1)
            limits = np.maximum(probed[:, rank], 0) if rank < probes - 1 else np.full(stop - start, np.inf, np.float32)
            # Where the squared distances have lost too much to cancellation, or overflowed, they are computed afresh.
            lost = np.flatnonzero(~(block.slack[:-1] <= np.float32(0.01) * limits))
            if len(lost):
                block.distances[lost] = self._exact_distances(block.rows[lost])
                block.slack[lost] = 0
                probed[lost] = np.sort(block.distances[np.ix_(lost, probe)], axis=1)
            kernels.select_neighbors(block, probed, rank, table)
            farthest = block.distances.max(axis=1)
            farthest += block.slack[:-1] + block.slack[-1] * farthest
            self.farthest[start:stop] = np.sqrt(farthest) if self.metric == "euclidean" else farthest

        run_in_threads(select, n, _CHUNK)

    def _fill_from_line(self) -> None:
        order, table = np.argsort(self.values[:, 0], kind="stable"), self.arrays
        run_in_threads(
            lambda start, stop: kernels.sorted_line_neighbors(table, order, start, stop), self.n_samples, _CHUNK
        )
        _, leader, group, sizes = np.unique(
            self.values[:, 0], return_index=True, return_inverse=True, return_counts=True
        )
        self.copies[:] = sizes[group]
        self.leaders[:] = leader[group]

    def _exact_distances(self, rows: NDArray[np.integer]) -> NDArray[np.float32]:
        """Distances (Euclidean: squared) of some rows to all samples, by differences, so that nothing cancels."""
        with np.errstate(over="ignore"):
            distances: NDArray[np.float32] = cdist(self.values[rows], self.values, self.metric).astype(np.float32)
            if self.metric == "euclidean":
                distances *= distances  # once rounded, as the kernels' own: radii at a tie do not depend on the way
            return distances

    def distances_to_all(self, rows: NDArray[np.integer]) -> kernels.Block:
        """Approximate distances (Euclidean: squared) of some rows to all samples, and bounds on their error.

        Called in worker threads, each with a matrix product of its own: that spares them waiting for one another.

        Args:
            rows: shape (B,), samples.
        """
        n, d = self.values.shape
        at = rows.astype(np.int64, copy=False)  # one type of indices: one specialisation of each kernel
        if self.metric == "chebyshev" or d <= _FEW_FEATURES:
            slack = np.append(np.zeros(len(rows)), 1e-6).astype(np.float32)
            return kernels.Block(at, self._exact_distances(rows), slack)
        block = np.empty((len(rows), n), np.float32)
        single = self.single
        chosen = single[rows]

        def multiply() -> None:
            faiss.omp_set_num_threads(1)
            faiss.pairwise_L2sqr(d, len(rows), faiss.swig_ptr(chosen), n, faiss.swig_ptr(single), faiss.swig_ptr(block))

        in_own_thread(multiply)
        # Rounding of |a|^2 + |b|^2 - 2ab, relative to |a|^2 + |a - b|^2; largest where all features agree.
        unit = 1e-5 * max(1.0, math.sqrt(d) / 16)
        slack = np.append(unit * np.einsum("ij,ij->i", chosen, chosen), unit).astype(np.float32)
        return kernels.Block(at, block, slack)
