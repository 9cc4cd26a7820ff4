"""The competition of spaces, from top to bottom: what ``space="auto"`` and ``space="supervised"`` do.

The samples are split in halves. Candidates are fitted to three quarters of one half and compared on its last quarter;
the winner is refitted to the whole half and read off the other one, which nothing has seen. Then the halves swap. Where
estimates are made at points, and the other samples are many, some thousands of those are the one part that is fitted
to, and the winner is read at the points among all the rest. What is measured is never what was fitted to, so that under
independence the estimate is as likely to be negative as positive; the null permutes within what is read and needs no
second search.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mi_callback.estimation.neighbors import Metric, NeighborTable, balance_rank, default_width, width_for_classes
from mi_callback.estimation.parallel import one_blas_thread, run_side_by_side
from mi_callback.estimation.permutation import Permutations, PermutationsWithin, stream
from mi_callback.estimation.readings import Reading, read_table
from mi_callback.estimation.spaces.candidates import SCORES, FittedSpace, FittingHalf, fit_candidates
from mi_callback.estimation.spaces.linear import Array
from mi_callback.estimation.subsampling import PARTS_OF_HALVES, read_part, subsample
from mi_callback.estimation.targets import LabelTarget, ScalarTarget, Target
from mi_callback.estimation.variable import Variable

__all__ = ["Winner", "compete", "neighbors_in", "read_in_best_space"]

_FEWEST_MEMBERS = 8  # of a class, or its halves have too few neighbours
_MOST_MERGED = 0.05  # of the samples, in a class of rare classes
_PURPOSE = 3  # of the stream that splits the samples
_FITTED = "supervised"  # how the names of fitted spaces begin
_SIGNIFICANT = 3.0  # standard errors by which a fitted space must do better, as there are several to choose from


@one_blas_thread()
def read_in_best_space(
    x: Variable,
    y: Variable,
    table: NeighborTable,
    target: Target,
    in_scores: NDArray[np.float64],
    *,
    points: NDArray[np.int64] | None = None,
    k: int,
    metric: Metric,
    n_permutations: int,
    seed: int,
    always: bool = False,
    before: str = "",
) -> tuple[Reading, Permutations] | None:
    """Estimate in a fitted space if it does better than normal scores.

    It must be ahead by three standard errors in the competition, the price of splitting taken off, and then read so
    much more: estimates by neighbours err downwards unless the dimension is low, and there the two agree.

    Args:
        x: the side whose neighbours are searched.
        y: the side that is permuted.
        table: neighbours of x in normal scores, of all samples or of the first evaluation points.
        target: y in normal scores, or its labels.
        in_scores: the local values read off them.
        points: shape (Q,), all evaluation points; None if all samples are.
        k: number of neighbours.
        metric: "euclidean" or "chebyshev".
        n_permutations: number of permutations P of the null.
        seed: seed of halves, fits, permutations and subsamples.
        always: take the fitted space whenever there is one.
        before: names of the spaces that the same layer was read in before. A fitted space stays as long as it reads
            more at all, and the candidate that won wins again unless another beats it.

    Returns:
        The estimate, and the permutations that its null was taken under; None if normal scores are to be kept.
    """
    split = target
    if isinstance(target, LabelTarget):
        share = _n_fitted(target.n_samples, points) / target.n_samples
        merged_labels = target.with_members(math.ceil(_FEWEST_MEMBERS / (2 * share)), _MOST_MERGED)
        if merged_labels is None:
            return None
        split = merged_labels
    scores_x = x.in_space("scores").astype(np.float32, copy=False)
    scores_y = split.codes if isinstance(split, LabelTarget) else y.in_space("scores").astype(np.float32, copy=False)
    winners = compete(scores_x, scores_y, k=k, metric=metric, seed=seed, points=points, before=before)
    if all(winner.space is SCORES for winner in winners):
        return None
    stays = before.startswith(_FITTED)
    if not always and not stays:
        merged = in_scores if split is target else read_table(table, split, k).local
        if not _expected_to_read_more(winners, table, split, merged.mean(), k):
            return None
    tables = [
        neighbors_in(
            w.space, scores_x[w.held_out], scores_y[w.held_out], k=k, metric=metric, points=_places(points, w.held_out)
        )
        for w in winners
    ]
    if not always:
        fitted = _put_together(winners, [read_table(*part, k).local for part in tables], points)
        gain = (fitted if points is None else fitted[np.isin(points, table.samples, assume_unique=True)]) - in_scores
        if not gain.mean() > (0 if stays else _SIGNIFICANT * gain.std(ddof=1) / math.sqrt(len(gain))):
            return None
    names = " and ".join(dict.fromkeys(winner.space.name for winner in winners))
    names += "" if split is target else ", rare classes merged"
    reading = _read(winners, tables, points, names, k=k, n_permutations=n_permutations, seed=seed)
    if len(winners) > 1:
        return reading, PermutationsWithin([winner.held_out for winner in winners], n_permutations, seed, points)
    return reading, Permutations(len(scores_x), n_permutations, seed, points)  # points are shifted as in the part


# --- parts, fits, winners --------------------------------------------------------------------------------------------

_SHARE_COMPARED = 0.25  # of a fitting half; on nine relations, n = 1,000, .15 read .05 nats more, .4 .05 less
_LEAST_COMPARED, _MOST_COMPARED = 25, 3_000  # samples: with fewer a comparison says nothing, more take too long
_MOST_FITTED = 5_000  # samples beside evaluation points: as many as a half of the 10,000 up to which all are points


@dataclass(frozen=True, slots=True, eq=False)
class Winner:
    """The winner of one fitting part.

    Attributes:
        held_out: samples to read it off, ascending, none of which it was fitted to or compared on.
        space: fitted to the whole fitting part; ``SCORES`` if nothing stood above chance there.
        ahead: how far its local values lie above those in normal scores, in nats, for each sample that candidates were
            compared on; empty for normal scores themselves.
    """

    held_out: NDArray[np.intp]
    space: FittedSpace
    ahead: NDArray[np.float64]


def compete(
    x: Array,
    y: NDArray[Any],
    *,
    k: int,
    metric: Metric,
    seed: int,
    points: NDArray[np.int64] | None = None,
    before: str = "",
) -> tuple[Winner, ...]:
    """Let candidate spaces compete on each half of the samples, or on one part beside evaluation points.

    Args:
        x: shape (n, d), normal scores.
        y: shape (n, q), normal scores; or shape (n,), class numbers from 0, each with several members.
        k: number of neighbours.
        metric: "euclidean" or "chebyshev".
        seed: the same seed gives the same parts.
        points: evaluation points; None if all samples are.
        before: names of the spaces that won before; the first candidate of them has to be beaten.

    Returns:
        A winner for each part; none at all where there are too few samples to split.
    """
    splits = _splits(y if y.ndim == 1 else np.zeros(len(x), np.intp), stream(seed, _PURPOSE), points)

    def win(split: tuple[NDArray[np.intp], NDArray[np.intp]]) -> Winner | None:
        fitting, held_out = split
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
        best = next((i for i, c in enumerate(candidates) if c.space.name in before.split(" and ")), 0)
        for later in range(len(candidates)):
            if later != best and _beats(values[later], values[best]):
                best = later
        ahead = values[best] - _local_values(SCORES, x[compared], y[compared], k, metric)
        return Winner(np.sort(held_out), candidates[best].refit() or candidates[best].space, ahead)

    winners = [winner for winner in run_side_by_side(win, splits) if winner is not None]
    return tuple(winners) if len(winners) == len(splits) else ()


def _n_fitted(n: int, points: NDArray[np.int64] | None) -> int:
    """Samples of a fitting part: half of all, or as many as are needed where there are plenty beside the points."""
    return n // 2 if points is None or n - len(points) < 2 * _MOST_FITTED else _MOST_FITTED


def _splits(
    classes: NDArray[np.integer], rng: np.random.Generator, points: NDArray[np.int64] | None
) -> list[tuple[NDArray[np.intp], NDArray[np.intp]]]:
    """Samples to fit to, in random order, and to read off: two halves that swap, or one part beside the points.

    Halves have half of every class each.
    """
    n = len(classes)
    order = rng.permutation(n)
    if points is not None and _n_fitted(n, points) == _MOST_FITTED:
        beside = np.ones(n, bool)
        beside[points] = False
        fitting = order[beside[order]][:_MOST_FITTED]
        return [(fitting, np.delete(np.arange(n), fitting))]
    by_class = order[np.argsort(classes[order], kind="stable")]
    halves = rng.permutation(by_class[::2]), rng.permutation(by_class[1::2])
    return [halves, halves[::-1]]


def _places(points: NDArray[np.int64] | None, held_out: NDArray[np.intp]) -> NDArray[np.int64] | None:
    """Where the points that are held out stand among the held-out samples."""
    if points is None:
        return None
    return np.flatnonzero(np.isin(held_out, points, assume_unique=True))


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
        table: neighbours in normal scores.
        target: its target.
        in_scores: the estimate read off them, in nats.
        k: number of neighbours.
    """
    parts = []
    for samples in (winner.held_out for winner in winners):
        n = len(samples)
        parts.append(read_part(table.restricted(samples, default_width(n, k), balance_rank(n, k)), target, samples, k))
    price = max(in_scores - float(np.mean(parts)), 0.0)
    ahead = np.concatenate([winner.ahead for winner in winners])
    return bool(ahead.mean() - price > _SIGNIFICANT * ahead.std(ddof=1) / math.sqrt(len(ahead)))


# --- reading the winners ----------------------------------------------------------------------------------------------


def neighbors_in(
    space: FittedSpace,
    x: Array,
    y: NDArray[Any],
    *,
    k: int,
    metric: Metric,
    points: NDArray[np.int64] | None = None,
) -> tuple[NeighborTable, Target]:
    """Neighbours of x and the structure of y in a space, on the balanced scale; at evaluation points if given."""
    n = len(x)
    x, y = space(x, y)
    width, rank = default_width(n, k), balance_rank(n, k)
    if y.ndim == 1:
        labels = LabelTarget.build(y)
        width = min(width, width_for_classes(labels.sizes, k))
        return NeighborTable.build(x, width, metric, unit_rank=rank, points=points), labels
    table = NeighborTable.build(x, width, metric, unit_rank=rank, points=points)
    if y.shape[1] == 1:
        return table, ScalarTarget.build(y[:, 0], unit_rank=rank, points=points)
    return table, NeighborTable.build(y, width, metric, unit_rank=rank, points=points)


def _put_together(
    winners: tuple[Winner, ...], parts: list[NDArray[np.float64]], points: NDArray[np.int64] | None
) -> NDArray[np.float64]:
    """Local values of all samples, or of all evaluation points, from those of the parts."""
    local = np.empty(sum(map(len, parts)))
    for winner, part in zip(winners, parts, strict=True):
        rows = winner.held_out if points is None else np.isin(points, winner.held_out, assume_unique=True)
        local[rows] = part
    return local


def _read(
    winners: tuple[Winner, ...],
    tables: list[tuple[NeighborTable, Target]],
    points: NDArray[np.int64] | None,
    space: str,
    *,
    k: int,
    n_permutations: int,
    seed: int,
) -> Reading:
    """Read all parts with their nulls: sums over all rows, for the estimate and for each permutation."""
    n_rows = sum(table.n_rows for table, _ in tables)
    null, variance, half = np.zeros(n_permutations), 0.0, 0.0
    readings = []
    for number, (table, target) in enumerate(tables):
        share = table.n_rows / n_rows
        permutations = Permutations(table.n_samples, n_permutations, seed + number, table.samples)
        readings.append(read_table(table, target, k, permutations))
        null += share * readings[-1].null
        subsamples = subsample(table, target, k, seed + number, local=readings[-1].local, parts=PARTS_OF_HALVES)
        variance += (share * subsamples.stderr) ** 2
        half += share * subsamples.half
    return Reading(
        fitted_space=space,
        local=_put_together(winners, [reading.local for reading in readings], points),
        null=null,
        stderr=math.sqrt(variance),
        half=half,
        n_completed=sum(reading.n_completed for reading in readings),
    )
