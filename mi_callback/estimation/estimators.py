"""Mutual information read off a neighbour table: local values per sample, and means under permutations, in nats.

Continuous targets: Kraskov, Stoegbauer & Grassberger (2004), first estimator (doi:10.1103/PhysRevE.69.066138, eq. 8).
Class labels: Ross (2014), doi:10.1371/journal.pone.0087357. Coincident samples: Gao et al. (2017), arXiv:1709.06212.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.special import digamma

from mi_callback.estimation import kernels
from mi_callback.estimation.neighbors import NeighborTable
from mi_callback.estimation.parallel import run_in_threads
from mi_callback.estimation.permutation import Permutations
from mi_callback.estimation.targets import LabelTarget, ScalarTarget, Target

__all__ = ["Reading", "read_table"]

_BATCH = 51  # permutations at once: bounds memory and keeps a row chunk in cache
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
    beyond: list[_Beyond] = []
    for batch in _batches(n, permutations):
        scan = _prepare(table, target, k, psi, batch)
        scanned = np.empty(n) if totals else local
        radii = np.empty(batch.shape, np.float32)
        y_counts = np.empty(batch.shape, np.int32)
        sums = np.empty((-(-n // _CHUNK), len(batch)))

        def task(start: int, stop: int, scan: _Scan = scan, scanned: NDArray[np.float64] = scanned,
                 sums: NDArray[np.float64] = sums, radii: NDArray[np.float32] = radii,
                 y_counts: NDArray[np.int32] = y_counts) -> None:  # fmt: skip
            scan(start, stop, scanned, sums[start // _CHUNK], radii, y_counts)

        run_in_threads(task, n, _CHUNK)
        which, rows = np.nonzero(radii >= 0)
        beyond.append(
            _Beyond(which + sum(map(len, totals)), rows, batch[which, rows], radii[which, rows], y_counts[which, rows])
        )
        totals.append(sums.sum(axis=0))
    total = np.concatenate(totals)
    rest = _Beyond.joined(beyond)
    if len(rest.rows):
        terms = rest.terms(table, target, k, psi)
        total += np.bincount(rest.which, weights=terms, minlength=len(total))
        local[rest.rows[rest.which == 0]] = terms[rest.which == 0]
    constant = digamma(n)
    return Reading(local=local + constant, null=total[1:] / n + constant, n_completed=len(rest.rows))


@dataclass(frozen=True, slots=True, eq=False)
class _Beyond:
    """Rows whose radius reaches beyond a table, so that the neighbours within it are still to be counted.

    They wait for those of the other permutations: one pass counts for all of them.

    Attributes:
        which, rows: shape (r,), permutation and sample.
        partners: shape (r,), the sample that the target comes from.
        radii: shape (r,), in the unit of the table.
        y_counts: shape (r,), n_y + 1, or 0 where it is still to be counted.
    """

    which: NDArray[np.intp]
    rows: NDArray[np.intp]
    partners: NDArray[np.int32]
    radii: NDArray[np.float32]
    y_counts: NDArray[np.int32]

    @classmethod
    def joined(cls, parts: list[_Beyond]) -> _Beyond:
        """All rows of several."""
        return cls(*(np.concatenate([getattr(part, field.name) for part in parts]) for field in fields(cls)))

    def terms(self, table: NeighborTable, target: Target, k: int, psi: NDArray[np.float64]) -> NDArray[np.float64]:
        """Their terms of the estimate."""
        x_counts = table.count_nearer(self.rows, self.radii) + 1
        y_counts: NDArray[np.integer] = self.y_counts
        neighbors: NDArray[np.integer] | int = k
        if isinstance(target, NeighborTable):
            y_counts = target.count_nearer(self.partners, self.radii, table.unit / target.unit) + 1
        elif isinstance(target, LabelTarget):
            neighbors = np.minimum(k, y_counts - 1)
        terms: NDArray[np.float64] = psi[neighbors] - psi[x_counts] - psi[y_counts]
        return terms


def _batches(n: int, permutations: Permutations | None) -> Iterator[NDArray[np.int32]]:
    """The identity and then the permutations, a batch at a time."""
    identity = np.arange(n, dtype=np.int32)[None]
    total = len(permutations) if permutations is not None else 0
    stop = min(_BATCH - 1, total)
    yield identity if permutations is None else np.concatenate([identity, permutations.batch(0, stop)])
    while permutations is not None and stop < total:
        start, stop = stop, min(stop + _BATCH, total)
        yield permutations.batch(start, stop)


class _Scan(Protocol):
    """Rows start to stop of a table against a batch of permuted targets; what is written is told in ``kernels``."""

    def __call__(
        self,
        start: int,
        stop: int,
        local: NDArray[np.float64],
        sums: NDArray[np.float64],
        radii: NDArray[np.float32],
        y_counts: NDArray[np.int32],
        /,
    ) -> None: ...


def _prepare(table: NeighborTable, target: Target, k: int, psi: NDArray[np.float64], batch: NDArray[np.int32]) -> _Scan:
    """The scan for a kind of target, with what it needs of a batch of permutations, shape (P, n)."""
    side = (table.values, table.metric_code, table.indices, table.distances, table.lengths, table.radii, table.atoms,
            table.first)  # fmt: skip
    if isinstance(target, LabelTarget):
        labels = target.codes[batch]
        members = np.argsort(labels, axis=1, kind="stable").astype(np.int32)
        starts = np.concatenate([[0], np.cumsum(target.sizes)])
        return lambda start, stop, *out: kernels.scan_labels(*side, labels, members, starts, psi, k, start, stop, *out)
    if isinstance(target, ScalarTarget):
        line = target.values[target.order] * (table.unit / target.unit)
        positions = target.positions[batch]
        samples = _inverted(positions)
        return lambda start, stop, *out: kernels.scan_scalar(
            *side, positions, samples, line, target.atoms, psi, k, start, stop, _scratch(table), *out
        )
    other = (target.values, target.metric_code, target.indices, target.distances, target.lengths, target.radii,
             target.atoms, target.first)  # fmt: skip
    ratio = np.float32(table.unit / target.unit)
    inverses = _inverted(batch)
    return lambda start, stop, *out: kernels.scan_table(
        *side, *other, ratio, batch, inverses, psi, k, start, stop, _scratch(table), *out
    )


def _inverted(permutations: NDArray[np.int32]) -> NDArray[np.int32]:
    """Inverse of each row, a permutation."""
    inverses = np.empty_like(permutations)
    np.put_along_axis(inverses, permutations, np.arange(permutations.shape[1], dtype=np.int32)[None], axis=1)
    return inverses


def _scratch(table: NeighborTable) -> NDArray[np.float32]:
    return np.full(table.n_samples, np.inf, np.float32)
