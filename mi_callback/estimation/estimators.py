"""Mutual information read off a neighbour table: local values per sample, and means under permutations, in nats.

Continuous targets: Kraskov, Stoegbauer & Grassberger (2004), first estimator (doi:10.1103/PhysRevE.69.066138, eq. 8).
Class labels: Ross (2014), doi:10.1371/journal.pone.0087357. Coincident samples: Gao et al. (2017), arXiv:1709.06212.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields, replace

import numpy as np
from numpy.typing import NDArray
from scipy.special import digamma

from mi_callback.estimation import kernels
from mi_callback.estimation.neighbors import NeighborTable
from mi_callback.estimation.parallel import run_in_threads
from mi_callback.estimation.permutation import Permutations
from mi_callback.estimation.targets import LabelTarget, ScalarTarget, Target

__all__ = ["Reading", "read_table"]

_BATCH = 32  # permutations at once: bounds memory and keeps a row chunk in cache
_CHUNK = 256  # rows a task; also the grouping of sums, so that they do not depend on the number of threads


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


def read_table(
    table: NeighborTable, target: Target, k: int, permutations: Permutations | None = None
) -> Reading:
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
    totals = []
    unfinished = []
    for batch in _batches(n, permutations):
        if isinstance(target, ScalarTarget):
            scan, complete = _scalar(table, target, k, psi, batch)
        elif isinstance(target, LabelTarget):
            scan, complete = _labels(table, target, k, psi, batch)
        else:
            scan, complete = _table(table, target, k, psi, batch)
        scanned = np.empty(n) if totals else local
        pending = np.empty(batch.shape, np.float32)
        sums = np.empty((-(-n // _CHUNK), len(batch)))
        run_in_threads(
            lambda start, stop, scan=scan, scanned=scanned, sums=sums, pending=pending: scan(
                start, stop, scanned, sums[start // _CHUNK], pending
            ),
            n,
            _CHUNK,
        )
        which, rows = np.nonzero(pending >= 0)
        unfinished.append(complete(which, rows, pending[which, rows]).shifted(sum(map(len, totals))))
        totals.append(sums.sum(axis=0))
    total = np.concatenate(totals)
    rest = _Unfinished.joined(unfinished)
    if len(rest.rows):
        terms = rest.terms(table, target, psi)
        total += np.bincount(rest.which, weights=terms, minlength=len(total))
        local[rest.rows[rest.which == 0]] = terms[rest.which == 0]
    constant = digamma(n)
    return Reading(local=local + constant, null=total[1:] / n + constant, n_completed=len(rest.rows))


@dataclass(frozen=True, slots=True, eq=False)
class _Unfinished:
    """Rows whose radius is known and reaches beyond the table, so that neighbours are still to be counted.

    They wait for those of the other permutations: one pass counts for all of them.

    Attributes:
        which, rows: shape (r,), permutation and sample.
        partners: shape (r,), the sample that the target comes from.
        epsilon: shape (r,), radius.
        joint: shape (r,), samples that coincide on both sides, itself included.
        neighbors: shape (r,), the number of neighbours k that the radius reaches to.
        y_counts: shape (r,), neighbours within the radius on the target's side, plus one; 0 where it has a table to count in.
        y_atoms: shape (r,), samples that coincide on the target's side, itself included.
    """

    which: NDArray[np.intp]
    rows: NDArray[np.intp]
    partners: NDArray[np.integer]
    epsilon: NDArray[np.float32]
    joint: NDArray[np.int64]
    neighbors: NDArray[np.int64]
    y_counts: NDArray[np.int64]
    y_atoms: NDArray[np.integer]

    def shifted(self, by: int) -> _Unfinished:
        """The same, with permutations counted from a later one."""
        return replace(self, which=self.which + by)

    @classmethod
    def joined(cls, parts: list[_Unfinished]) -> _Unfinished:
        """All rows of several."""
        return cls(*(np.concatenate([getattr(part, field.name) for part in parts]) for field in fields(cls)))

    def terms(self, table: NeighborTable, target: Target, psi: NDArray[np.float64]) -> NDArray[np.float64]:
        """Their terms of the estimate."""
        x_counts = table.count_nearer(self.rows, self.epsilon) + 1
        y_counts = self.y_counts
        if isinstance(target, NeighborTable):
            y_counts = target.count_nearer(self.partners, self.epsilon, table.unit / target.unit) + 1
        return np.where(
            self.epsilon == 0,
            psi[self.joint] - psi[table.atoms[self.rows]] - psi[self.y_atoms],
            psi[self.neighbors] - psi[x_counts] - psi[y_counts],
        )


def _batches(n: int, permutations: Permutations | None) -> Iterator[NDArray[np.int32]]:
    """The identity and then the permutations, a batch at a time."""
    identity = np.arange(n, dtype=np.int32)[None]
    total = len(permutations) if permutations is not None else 0
    stop = min(_BATCH - 1, total)
    yield identity if permutations is None else np.concatenate([identity, permutations.batch(0, stop)])
    while permutations is not None and stop < total:
        start, stop = stop, min(stop + _BATCH, total)
        yield permutations.batch(start, stop)


_Scan = Callable[[int, int, NDArray[np.float64], NDArray[np.float64], NDArray[np.float32]], None]
_Complete = Callable[[NDArray[np.intp], NDArray[np.intp], NDArray[np.float32]], _Unfinished]


def _scalar(
    table: NeighborTable, target: ScalarTarget, k: int, psi: NDArray[np.float64], batch: NDArray[np.int32]
) -> tuple[_Scan, _Complete]:
    scaled = target.values * (table.unit / target.unit)
    line = scaled[target.order]
    positions = target.positions[batch]
    values = scaled[batch]

    def scan(
        start: int, stop: int, local: NDArray[np.float64], sums: NDArray[np.float64], pending: NDArray[np.float32]
    ) -> None:
        kernels.scan_scalar(
            table.indices, table.distances, table.lengths, table.radii, table.atoms, values, positions, line,
            target.atoms, psi, k, start, stop, local, sums, pending,
        )  # fmt: skip

    def complete(
        which: NDArray[np.intp], rows: NDArray[np.intp], bounds: NDArray[np.float32]
    ) -> _Unfinished:
        epsilon = np.empty(len(rows), np.float32)
        nearer = np.empty(len(rows), np.int64)
        joint = np.empty(len(rows), np.int64)
        samples = np.empty_like(batch)
        np.put_along_axis(samples, positions, np.arange(batch.shape[1], dtype=np.int32)[None], axis=1)

        def finish(start: int, stop: int) -> None:
            kernels.complete_scalar(
                table.values, table.metric_code, which[start:stop], rows[start:stop], bounds[start:stop], positions,
                line, samples, k, epsilon[start:stop], nearer[start:stop], joint[start:stop],
            )  # fmt: skip

        run_in_threads(finish, len(rows), _CHUNK)
        return _Unfinished(
            which, rows, batch[which, rows], epsilon, joint, np.full(len(rows), k), nearer + 1,
            target.atoms[positions[which, rows]],
        )  # fmt: skip

    return scan, complete


def _labels(
    table: NeighborTable, target: LabelTarget, k: int, psi: NDArray[np.float64], batch: NDArray[np.int32]
) -> tuple[_Scan, _Complete]:
    codes = target.codes[batch]

    def scan(
        start: int, stop: int, local: NDArray[np.float64], sums: NDArray[np.float64], pending: NDArray[np.float32]
    ) -> None:
        kernels.scan_labels(
            table.indices, table.distances, table.lengths, table.radii, table.atoms, codes, target.sizes, psi, k,
            start, stop, local, sums, pending,
        )  # fmt: skip

    def complete(
        which: NDArray[np.intp], rows: NDArray[np.intp], _bounds: NDArray[np.float32]
    ) -> _Unfinished:
        epsilon = np.empty(len(rows), np.float32)
        joint = np.empty(len(rows), np.int64)
        members = np.argsort(codes, axis=1, kind="stable").astype(np.int32)
        starts = np.concatenate([[0], np.cumsum(target.sizes)])

        def finish(start: int, stop: int) -> None:
            kernels.complete_labels(
                table.values, table.metric_code, which[start:stop], rows[start:stop], codes, members, starts, k,
                epsilon[start:stop], joint[start:stop],
            )  # fmt: skip

        run_in_threads(finish, len(rows), _CHUNK)
        sizes = target.sizes[codes[which, rows]]
        return _Unfinished(
            which, rows, batch[which, rows], epsilon, joint, np.minimum(k, sizes - 1), sizes, sizes
        )  # fmt: skip

    return scan, complete


def _table(
    table: NeighborTable, target: NeighborTable, k: int, psi: NDArray[np.float64], batch: NDArray[np.int32]
) -> tuple[_Scan, _Complete]:
    ratio = np.float32(table.unit / target.unit)
    inverses = np.empty_like(batch)
    np.put_along_axis(inverses, batch, np.arange(batch.shape[1], dtype=np.int32)[None], axis=1)

    def scan(
        start: int, stop: int, local: NDArray[np.float64], sums: NDArray[np.float64], pending: NDArray[np.float32]
    ) -> None:
        kernels.scan_table(
            table.indices, table.distances, table.lengths, table.radii, table.atoms,
            target.indices, target.distances, target.lengths, target.radii, target.atoms,
            ratio, batch, inverses, psi, k, start, stop, np.full(table.n_samples, np.inf, np.float32), local, sums, pending,
        )  # fmt: skip

    def complete(
        which: NDArray[np.intp], rows: NDArray[np.intp], bounds: NDArray[np.float32]
    ) -> _Unfinished:
        epsilon = np.empty(len(rows), np.float32)
        joint = np.empty(len(rows), np.int64)

        def finish(start: int, stop: int) -> None:
            kernels.complete_table(
                table.values, table.metric_code, table.indices, table.distances, table.lengths, table.radii,
                target.values, target.metric_code, target.indices, target.distances, target.lengths, target.radii,
                ratio, batch, inverses, which[start:stop], rows[start:stop], bounds[start:stop], k,
                epsilon[start:stop], joint[start:stop],
            )  # fmt: skip

        run_in_threads(finish, len(rows), _CHUNK)
        partners = batch[which, rows]
        return _Unfinished(
            which, rows, partners, epsilon, joint, np.full(len(rows), k), np.zeros(len(rows), np.int64),
            target.atoms[partners],
        )  # fmt: skip

    return scan, complete
