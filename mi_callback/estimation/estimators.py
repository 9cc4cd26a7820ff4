"""Mutual information read off a neighbour table: local values per sample, and means under permutations, in nats.

Continuous targets: Kraskov, Stoegbauer & Grassberger (2004), first estimator (doi:10.1103/PhysRevE.69.066138, eq. 8).
Class labels: Ross (2014), doi:10.1371/journal.pone.0087357. Coincident samples: Gao et al. (2017), arXiv:1709.06212.

The same without tables, in a dozen lines of numpy, is ``tests/naive.py``, which the tests compare with.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray
from scipy.special import digamma

from mi_callback.estimation import kernels
from mi_callback.estimation.neighbors import NeighborTable
from mi_callback.estimation.parallel import run_in_threads
from mi_callback.estimation.permutation import Permutations
from mi_callback.estimation.targets import LabelTarget, ScalarTarget, Target

__all__ = ["Reading", "digamma_table", "read_table"]

_BATCH = 101  # permutations at once, the identity among them
_BATCH_ENTRIES = 2**23  # entries of an array of permutations at once: bounds memory
_CHUNK = 128  # rows a task; also the grouping of sums, so that they do not depend on the number of threads


@dataclass(frozen=True, slots=True, eq=False)
class Reading:
    """What tables and targets say, in nats.

    Attributes:
        local: shape (n,): the terms whose mean is the estimate.
        null: shape (P,): estimates under the permutations.
        n_completed: rows that reached beyond a table and were completed exactly.
        stderr: standard error of the estimate; NaN if it was not asked for, or n is too small for it.
        half: mean of the estimates on halves of the samples; NaN likewise.
        fitted_space: names of the spaces fitted to the samples in which it was read; None if nothing was fitted.
    """

    local: NDArray[np.float64]
    null: NDArray[np.float64]
    n_completed: int
    stderr: float = math.nan
    half: float = math.nan
    fitted_space: str | None = None


def digamma_table(n: int) -> NDArray[np.float64]:
    """Digamma of 0, where it has no value, to n + 1."""
    return np.concatenate([[np.nan], digamma(np.arange(1, n + 2))])


def read_table(table: NeighborTable, target: Target, k: int, permutations: Permutations | None = None) -> Reading:
    """Estimate the mutual information of a table's samples and a target.

    Args:
        table: neighbours of n samples.
        target: what goes with each; under a permutation p sample i is paired with ``target[p[i]]``. Every class of a
            LabelTarget has two members at least.
        k: number of neighbours, less than n.
        permutations: P permutations of the n samples.
    """
    n = table.n_samples
    psi = digamma_table(n)
    local = np.empty(n)
    totals: list[NDArray[np.float64]] = []
    completed = 0
    for batch in _batches(n, permutations):
        read = _reader(table, target, k, psi, batch)
        out = kernels.Output(
            local=np.empty(n) if totals else local,
            sums=np.zeros((-(-n // _CHUNK), len(batch))),
            completed=np.empty(batch.T.shape, np.float32),
            x_counts=np.zeros(batch.T.shape if isinstance(target, NeighborTable) else (1, 1), np.int32),
        )
        run_in_threads(partial(read, out), n, _CHUNK)
        total = out.sums.sum(axis=0)
        completed += int(np.count_nonzero(out.completed >= 0))
        if isinstance(target, NeighborTable):
            # Rows that reached beyond the target's table: one pass counts the targets within all of them.
            rows, which = np.nonzero(out.x_counts)
            nearer = target.count_nearer(batch[which, rows], out.completed[rows, which], _ratio(table, target))
            terms = psi[k] - psi[out.x_counts[rows, which]] - psi[nearer + 1]
            total += np.bincount(which, weights=terms, minlength=len(batch))
            out.local[rows[which == 0]] = terms[which == 0]
        totals.append(total)
    constant = digamma(n)
    return Reading(local + constant, np.concatenate(totals)[1:] / n + constant, completed)


def _batches(n: int, permutations: Permutations | None) -> Iterator[NDArray[np.int32]]:
    """The identity and then the permutations, a batch at a time."""
    identity = np.arange(n, dtype=np.int32)[None]
    total = len(permutations) if permutations is not None else 0
    size = max(2, min(_BATCH, _BATCH_ENTRIES // n))
    stop = min(size - 1, total)
    yield identity if permutations is None else np.concatenate([identity, permutations.batch(0, stop)])
    while permutations is not None and stop < total:
        start, stop = stop, min(stop + size, total)
        yield permutations.batch(start, stop)


def _reader(
    table: NeighborTable, target: Target, k: int, psi: NDArray[np.float64], batch: NDArray[np.int32]
) -> Callable[[kernels.Output, int, int], None]:
    """The function that reads rows start to stop against a kind of target, permuted by a batch of shape (P, n)."""
    side = table.arrays
    if isinstance(target, LabelTarget):
        labels = target.codes[batch]
        members = np.argsort(labels, axis=1, kind="stable").astype(np.int32)
        classes = kernels.Classes(labels, members, np.concatenate([[0], np.cumsum(target.sizes)]))

        def read_labels(out: kernels.Output, start: int, stop: int) -> None:
            kernels.scan_labels(side, classes, psi, k, start, stop, _of_chunk(out, start))
            rows = start + np.flatnonzero((out.completed[start:stop] >= 0).any(axis=1))
            if len(rows):  # seldom: rare classes, and samples among those of another class
                block = table.distances_to_all(rows)
                kernels.complete_labels(side, classes, psi, k, block, _of_chunk(out, start))

        return read_labels
    if isinstance(target, ScalarTarget):
        positions = target.positions[batch]
        line = kernels.Line(
            values=target.values[target.order] * _ratio(table, target),
            copies=target.copies,
            positions=np.ascontiguousarray(positions.T),
            samples=_inverted(positions),
        )

        def read_scalar(out: kernels.Output, start: int, stop: int) -> None:
            for block in _passes(table, out, start, stop):
                kernels.scan_scalar(side, line, psi, k, block, _of_chunk(out, start))

        return read_scalar
    other = target.arrays
    partners = kernels.Partners(np.ascontiguousarray(batch.T), _inverted(batch), np.float32(_ratio(table, target)))

    def read_table_target(out: kernels.Output, start: int, stop: int) -> None:
        for block in _passes(table, out, start, stop):
            kernels.scan_table(side, other, partners, psi, k, block, _of_chunk(out, start))

    return read_table_target


def _of_chunk(out: kernels.Output, start: int) -> kernels.Output:
    """What a kernel writes: the sums of a chunk are its own."""
    return out._replace(sums=out.sums[start // _CHUNK])


def _passes(table: NeighborTable, out: kernels.Output, start: int, stop: int) -> Iterator[kernels.Block]:
    """Rows to read, with their distances to all samples; under many permutations most rows need those.

    Under one permutation few do: all are tried without distances first, and then those that had to be left.
    """
    rows = np.arange(start, stop)
    if out.completed.shape[1] == 1:
        yield kernels.Block(rows, np.empty((0, 0), np.float32), np.empty(0, np.float32))
        rows = rows[out.completed[start:stop, 0] == np.inf]
    if len(rows):
        yield table.distances_to_all(rows)


def _ratio(table: NeighborTable, target: ScalarTarget | NeighborTable) -> float:
    """Turns distances of the target into the unit of the table; what is past the range of floats hardly matters."""
    return min(max(table.unit / target.unit, 1e-30), 1e30)


def _inverted(permutations: NDArray[np.int32]) -> NDArray[np.int32]:
    """Inverse of each row, a permutation."""
    inverses = np.empty_like(permutations)
    np.put_along_axis(inverses, permutations, np.arange(permutations.shape[1], dtype=np.int32)[None], axis=1)
    return inverses
