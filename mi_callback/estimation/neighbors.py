"""The table of nearest neighbours that every estimate is read off: (n, d) values to sorted rows, by one FAISS pass."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeAlias

import faiss
import numpy as np
from numpy.typing import NDArray
from scipy.spatial.distance import cdist

from mi_callback.estimation import kernels
from mi_callback.estimation.entropy import group_rows
from mi_callback.estimation.parallel import in_own_thread, run_in_threads, run_shared

__all__ = [
    "LARGE",
    "Buffers",
    "Metric",
    "NeighborTable",
    "balance_rank",
    "default_width",
    "rows_per_task",
    "typical",
    "width_for_classes",
]

Metric = Literal["euclidean", "chebyshev"]

LARGE = 2**23
"""Values, n times d, beyond which float32 ones stay as they are: 60,000 images would take 380 MB more in float64."""

_ROWS, _DISTANCES = 128, 2**26  # rows a task, and their distances to all samples, which each thread holds at once
_ROWS_TO_FILL, _ROOM = 256, 4  # rows a task of filling; candidates there is room for, in table widths
_TILE = 2_048  # samples a matrix product: it stays in the cache while it is looked through
_FEW_FEATURES = 4  # up to here differences are as quick as a matrix product, and exact
_PROBES, _SAMPLES_A_PROBE = 256, 64  # distances looked at to guess a row's radius: so many at least, one in so many
_MODERATE = 2.0**20  # magnitude whose squares are far from the ends of the range of floats
_MOST_FOR_MEDIAN = 2**16  # samples that a coordinate's middle is told from: it only keeps the values small


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


def rows_per_task(n_samples: int) -> int:
    """Rows that a task takes: 128 up to 524,288 samples, then fewer, so that their distances keep to 256 MB."""
    return max(8, min(_ROWS, _DISTANCES // n_samples))


def typical(distances: NDArray[np.float64]) -> float:
    """Median of distances; where more than half are zero the mean of the others, and 1 where all are."""
    median = float(np.median(distances)) if distances.size else 0.0
    if median > 0:
        return median
    positive = distances[distances > 0]
    return float(positive.mean()) if positive.size else 1.0


Samples: TypeAlias = NDArray[np.integer] | slice


class Buffers(threading.local):
    """Memory for distances to all samples, an array a thread: 256 MB that are mapped anew take as long as a product."""

    def __init__(self) -> None:
        self._array = np.empty(0, np.float32)

    def empty(self, n_rows: int, n: int) -> NDArray[np.float32]:
        """An array of shape (n_rows, n) with anything in it; what the thread had before is overwritten."""
        if self._array.size < n_rows * n:
            self._array = np.empty(n_rows * n, np.float32)
        return self._array[: n_rows * n].reshape(n_rows, n)


@dataclass(frozen=True, slots=True, eq=False)
class NeighborTable:
    """Sorted nearest neighbours among n samples of each of R samples, the rows: all of them, or evaluation points.

    Attributes:
        values: shape (n, d), centred and scaled by a power of two; distances are taken between them. In float64, for
            features on unlike scales and for clusters far apart; large arrays of float32 stay as they are.
        single: shape (n, d), the values in float32, for matrix products.
        metric: "euclidean" or "chebyshev".
        samples: shape (R,), ascending: the sample of each row.
        indices: shape (R, m): neighbours of each sample in order of distance, itself left out. Unsigned, which spares
            the kernels a test for negative places.
        distances: shape (R, m), float32, ascending.
        lengths: shape (R,): entries of a row in use.
        radii: shape (R,): every sample strictly nearer than this is listed.
        farthest: shape (R,): no sample is farther than this.
        copies: shape (R,): number of samples that coincide with each, itself included.
        leaders: shape (n,): the first of the samples that coincide with each.
        unit: distance that counts as 1 beside other tables; off the balanced scale, 1 in the values as given. Distances
            are not divided by it: rounded once, they equal what the kernels compute for pairs that are not listed.
    """

    values: NDArray[np.floating]
    single: NDArray[np.float32]
    metric: Metric
    samples: NDArray[np.int64]
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
        cls,
        values: NDArray[np.floating],
        width: int,
        metric: Metric = "euclidean",
        *,
        unit_rank: int | None = None,
        points: NDArray[np.integer] | None = None,
    ) -> NeighborTable:
        """Find nearest neighbours.

        Args:
            values: shape (n, d), finite.
            width: number of neighbours m to list, at most n - 1.
            metric: "euclidean" or "chebyshev".
            unit_rank: take the typical distance to the neighbour of this rank for unit (the balanced scale).
            points: shape (R,), ascending: the samples whose neighbours are wanted; None for all.
        """
        n = len(values)
        width = min(width, n - 1)
        samples = np.arange(n) if points is None else np.asarray(points, dtype=np.int64)
        if values.dtype != np.float32 or values.size <= LARGE:
            values = np.asarray(values, dtype=np.float64)
        # Medians keep the bulk of heavy-tailed features near zero, where floats are dense.
        middle = np.median(values[:: max(1, n // _MOST_FOR_MEDIAN)], axis=0)
        magnitude = typical(np.abs(values[:: max(1, n // 1024)] - middle).astype(np.float64))
        if values.dtype == np.float32 and np.abs(middle).max() < magnitude < _MODERATE:  # scores: no copy of so many
            centred, scale = np.ascontiguousarray(values), 1.0
        else:
            centred = np.ascontiguousarray(values - middle)
            # A power of two near the typical magnitude loses no digit, and keeps squares within the range of floats.
            scale = float(2.0 ** -np.round(np.log2(magnitude)))
            centred *= centred.dtype.type(scale)
        with np.errstate(over="ignore"):  # an outlier beyond all floats is infinitely far
            single = centred.astype(np.float32, copy=False)
        table = cls(
            values=centred,
            single=single,
            metric=metric,
            samples=samples,
            indices=np.empty((len(samples), width), np.uint32),
            distances=np.empty((len(samples), width), np.float32),
            lengths=np.empty(len(samples), np.int32),
            radii=np.empty(len(samples), np.float32),
            farthest=np.empty(len(samples), np.float32),
            copies=np.empty(len(samples), np.int32),
            leaders=np.arange(n, dtype=np.int32),
        )
        table._fill()
        return replace(table, unit=scale if unit_rank is None else table._typical_distance(unit_rank))

    @property
    def n_samples(self) -> int:
        """Number of samples n."""
        return len(self.values)

    @property
    def n_rows(self) -> int:
        """Number of rows R."""
        return len(self.samples)

    @property
    def is_complete(self) -> bool:
        """Whether every sample has a row."""
        return self.n_rows == self.n_samples

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
            samples=self.samples,
            metric=self.metric_code,
            indices=self.indices,
            distances=self.distances,
            lengths=self.lengths,
            radii=self.radii,
            farthest=self.farthest,
            copies=self.copies,
        )

    def extended(self, points: NDArray[np.integer], *, unit_rank: int | None = None) -> NeighborTable:
        """The table at more points: those rows that it lacks are looked for.

        Args:
            points: shape (Q,), ascending; all samples that the table has rows for are among them.
            unit_rank: take the typical distance to the neighbour of this rank for unit; if None the unit stays.
        """
        samples = np.asarray(points, dtype=np.int64)
        is_new = ~np.isin(samples, self.samples, assume_unique=True)

        def with_rows(table: NeighborTable, n_rows: int) -> NeighborTable:
            empty: dict[str, Any] = {name: np.empty((n_rows, *own.shape[1:]), own.dtype) for name, own in rows.items()}
            return replace(table, **empty)

        names = ("samples", "indices", "distances", "lengths", "radii", "farthest", "copies")
        rows = {name: getattr(self, name) for name in names}
        new = with_rows(self, int(is_new.sum()))
        new.samples[:] = samples[is_new]
        new = replace(new, leaders=self.leaders.copy())
        new._fill()
        table = with_rows(new, len(samples))
        for name, own in rows.items():
            getattr(table, name)[~is_new] = own
            getattr(table, name)[is_new] = getattr(new, name)
        return table if unit_rank is None else replace(table, unit=table._typical_distance(unit_rank))

    def restricted(
        self,
        part: NDArray[np.integer],
        width: int | None = None,
        unit_rank: int | None = None,
        points: NDArray[np.integer] | None = None,
    ) -> NeighborTable:
        """The table of a subset of the samples: the same rows, as far as they are in it, filtered. No search.

        Args:
            part: shape (r,), samples in ascending order.
            width: neighbours to keep, all if None.
            unit_rank: take the typical distance to the neighbour of this rank for unit; if None the unit stays.
            points: evaluation points among the subset, which a line needs: a table knows its own.
        """
        place = np.full(self.n_samples, -1, np.int32)
        place[part] = np.arange(len(part), dtype=np.int32)
        rows = part if self.is_complete else np.flatnonzero(place[self.samples] >= 0)
        samples = place[self.samples[rows]].astype(np.int64)
        if (self.leaders == np.arange(self.n_samples)).all():  # no samples coincide: nothing to sort
            leaders, copies = np.arange(len(part), dtype=np.int32), np.ones(len(rows), np.int32)
        else:
            _, leader, group, sizes = np.unique(
                self.leaders[part], return_index=True, return_inverse=True, return_counts=True
            )
            leaders, copies = leader[group].astype(np.int32), sizes[group][samples].astype(np.int32)
        shape = (len(rows), min(width or self.indices.shape[1], len(part) - 1))
        values = self.values[part]
        table = replace(
            self,
            values=values,
            single=values if values.dtype == np.float32 else self.single[part],
            samples=samples,
            indices=np.empty(shape, np.uint32),
            distances=np.empty(shape, np.float32),
            lengths=np.empty(len(rows), np.int32),
            radii=np.empty(len(rows), np.float32),
            farthest=self.farthest[rows],
            copies=copies,
            leaders=leaders,
        )
        whole, filtered = self.arrays, table.arrays
        run_in_threads(
            lambda start, stop: kernels.restrict_rows(whole, rows, place, start, stop, filtered), len(rows), _ROWS
        )
        return table if unit_rank is None else replace(table, unit=table._typical_distance(unit_rank))

    def count_nearer(
        self, rows: NDArray[np.integer], epsilon: NDArray[np.float32], ratio: float = 1.0
    ) -> NDArray[np.int64]:
        """Number of samples strictly nearer than a radius, from the distances to all samples.

        Args:
            rows: shape (r,), rows.
            epsilon: shape (r,), a radius above zero for each.
            ratio: unit of this table over the unit of the radii.
        """
        single = np.float32(ratio)
        everyone = epsilon > self.farthest[rows] * single * np.float32(1 + 1e-6)
        counts = np.full(len(rows), self.n_samples - 1, np.int64)
        wanted = np.flatnonzero(~everyone)
        if len(wanted):
            # Coincident samples share their distances: one row serves all. Row and radius as one number, each once.
            _, first, group = np.unique(self.leaders[self.samples], return_index=True, return_inverse=True)
            keys = first[group][rows[wanted]].astype(np.int64) << 32 | epsilon[wanted].view(np.int32)
            keys, place = np.unique(keys, return_inverse=True)
            sources, radii = keys >> 32, (keys & 0xFFFFFFFF).astype(np.uint32).view(np.float32)
            starts = np.flatnonzero(np.diff(sources, prepend=-1))
            distinct = sources[starts]
            starts = np.append(starts, len(keys))
            found = np.full(len(keys), -1, np.int64)  # a sample is not counted itself
            table = self.arrays

            def count(start: int, stop: int) -> None:
                chosen, of_rows = distinct[start:stop], starts[start : stop + 1]
                for first in range(0, self.n_samples, _TILE):
                    tile = slice(first, min(first + _TILE, self.n_samples))
                    distances, slack = self._distances(chosen, tile)
                    kernels.count_nearer(table, chosen, distances, first, slack, single, of_rows, radii, found)

            self.run(count, len(distinct), _ROWS, lambda first, last: [found[starts[first] : starts[last]]])
            counts[wanted] = found[place]
        return counts

    def run(
        self,
        task: Callable[[int, int], None],
        size: int,
        chunk: int,
        written: Callable[[int, int], list[NDArray[Any]]],
    ) -> None:
        """Call a task for chunks of rows: at evaluation points shared among processes, see ``run_shared``."""
        if self.is_complete:
            run_in_threads(task, size, chunk)
        else:
            run_shared(task, size, chunk, written)

    def _typical_distance(self, rank: int) -> float:
        column = self.distances[:, min(rank, self.indices.shape[1]) - 1]
        return typical(column[np.isfinite(column)].astype(np.float64))  # filtered rows can be shorter

    def _fill(self) -> None:
        """Write all rows."""
        if self.values.shape[1] == 1:
            self._fill_from_line()
        else:
            self._fill_from_tiles()

    def _fill_from_tiles(self) -> None:
        """Write all rows: candidates within a guessed radius tile by tile, then their distances, sorted."""
        n, width = self.n_samples, self.indices.shape[1]
        probes = min(n, max(_PROBES, n // _SAMPLES_A_PROBE))
        probe = np.linspace(0, n - 1, probes).astype(np.int64)
        expected = (width + 1) * probes / n
        rank = math.ceil(expected + 1.5 * math.sqrt(expected))
        roomy = min(n, _ROOM * width + _TILE)

        def fill(start: int, stop: int) -> None:
            rows = np.arange(start, stop)
            probed, slack = self._distances(rows, probe)
            probed.sort(axis=1)
            guess = np.full(len(rows), min(rank, probes - 1))
            capacity = roomy
            while len(rows):
                limits = np.maximum(probed[np.arange(len(rows)), guess], 0)
                limits[guess == probes - 1] = np.inf
                # Where the squared distances have lost too much to cancellation, or overflowed: by differences.
                lost = ~(slack[:-1] <= np.float32(0.01) * limits)
                sizes = self._write_rows(rows, limits, slack, lost, capacity)
                few, many = (sizes <= width) & (sizes < n), sizes > capacity
                guess[few] = np.minimum(probes - 1, guess[few] + np.maximum(2, guess[few] // 2))
                again = few | many
                if many.any():
                    capacity = n
                rows, probed, guess, slack = (
                    rows[again],
                    probed[again],
                    guess[again],
                    np.append(slack[:-1][again], slack[-1]),
                )

        leaders = np.empty(self.n_rows, np.int32)

        def fill_and_tell(start: int, stop: int) -> None:
            fill(start, stop)
            leaders[start:stop] = self.leaders[self.samples[start:stop]]

        of_rows = (self.indices, self.distances, self.lengths, self.radii, self.farthest, self.copies, leaders)
        chunk = _ROWS_TO_FILL if self.is_complete else _ROWS  # few rows are to keep many cores and processes busy
        self.run(fill_and_tell, self.n_rows, chunk, lambda start, stop: [a[start:stop] for a in of_rows])
        self.leaders[self.samples] = leaders
        if not self.is_complete and (self.copies > 1).any():  # samples without a row may coincide, too
            groups = group_rows(self.values)
            self.leaders[:] = groups.first[groups.inverse]

    def _write_rows(
        self,
        rows: NDArray[np.int64],
        limits: NDArray[np.float32],
        slack: NDArray[np.float32],
        lost: NDArray[np.bool_],
        capacity: int,
    ) -> NDArray[np.int64]:
        """Write rows from the candidates within limits.

        Args:
            rows: shape (B,).
            limits: shape (B,), distances (Euclidean: squared).
            slack: shape (B + 1,), bounds on errors as in a block.
            lost: shape (B,), rows whose distances are to be taken by differences.
            capacity: candidates that there is room for.

        Returns:
            Shape (B,), candidates of each row; a row of more than ``capacity`` is not as it should be.
        """
        n = self.n_samples
        absolute = np.where(lost, np.float32(0), slack[:-1])
        margins = limits + absolute + slack[-1] * limits
        candidates, sizes = np.empty((len(rows), capacity), np.uint64), np.zeros(len(rows), np.int64)
        farthest = np.zeros(len(rows), np.float32)
        for start in range(0, n, _TILE):
            tile = slice(start, min(start + _TILE, n))
            distances, _ = self._distances(rows, tile)
            if lost.any():
                distances[lost] = self._exact_distances(self.samples[rows[lost]], tile)
            kernels.gather_candidates(distances, start, margins, candidates, sizes)
            np.maximum(farthest, distances.max(axis=1), out=farthest)
        farthest += absolute + slack[-1] * farthest
        self.farthest[rows] = np.sqrt(farthest) if self.metric == "euclidean" else farthest
        kernels.select_neighbors(self.arrays, rows, limits, candidates, np.minimum(sizes, capacity))
        return sizes

    def _fill_from_line(self) -> None:
        order, table = np.argsort(self.values[:, 0], kind="stable"), self.arrays
        places = np.empty(self.n_samples, np.int64)
        places[order] = np.arange(self.n_samples)
        places = places[self.samples]
        run_in_threads(
            lambda start, stop: kernels.sorted_line_neighbors(table, order, places, start, stop), self.n_rows, _ROWS
        )
        _, leader, group, sizes = np.unique(
            self.values[:, 0], return_index=True, return_inverse=True, return_counts=True
        )
        self.copies[:] = sizes[group][self.samples]
        self.leaders[:] = leader[group]

    def _exact_distances(self, samples: NDArray[np.integer], others: Samples) -> NDArray[np.float32]:
        """Distances (Euclidean: squared) of some samples to others, by differences, so that nothing cancels."""
        with np.errstate(over="ignore"):
            between = cdist(self.values[samples], self.values[others], self.metric)
            distances: NDArray[np.float32] = between.astype(np.float32)
            if self.metric == "euclidean":
                distances *= distances  # once rounded, as the kernels' own: radii at a tie do not depend on the way
            return distances

    def _distances(
        self, rows: NDArray[np.integer], others: Samples, out: NDArray[np.float32] | None = None
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Approximate distances (Euclidean: squared) of some rows to some samples, and bounds on their error.

        Called in worker threads, each with a matrix product of its own: that spares them waiting for one another.

        Args:
            rows: shape (B,), rows of the table.
            others: s samples.
            out: shape (B, s), where to write; each row may stand farther behind the one before than it is long.

        Returns:
            Shape (B, s); and shape (B + 1,) absolute bounds on the errors of each row, and last the bound relative to
            the distance.
        """
        d = self.values.shape[1]
        samples = self.samples[rows]
        if self.metric == "chebyshev" or d <= _FEW_FEATURES:
            exact = self._exact_distances(samples, others)
            if out is not None:
                out[:] = exact
            return exact, np.append(np.zeros(len(rows)), 1e-6).astype(np.float32)
        chosen, single = self.single[samples], self.single[others]
        distances = np.empty((len(rows), len(single)), np.float32) if out is None else out

        def multiply() -> None:
            faiss.omp_set_num_threads(1)
            faiss.pairwise_L2sqr(
                d,
                len(rows),
                faiss.swig_ptr(chosen),
                len(single),
                faiss.swig_ptr(single),
                faiss.swig_ptr(distances[0]),
                d,
                d,
                distances.strides[0] // distances.itemsize,
            )

        in_own_thread(multiply)
        # Rounding of |a|^2 + |b|^2 - 2ab, relative to |a|^2 + |a - b|^2; largest where all features agree.
        unit = 1e-5 * max(1.0, math.sqrt(d) / 16)
        return distances, np.append(unit * np.einsum("ij,ij->i", chosen, chosen), unit).astype(np.float32)

    def distances_to_all(self, rows: NDArray[np.integer], buffers: Buffers) -> kernels.Block:
        """Approximate distances (Euclidean: squared) of some rows to all samples, and bounds on their error.

        Args:
            rows: shape (B,), rows of the table.
            buffers: where they are written: good until the same thread asks for others.
        """
        n = self.n_samples
        block = buffers.empty(len(rows), n)
        for start in range(0, n, _TILE):
            tile = slice(start, min(start + _TILE, n))
            _, slack = self._distances(rows, tile, block[:, tile])
        at = rows.astype(np.int64, copy=False)  # one type of indices: one specialisation of each kernel
        return kernels.Block(at, block, slack)
