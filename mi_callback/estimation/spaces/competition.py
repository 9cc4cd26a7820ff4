"""The competition of spaces, from top to bottom: what ``space="auto"`` and ``space="supervised"`` do.

The samples are split in halves. Candidates are fitted to three quarters of one half and compared on its last quarter;
the winner is refitted to the whole half and read off the other one, which nothing has seen. Then the halves swap. What
is measured is never what was fitted to, so that under independence the estimate is as likely to be negative as
positive; the null permutes within the halves and needs no second search.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mi_callback.estimation.estimators import Reading, read_table
from mi_callback.estimation.neighbors import Metric, NeighborTable, balance_rank, default_width, width_for_classes
from mi_callback.estimation.parallel import one_blas_thread, run_side_by_side
from mi_callback.estimation.permutation import Permutations
from mi_callback.estimation.spaces.candidates import SCORES, FittedSpace, FittingHalf, fit_candidates
from mi_callback.estimation.spaces.linear import Array
from mi_callback.estimation.subsampling import PARTS_OF_HALVES, subsample
from mi_callback.estimation.targets import LabelTarget, ScalarTarget, Target
from mi_callback.estimation.variable import Variable

__all__ = ["Winner", "compete", "neighbors_in", "read_in_best_space"]

_FEWEST_MEMBERS = 8  # of a class, or its halves have too few neighbours
_MOST_MERGED = 0.05  # of the samples, in a class of rare classes
_SIGNIFICANT = 3.0  # standard errors by which a fitted space must do better, as there are several to choose from


@one_blas_thread()
def read_in_best_space(
    x: Variable,
    y: Variable,
    table: NeighborTable,
    target: Target,
    *,
    k: int,
    metric: Metric,
    n_permutations: int,
    seed: int,
    always: bool = False,
) -> Reading | None:
    """Estimate in a fitted space if it does better than normal scores.

    It must be ahead by three standard errors in the competition, the price of splitting taken off, and then read so
    much more: estimates by neighbours err downwards unless the dimension is low, and there the two agree.

    Args:
        x: the side whose neighbours are searched.
        y: the side that is permuted.
        table: neighbours of x in normal scores.
        target: y in normal scores, or its labels.
        k: number of neighbours.
        metric: "euclidean" or "chebyshev".
        n_permutations: number of permutations P of the null.
        seed: seed of halves, fits, permutations and subsamples.
        always: take the fitted space whenever there is one.

    Returns:
        The estimate; None if normal scores are to be kept.
    """
    split = target.with_members(_FEWEST_MEMBERS, _MOST_MERGED) if isinstance(target, LabelTarget) else target
    if split is None:
        return None
    scores_x = x.in_space("scores").astype(np.float32)
    scores_y = split.codes if isinstance(split, LabelTarget) else y.in_space("scores").astype(np.float32)
    winners = compete(scores_x, scores_y, k=k, metric=metric, seed=seed)
    if all(winner.space is SCORES for winner in winners):
        return None
    in_scores = np.empty(0)
    if not always:
        in_scores = read_table(table, target, k).local
        merged = in_scores if split is target else read_table(table, split, k).local
        if not _expected_to_read_more(winners, table, split, merged.mean(), k):
            return None
    tables = [neighbors_in(w.space, scores_x[w.held_out], scores_y[w.held_out], k=k, metric=metric) for w in winners]
    if not always:
        gain = _put_together(winners, [read_table(*half, k).local for half in tables]) - in_scores
        if not gain.mean() > _SIGNIFICANT * gain.std(ddof=1) / math.sqrt(len(gain)):
            return None
    names = " and ".join(dict.fromkeys(winner.space.name for winner in winners))
    names += "" if split is target else ", rare classes merged"
    return _read(winners, tables, names, k=k, n_permutations=n_permutations, seed=seed)


# --- halves, fits, winners --------------------------------------------------------------------------------------------

_SHARE_COMPARED = 0.25  # of a fitting half; by hand
_LEAST_COMPARED, _MOST_COMPARED = 25, 3_000  # samples: with fewer a comparison says nothing, more take too long


@dataclass(frozen=True, slots=True, eq=False)
class Winner:
    """The winner of one fitting half.

    Attributes:
        held_out: samples to read it off, none of which it was fitted to or compared on.
        space: fitted to the whole fitting half; ``SCORES`` if nothing stood above chance there.
        ahead: how far its local values lie above those in normal scores, in nats, for each sample that candidates were
            compared on; empty for normal scores themselves.
    """

    held_out: NDArray[np.intp]
    space: FittedSpace
    ahead: NDArray[np.float64]


def compete(x: Array, y: NDArray[Any], *, k: int, metric: Metric, seed: int) -> tuple[Winner, ...]:
    """Let candidate spaces compete on each half of the samples.

    Args:
        x: shape (n, d), normal scores.
        y: shape (n, q), normal scores; or shape (n,), class numbers from 0, each with several members.
        k: number of neighbours.
        metric: "euclidean" or "chebyshev".
        seed: the same seed gives the same halves.

    Returns:
        A winner for each half; none at all where there are too few samples to split.
    """
    halves = _split(y if y.ndim == 1 else np.zeros(len(x), np.intp), np.random.default_rng((seed, 0x59ACE)))

    def win(halves: tuple[NDArray[np.intp], NDArray[np.intp]]) -> Winner | None:
        fitting, held_out = halves
        n_fit = len(fitting) - round(_SHARE_COMPARED * len(fitting))
        compared = fitting[n_fit:][:_MOST_COMPARED]
        if y.ndim == 1:  # a class's only member has no neighbour
            compared = compared[np.bincount(y[compared])[y[compared]] > 1]
        if len(compared) < max(_LEAST_COMPARED, k + 2):
            return None
        candidates = fit_candidates(FittingHalf(x[fitting], y[fitting], n_fit, seed))
        if not candidates:
            return Winner(np.sort(held_out), SCORES, np.empty(0))
        values = [_local_values(c.space, x[compared], y[compared], k, metric) for c in candidates]
        best = 0
        for later in range(1, len(candidates)):
            if _beats(values[later], values[best]):
                best = later
        ahead = values[best] - _local_values(SCORES, x[compared], y[compared], k, metric)
        return Winner(np.sort(held_out), candidates[best].refit() or candidates[best].space, ahead)

    winners = [winner for winner in run_side_by_side(win, [halves, halves[::-1]]) if winner is not None]
    return tuple(winners) if len(winners) == len(halves) else ()


def _split(classes: NDArray[np.integer], rng: np.random.Generator) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Two halves at random, with half of every class each, both in random order."""
    order = rng.permutation(len(classes))
    by_class = order[np.argsort(classes[order], kind="stable")]
    return rng.permutation(by_class[::2]), rng.permutation(by_class[1::2])


def _local_values(space: FittedSpace, x: Array, y: NDArray[Any], k: int, metric: Metric) -> NDArray[np.float64]:
    return read_table(*neighbors_in(space, x, y, k=k, metric=metric), k).local


def _beats(later: NDArray[np.float64], best: NDArray[np.float64]) -> bool:
    """Whether a later candidate is ahead by a standard error: simple ones come first, and gain most by refitting."""
    ahead = later - best
    return bool(ahead.mean() > ahead.std() / math.sqrt(len(ahead)))


def _expected_to_read_more(
    winners: tuple[Winner, ...], table: NeighborTable, target: Target, in_scores: float, k: int
) -> bool:
    """Whether the winners will read significantly more than normal scores do with all samples.

    Both were compared on the same samples with the same neighbours to choose from; what normal scores would lose by
    being read in halves too, the price of splitting, is taken off.

    Args:
        winners: of the halves.
        table: neighbours of all samples in normal scores.
        target: its target.
        in_scores: the estimate read off them, in nats.
        k: number of neighbours.
    """
    halves = []
    for rows in (winner.held_out for winner in winners):
        width, rank = default_width(len(rows), k), balance_rank(len(rows), k)
        half = read_table(table.restricted(rows, width, rank), target.restricted(rows, width, rank), k)
        halves.append(half.local.mean())
    price = max(in_scores - float(np.mean(halves)), 0.0)
    ahead = np.concatenate([winner.ahead for winner in winners])
    return bool(ahead.mean() - price > _SIGNIFICANT * ahead.std(ddof=1) / math.sqrt(len(ahead)))


# --- reading the winners ----------------------------------------------------------------------------------------------


def neighbors_in(
    space: FittedSpace, x: Array, y: NDArray[Any], *, k: int, metric: Metric
) -> tuple[NeighborTable, Target]:
    """Neighbours of x and the structure of y in a space, on the balanced scale."""
    n = len(x)
    x, y = space(x, y)
    width, rank = default_width(n, k), balance_rank(n, k)
    if y.ndim == 1:
        labels = LabelTarget.build(y)
        width = min(width, width_for_classes(labels.sizes, k))
        return NeighborTable.build(x, width, metric, unit_rank=rank), labels
    table = NeighborTable.build(x, width, metric, unit_rank=rank)
    if y.shape[1] == 1:
        return table, ScalarTarget.build(y[:, 0].astype(np.float64), unit_rank=rank)
    return table, NeighborTable.build(y, width, metric, unit_rank=rank)


def _put_together(winners: tuple[Winner, ...], halves: list[NDArray[np.float64]]) -> NDArray[np.float64]:
    """Local values of all samples, shape (n,), from those of the halves."""
    local = np.empty(sum(map(len, halves)))
    for winner, half in zip(winners, halves, strict=True):
        local[winner.held_out] = half
    return local


def _read(
    winners: tuple[Winner, ...],
    tables: list[tuple[NeighborTable, Target]],
    space: str,
    *,
    k: int,
    n_permutations: int,
    seed: int,
) -> Reading:
    """Read both halves with their nulls: sums over all samples, for the estimate and for each permutation."""
    n = sum(len(winner.held_out) for winner in winners)
    null, variance, half = np.zeros(n_permutations), 0.0, 0.0
    readings = []
    for number, (table, target) in enumerate(tables):
        share = table.n_samples / n
        permutations = Permutations(table.n_samples, n_permutations, seed + number)
        readings.append(read_table(table, target, k, permutations))
        null += share * readings[-1].null
        subsamples = subsample(table, target, k, seed + number, parts=PARTS_OF_HALVES)
        variance += (share * subsamples.stderr) ** 2
        half += share * subsamples.half
    return Reading(
        fitted_space=space,
        local=_put_together(winners, [reading.local for reading in readings]),
        null=null,
        stderr=math.sqrt(variance),
        half=half,
        n_completed=sum(reading.n_completed for reading in readings),
    )
