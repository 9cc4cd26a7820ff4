"""Mutual information read off a neighbour table: local values per sample, and means under permutations, in nats.

Continuous targets: Kraskov, Stoegbauer & Grassberger (2004), first estimator (doi:10.1103/PhysRevE.69.066138, eq. 8).
Class labels: Ross (2014), doi:10.1371/journal.pone.0087357. Coincident samples: Gao et al. (2017), arXiv:1709.06212.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import digamma

from mi_callback.estimation import kernels
from mi_callback.estimation.neighbors import NeighborTable
from mi_callback.estimation.parallel import run_in_threads
from mi_callback.estimation.permutation import Permutations
from mi_callback.estimation.targets import LabelTarget, ScalarTarget, Target

__all__ = ["Reading", "read_table"]

_BATCH = 101  # permutations at once, the identity among them
_BATCH_ENTRIES = 2**22  # entries of an array of permutations at once: bounds memory
_CHUNK = 128  # rows a task; also the grouping of sums, so that they do not depend on the number of threads


@dataclass(frozen=True, slots=True, eq=False)
class Reading:
    """What a table and a target say, in nats.

    Attributes:
        local: shape (n,): the terms whose mean is the estimate.
        null: shape (P,): estimates under the permutations.
        n_completed: rows that reached beyond a table and were completed exactly.
    """

    local: NDArray[np.float64]
    null: NDArray[np.float64]
    n_completed: int


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
    psi = np.concatenate([[np.nan], digamma(np.arange(1, n + 2))])
    local = np.empty(n)
    totals: list[NDArray[np.float64]] = []
    completed = 0
    for batch in _batches(n, permutations):
        scan, complete = _prepare(table, target, k, psi, batch)
        scanned = np.empty(n) if totals else local
        bounds = np.empty(batch.shape, np.float32)
        # Whoever completes a row against a table may have to leave it until its targets are counted.
        x_counts = np.zeros(batch.shape, np.int32) if isinstance(target, NeighborTable) else None
        sums = np.zeros((-(-n // _CHUNK), len(batch), 2))

        def task(start: int, stop: int, scan: _Scan = scan, complete: _Complete = complete,
                 scanned: NDArray[np.float64] = scanned, sums: NDArray[np.float64] = sums,
                 bounds: NDArray[np.float32] = bounds,
                 x_counts: NDArray[np.int32] | None = x_counts) -> None:  # fmt: skip
            finished, rest = sums[start // _CHUNK].T
            scan(start, stop, scanned, finished, bounds)
            rows = start + np.flatnonzero((bounds[:, start:stop] >= 0).any(axis=0))
            if len(rows):
                block, slack = table.distances_to_all(rows)
                complete(block, rows, slack, scanned, rest, bounds, x_counts)

        run_in_threads(task, n, _CHUNK)
        total = sums.sum(axis=(0, 2))
        completed += int(np.count_nonzero(bounds >= 0))
        if x_counts is not None and isinstance(target, NeighborTable):
            which, rows = np.nonzero(x_counts)
            nearer = target.count_nearer(batch[which, rows], bounds[which, rows], table.unit / target.unit)
            terms = psi[k] - psi[x_counts[which, rows]] - psi[nearer + 1]
            total += np.bincount(which, weights=terms, minlength=len(batch))
            scanned[rows[which == 0]] = terms[which == 0]
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


_Scan = Callable[[int, int, NDArray[np.float64], NDArray[np.float64], NDArray[np.float32]], None]
_Complete = Callable[
    [
        NDArray[np.float32],
        NDArray[np.intp],
        NDArray[np.float32],
        NDArray[np.float64],
        NDArray[np.float64],
        NDArray[np.float32],
        NDArray[np.int32] | None,
    ],
    None,
]


def _prepare(
    table: NeighborTable, target: Target, k: int, psi: NDArray[np.float64], batch: NDArray[np.int32]
) -> tuple[_Scan, _Complete]:
    """The kernels for a kind of target, with what they need of a batch of permutations, shape (P, n)."""
    side = (table.indices, table.distances, table.lengths, table.radii, table.atoms, table.first)
    x, metric, atoms, first = table.values, table.metric_code, table.atoms, table.first
    if isinstance(target, LabelTarget):
        labels = target.codes[batch]
        members = np.argsort(labels, axis=1, kind="stable").astype(np.int32)
        classes = (labels, members, np.concatenate([[0], np.cumsum(target.sizes)]), psi, k)
        return (
            lambda start, stop, *out: kernels.scan_labels(*side, *classes, start, stop, *out),
            lambda block, rows, slack, local, sums, bounds, _: kernels.complete_labels(
                block, rows, x, metric, slack, atoms, first, *classes, local, sums, bounds
            ),
        )
    if isinstance(target, ScalarTarget):
        line = target.values[target.order] * (table.unit / target.unit)
        positions = target.positions[batch]
        values = (positions, _inverted(positions), line, target.atoms, psi, k)
        return (
            lambda start, stop, *out: kernels.scan_scalar(*side, *values, start, stop, _scratch(table), *out),
            lambda block, rows, slack, local, sums, bounds, _: kernels.complete_scalar(
                block, rows, x, metric, slack, atoms, first, *values, local, sums, bounds
            ),
        )
    other = (target.indices, target.distances, target.lengths, target.radii, target.atoms, target.first)
    pairing = (np.float32(table.unit / target.unit), batch, _inverted(batch), psi, k)
    return (
        lambda start, stop, *out: kernels.scan_table(*side, *other, *pairing, start, stop, _scratch(table), *out),
        lambda block, rows, slack, local, sums, bounds, x_counts: kernels.complete_table(
            block, rows, x, metric, slack, atoms, first, target.values, target.metric_code, *other, *pairing,
            local, sums, bounds, x_counts,
        ),
    )  # fmt: skip


def _inverted(permutations: NDArray[np.int32]) -> NDArray[np.int32]:
    """Inverse of each row, a permutation."""
    inverses = np.empty_like(permutations)
    np.put_along_axis(inverses, permutations, np.arange(permutations.shape[1], dtype=np.int32)[None], axis=1)
    return inverses


def _scratch(table: NeighborTable) -> NDArray[np.float32]:
    return np.full(table.n_samples, np.inf, np.float32)
