"""Mutual information read off a neighbour table: local values per sample, and means under permutations, in nats.

Continuous targets: Kraskov, Stoegbauer & Grassberger (2004), first estimator (doi:10.1103/PhysRevE.69.066138, eq. 8).
Class labels: Ross (2014), doi:10.1371/journal.pone.0087357. Coincident samples: Gao et al. (2017), arXiv:1709.06212.

The same without tables, in a dozen lines of numpy, is ``tests/naive.py``, which the tests compare with.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import digamma

from mi_callback.estimation import kernels
from mi_callback.estimation.neighbors import Buffers, NeighborTable, rows_per_task
from mi_callback.estimation.parallel import run_in_threads
from mi_callback.estimation.permutation import BLOCK, Permutations
from mi_callback.estimation.targets import LabelTarget, ScalarTarget, Target

__all__ = ["Reading", "digamma_table", "greatest", "read_table"]

_BATCH = 1 + 13 * BLOCK  # permutations at once, the identity among them
_UNSURE = 0.02  # nats that neighbours may read too much without a standard error showing it: of classes far apart
_BATCH_ENTRIES = 2**27  # entries of an array of permutations at once: 512 MB; a row's distances are needed once a batch


@dataclass(frozen=True, slots=True, eq=False)
class Reading:
    """What was read, and the same under permutations, in nats.

    Attributes:
        local: shape (R,): the terms whose mean is the estimate, one for each row of the table.
        null: shape (P,): estimates under the permutations.
        n_completed: rows that reached beyond a table and were completed exactly.
        stderr: standard error of the estimate; NaN if it was not asked for, or n is too small for it.
        half: mean of the estimates on halves of the samples; NaN likewise.
        fitted_space: names of the spaces fitted to the samples in which it was read, or of the projection; None if
            nothing was fitted.
        is_bound: whether it is a held-out lower bound, which permutations need not be taken off from.
        certified: the most that bounds and projections, which err downwards alone, leave below three standard errors;
            of what neighbours read .02 nats less.
    """

    local: NDArray[np.float64]
    null: NDArray[np.float64]
    n_completed: int
    stderr: float = math.nan
    half: float = math.nan
    fitted_space: str | None = None
    is_bound: bool = False
    certified: float = -math.inf


def digamma_table(n: int) -> NDArray[np.float64]:
    """Digamma of 0, where it has no value, to n + 1."""
    return np.concatenate([[np.nan], digamma(np.arange(1, n + 2))])


def read_table(table: NeighborTable, target: Target, k: int, permutations: Permutations | None = None) -> Reading:
    """Estimate the mutual information of a table's samples and a target.

    Args:
        table: neighbours of R of n samples, all of them or evaluation points.
        target: what goes with each; under a permutation p sample i is paired with ``target[p[i]]``. Every class of a
            LabelTarget has two members at least; a table has rows for the same samples as ``table``.
        k: number of neighbours, less than n.
        permutations: P permutations of the n samples; if there are evaluation points, of them among themselves.
    """
    n, n_rows = table.n_samples, table.n_rows
    psi = digamma_table(n)
    local = np.empty(n_rows)
    permutations = permutations or Permutations(n, 0, 0)
    size = _batch_size(n)
    rows_a_task = rows_per_task(n)
    totals: list[NDArray[np.float64]] = []
    completed = 0
    for start in range(0, 1 + len(permutations), size):
        stop = min(start + size, 1 + len(permutations))
        nothing = np.full((1, 1), -1, np.int32)
        beyond = not isinstance(target, LabelTarget)
        out = kernels.Output(
            local=np.empty(n_rows) if totals else local,
            sums=np.zeros((-(-n_rows // rows_a_task), stop - start)),
            completed=np.empty((n_rows, stop - start), np.float32),
            x_counts=np.full((n_rows, stop - start), -1, np.int32) if beyond else nothing,
            y_counts=np.full((n_rows, stop - start), -1, np.int32) if beyond else nothing,
        )
        read, pairing = _reader(table, target, k, psi, permutations, start, stop)
        table.run(partial(read, out), n_rows, rows_a_task, partial(_written, out, rows_a_task))
        total = out.sums.sum(axis=0)
        completed += int(np.count_nonzero(out.completed >= 0))
        if not isinstance(pairing, kernels.Classes):
            rows, which = np.nonzero(out.x_counts >= 0)
            terms = _terms_beyond(table, target, k, psi, pairing, out, rows, which)
            total += np.bincount(which, weights=terms, minlength=stop - start)
            out.local[rows[which == 0]] = terms[which == 0]
        totals.append(total)
    constant = digamma(n)
    return Reading(local + constant, np.concatenate(totals)[1:] / n_rows + constant, completed)


def _written(out: kernels.Output, rows_a_task: int, first: int, last: int) -> list[NDArray[Any]]:
    """What is written when rows are read."""
    of_rows = (out.local, out.completed, out.x_counts, out.y_counts)
    return [out.sums[first // rows_a_task : -(-last // rows_a_task)], *(array[first:last] for array in of_rows)]


def _terms_beyond(
    table: NeighborTable,
    target: Target,
    k: int,
    psi: NDArray[np.float64],
    pairing: kernels.Line | kernels.Partners,
    out: kernels.Output,
    rows: NDArray[np.intp],
    which: NDArray[np.intp],
) -> NDArray[np.float64]:
    """Terms of rows that reached beyond a table, under some permutations: what is within all of them, in one pass."""
    radii, x_counts, y_counts = (a[rows, which] for a in (out.completed, out.x_counts, out.y_counts))
    missing = x_counts == 0
    if missing.any():
        x_counts[missing] = table.count_nearer(rows[missing], radii[missing]) + 1
    missing = y_counts == 0
    if isinstance(target, NeighborTable) and isinstance(pairing, kernels.Partners) and missing.any():
        targets = pairing.rows[rows[missing], which[missing]]
        y_counts[missing] = target.count_nearer(targets, radii[missing], _ratio(table, target)) + 1
    return np.asarray(psi[k] - psi[x_counts] - psi[y_counts])


def greatest(readings: Sequence[Reading]) -> Reading:
    """The greatest of several readings of the same information, with the null of the greatest.

    Each is held against its own mean under permutations before they are compared, unless it is a bound. What is left
    of the comparison under independence, the winner's curse, is in the null, and so in its mean.

    Args:
        readings: of the same rows, under the same permutations.
    """
    shifts = [0.0 if one.is_bound or not one.null.size else float(one.null.mean()) for one in readings]
    values = [float(one.local.mean()) - shift for one, shift in zip(readings, shifts, strict=True)]
    best = int(np.argmax(values))
    null = np.max([one.null - shift for one, shift in zip(readings, shifts, strict=True)], axis=0)
    others = (
        value - 3 * one.stderr - (0 if one.is_bound else _UNSURE)
        for value, one in zip(values, readings, strict=True)
        if one.fitted_space
    )
    return replace(readings[best], null=null + shifts[best], certified=max(others, default=-math.inf))


def _batch_size(n: int) -> int:
    """Permutations at once: the identity and whole blocks."""
    return min(_BATCH, 1 + BLOCK * max(1, (_BATCH_ENTRIES // n - 1) // BLOCK))


_Pairing = kernels.Line | kernels.Classes | kernels.Partners
_Read = Callable[[kernels.Output, int, int], None]


def _reader(
    table: NeighborTable,
    target: Target,
    k: int,
    psi: NDArray[np.float64],
    permutations: Permutations,
    start: int,
    stop: int,
) -> tuple[_Read, _Pairing]:
    """The function that reads some rows against a kind of target, under permutations start to stop, and their pairs."""
    side = table.arrays
    rows_a_task = rows_per_task(table.n_samples)
    buffers = Buffers()

    def of_task(out: kernels.Output, first: int) -> kernels.Output:
        """What a kernel writes: the sums of a task are its own, so that they do not depend on the threads."""
        return out._replace(sums=out.sums[first // rows_a_task])

    if isinstance(target, LabelTarget):
        classes = _classes(target, permutations, start, stop)

        def read_labels(out: kernels.Output, first: int, last: int) -> None:
            kernels.scan_labels(side, classes, psi, k, first, last, of_task(out, first))
            rows = first + np.flatnonzero((out.completed[first:last] >= 0).any(axis=1))
            if len(rows):  # seldom: rare classes, and samples among those of another class
                block = table.distances_to_all(rows, buffers)
                kernels.complete_labels(side, classes, psi, k, block, of_task(out, first))

        return read_labels, classes
    if isinstance(target, ScalarTarget):
        line = _line(table, target, permutations, start, stop)

        def read_scalar(out: kernels.Output, first: int, last: int) -> None:
            block = _block(table, out, first, last, buffers)
            kernels.scan_scalar(side, line, psi, k, block, of_task(out, first))

        return read_scalar, line
    other, partners = target.arrays, _partners(table, target, permutations, start, stop)

    def read_table_target(out: kernels.Output, first: int, last: int) -> None:
        block = _block(table, out, first, last, buffers)
        kernels.scan_table(side, other, partners, psi, k, block, of_task(out, first))

    return read_table_target, partners


def _pair(
    permutations: Permutations,
    samples: NDArray[np.integer],
    targets: NDArray[np.integer],
    start: int,
    stop: int,
    use: Callable[[slice, NDArray[np.int32], NDArray[np.int32]], None],
) -> None:
    """Hand on what goes with samples and targets, a block of permutations at a time, in threads."""

    def pair(first: int, last: int) -> None:
        use(slice(first, last), *permutations.pairs(samples, targets, start + first, start + last))

    run_in_threads(pair, stop - start, BLOCK)


def _classes(target: LabelTarget, permutations: Permutations, start: int, stop: int) -> kernels.Classes:
    n = target.n_samples
    labels, members = np.empty((stop - start, n), np.int32), np.empty((stop - start, n), np.int32)

    def use(which: slice, targets_of: NDArray[np.int32], samples_of: NDArray[np.int32]) -> None:
        labels[which] = target.codes[targets_of]
        members[which] = samples_of

    _pair(permutations, np.arange(n), np.argsort(target.codes, kind="stable"), start, stop, use)
    return kernels.Classes(labels, members, np.concatenate([[0], np.cumsum(target.sizes)]))


def _line(
    table: NeighborTable, target: ScalarTarget, permutations: Permutations, start: int, stop: int
) -> kernels.Line:
    positions = np.empty((table.n_rows, stop - start), np.int32)
    samples = np.empty((stop - start, table.n_samples), np.int32)

    def use(which: slice, targets_of: NDArray[np.int32], samples_of: NDArray[np.int32]) -> None:
        positions[:, which] = target.positions[targets_of].T
        samples[which] = samples_of

    _pair(permutations, table.samples, target.order, start, stop, use)
    return kernels.Line(target.values[target.order] * _ratio(table, target), target.copies, positions, samples)


def _partners(
    table: NeighborTable, target: NeighborTable, permutations: Permutations, start: int, stop: int
) -> kernels.Partners:
    assert np.array_equal(table.samples, target.samples)
    n = table.n_samples
    rows = np.empty((table.n_rows, stop - start), np.int32)
    samples, targets = np.empty((2, stop - start, n), np.int32)
    row_of = np.empty(n, np.int32)
    row_of[table.samples] = np.arange(table.n_rows, dtype=np.int32)

    def use(which: slice, targets_of: NDArray[np.int32], samples_of: NDArray[np.int32]) -> None:
        rows[:, which] = row_of[targets_of[:, table.samples]].T
        samples[which], targets[which] = samples_of, targets_of

    _pair(permutations, np.arange(n), np.arange(n), start, stop, use)
    return kernels.Partners(rows, samples, targets, np.float32(_ratio(table, target)))


def _block(table: NeighborTable, out: kernels.Output, start: int, stop: int, buffers: Buffers) -> kernels.Block:
    """Rows to read, with their distances to all samples where most of them need those, and often.

    Under one permutation few do; and at points among many samples these distances would not stay in any cache.
    """
    rows = np.arange(start, stop)
    if table.is_complete and out.completed.shape[1] > 1:
        return table.distances_to_all(rows, buffers)
    return kernels.Block(rows, np.empty((0, 0), np.float32), np.empty(0, np.float32))


def _ratio(table: NeighborTable, target: ScalarTarget | NeighborTable) -> float:
    """Turns distances of the target into the unit of the table; what is past the range of floats hardly matters."""
    return min(max(table.unit / target.unit, 1e-30), 1e30)
