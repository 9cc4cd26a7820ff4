"""The table of nearest neighbours that every estimate is read off: (n, d) values to sorted rows, by one FAISS pass."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal

import faiss
import numpy as np
from numpy.typing import NDArray

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
            features on unlike scales and for clusters far apart; in float32 if that is what they came in.
        single: shape (n, d), the values in float32, for matrix products.
        metric: "euclidean" or "chebyshev".
        indices: shape (n, m): neighbours of each sample in order of distance, itself left out. Unsigned, which spares
            the kernels a test for negative places.
        distances: shape (n, m), float32, ascending.
        lengths: shape (n,): entries of a row in use.
        radii: shape (n,): every sample strictly nearer than this is listed.
        farthest: shape (n,): no sample is farther than this.
        atoms: shape (n,): number of samples that coincide with each, itself included.
        first: shape (n,): the first of the samples that coincide with each.
        unit: distance that counts as 1 beside other tables; off the balanced scale, 1 in the values as given. Distances
            are not divided by it: rounded once, they equal what the kernels compute for pairs that are not listed.
    """

    values: NDArray[np.floating]
    single: NDArray[np.float32]
    metric: Metric
    indices: NDArray[np.uint32]
    distances: NDArray[np.float32]
    lengths: NDArray[np.int32]
    radii: NDArray[np.float32]
    farthest: NDArray[np.float32]
    atoms: NDArray[np.int32]
    first: NDArray[np.int32]
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
        if values.dtype != np.float32:
            values = np.asarray(values, dtype=np.float64)
        centred = np.ascontiguousarray(values - np.median(values, axis=0))
        # A power of two near the typical magnitude loses no digit, and keeps squares within the range of floats.
        scale = float(2.0 ** -np.round(np.log2(typical(np.abs(centred[:: max(1, n // 1024)])))))
        centred *= values.dtype.type(scale)
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
            atoms=np.empty(n, np.int32),
            first=np.empty(n, np.int32),
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
        indices = np.empty((len(rows), min(width or self.indices.shape[1], len(rows) - 1)), np.uint32)
        distances = np.empty(indices.shape, np.float32)
        lengths = np.empty(len(rows), np.int32)
        radii = np.empty(len(rows), np.float32)
        run_in_threads(
            lambda start, stop: kernels.restrict_rows(
                rows[start:stop],
                local,
                self.indices,
                self.distances,
                self.lengths,
                self.radii,
                indices[start:stop],
                distances[start:stop],
                lengths[start:stop],
                radii[start:stop],
            ),
            len(rows),
            _CHUNK,
        )
        _, leader, group, sizes = np.unique(
            self.first[rows], return_index=True, return_inverse=True, return_counts=True
        )
        table = replace(
            self,
            values=self.values[rows],
            single=self.single[rows],
            indices=indices,
            distances=distances,
            lengths=lengths,
            radii=radii,
            farthest=self.farthest[rows],
            atoms=sizes[group].astype(np.int32),
            first=leader[group].astype(np.int32),
        )
        return table if unit_rank is None else replace(table, unit=table._typical_distance(unit_rank))

    def count_nearer(
        self, rows: NDArray[np.integer], epsilon: NDArray[np.float32], ratio: float = 1.0
    ) -> NDArray[np.int64]:
        """Number of samples strictly nearer than a radius, also beyond the table.

        Args:
            rows: shape (r,), samples.
            epsilon: shape (r,), a radius for each.
            ratio: unit of this table over the unit of the radii.
        """
        counts = np.empty(len(rows), np.int64)
        single = np.float32(ratio)
        kernels.count_listed(self.distances, self.lengths, single, rows, epsilon, counts)
        beyond = epsilon > self.radii[rows] * single
        everyone = epsilon > self.farthest[rows] * single * np.float32(1 + 1e-6)
        counts[everyone] = self.n_samples - 1
        wanted = np.flatnonzero(beyond & ~everyone)
        if len(wanted):
            # Coincident samples share their distances: one row serves all. Sort by row, then by radius, as one number.
            sources = self.first[rows[wanted]]
            order = np.argsort((sources.astype(np.int64) << 32) | epsilon[wanted].view(np.int32))
            starts = np.flatnonzero(np.diff(sources[order], prepend=-1))
            distinct = sources[order[starts]]
            starts = np.append(starts, len(order))
            sorted_epsilon = epsilon[wanted][order]
            found = np.empty(len(order), np.int64)

            def count(start: int, stop: int) -> None:
                block, slack = self.distances_to_all(distinct[start:stop])
                kernels.count_nearer(
                    block,
                    distinct[start:stop],
                    self.values,
                    slack,
                    self.metric_code,
                    single,
                    starts[start : stop + 1],
                    sorted_epsilon,
                    found,
                )

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

        def select(start: int, stop: int) -> None:
            rows = np.arange(start, stop)
            block, slack = self.distances_to_all(rows)
            kernels.select_neighbors(
                block,
                rows,
                self.values,
                slack,
                self.metric_code,
                probe,
                rank,
                self.indices,
                self.distances,
                self.lengths,
                self.radii,
                self.farthest,
                self.atoms,
                self.first,
            )

        run_in_threads(select, n, _CHUNK)

    def _fill_from_line(self) -> None:
        order = np.argsort(self.values[:, 0], kind="stable").astype(np.int32)
        run_in_threads(
            lambda start, stop: kernels.sorted_line_neighbors(
                self.values, order, start, stop, self.indices, self.distances, self.lengths, self.radii, self.farthest
            ),
            self.n_samples,
            _CHUNK,
        )
        _, first, group, sizes = np.unique(
            self.values[:, 0], return_index=True, return_inverse=True, return_counts=True
        )
        self.atoms[:] = sizes[group]
        self.first[:] = first[group]

    def distances_to_all(self, rows: NDArray[np.integer]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Approximate distances (Euclidean: squared) of some rows to all samples, and bounds on their error.

        Called in worker threads, each with a matrix product of its own: that spares them waiting for one another.

        Args:
            rows: shape (B,), samples.

        Returns:
            Shape (B, n) distances; shape (B + 1,) absolute error bounds of the rows and, last, the bound relative to
            the distance.
        """
        n, d = self.values.shape
        block = np.empty((len(rows), n), np.float32)
        if self.metric == "chebyshev" or d <= _FEW_FEATURES:
            kernels.distance_rows(self.values, rows, self.metric_code, block)
            return block, np.append(np.zeros(len(rows)), 1e-6).astype(np.float32)
        single = self.single
        chosen = single[rows]

        def multiply() -> None:
            faiss.omp_set_num_threads(1)
            faiss.pairwise_L2sqr(d, len(rows), faiss.swig_ptr(chosen), n, faiss.swig_ptr(single), faiss.swig_ptr(block))

        in_own_thread(multiply)
        # Rounding of |a|^2 + |b|^2 - 2ab, relative to |a|^2 + |a - b|^2; largest where all features agree.
        unit = 1e-5 * max(1.0, math.sqrt(d) / 16)
        return block, np.append(unit * np.einsum("ij,ij->i", chosen, chosen), unit).astype(np.float32)
