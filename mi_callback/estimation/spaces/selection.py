"""The competition of spaces: fitted and compared on one half of the samples, the winner read off the other half.

The halves then swap. What is measured is never what was fitted to, so that under independence the estimate is as likely
to be negative as positive; the null permutes within the held-out halves and needs no second search.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mi_callback.estimation.estimators import read_table
from mi_callback.estimation.neighbors import Metric, NeighborTable, balance_rank, default_width, width_for_classes
from mi_callback.estimation.parallel import run_side_by_side
from mi_callback.estimation.spaces.augmentation import Space
from mi_callback.estimation.spaces.candidates import FittingHalf, fit_candidates
from mi_callback.estimation.spaces.whitening import Array
from mi_callback.estimation.targets import LabelTarget, ScalarTarget, Target

__all__ = ["Choice", "advantage", "choose_spaces", "prepare"]

_SHARE_COMPARED = 0.25  # of a fitting half
_LEAST_COMPARED, _MOST_COMPARED = 25, 3_000  # samples: with fewer a comparison says nothing, more take too long


@dataclass(frozen=True, slots=True, eq=False)
class Choice:
    """The winner of one fitting half.

    Attributes:
        held_out: samples to read it off, none of which it was fitted to or compared on.
        space: the winner, fitted to the whole fitting half; None if nothing stood above chance there.
        ahead: how far its local values lie above those in normal scores, in nats, for each sample that candidates were
            compared on; empty if there is no winner.
    """

    held_out: NDArray[np.intp]
    space: Space | None
    ahead: NDArray[np.float64]


def choose_spaces(
    x: Array, y: NDArray[Any], *, n_classes: int, k: int, metric: Metric, seed: int
) -> tuple[Choice, ...]:
    """Let candidate spaces compete on each half of the samples.

    Args:
        x: shape (n, d), normal scores.
        y: shape (n, q), normal scores; or shape (n,), class numbers, each with several members.
        n_classes: number of classes, 0 if y is continuous.
        k: number of neighbours.
        metric: "euclidean" or "chebyshev".
        seed: the same seed gives the same halves.

    Returns:
        A choice for each half; none at all where there are too few samples to split.
    """
    halves = _split(y if n_classes else np.zeros(len(x), np.intp), np.random.default_rng((seed, 0x59ACE)))

    def compete(halves: tuple[NDArray[np.intp], NDArray[np.intp]]) -> Choice | None:
        fitting, held_out = halves
        n_fit = len(fitting) - round(_SHARE_COMPARED * len(fitting))
        compared = fitting[n_fit:][:_MOST_COMPARED]
        if n_classes:  # a class's only member has no neighbour
            compared = compared[np.bincount(y[compared], minlength=n_classes)[y[compared]] > 1]
        if len(compared) < max(_LEAST_COMPARED, k + 2):
            return None
        half = FittingHalf(x[fitting], y[fitting], n_classes, n_fit, seed)
        best, local = None, np.empty(0)
        for candidate in fit_candidates(half):
            values = _compare(candidate.space, x[compared], y[compared], k, metric)
            if best is None or _beats(values, local):
                best, local = candidate, values
        ahead = local - _compare(None, x[compared], y[compared], k, metric) if best else local
        return Choice(np.sort(held_out), best.refit() if best else None, ahead)

    choices = [choice for choice in run_side_by_side(compete, [halves, halves[::-1]]) if choice is not None]
    return tuple(choices) if len(choices) == len(halves) else ()


def _beats(values: NDArray[np.float64], best: NDArray[np.float64]) -> bool:
    """Whether a later candidate is ahead by a standard error: simple ones come first, and gain most by refitting."""
    ahead = values - best
    return bool(ahead.mean() > ahead.std() / math.sqrt(len(ahead)))


def _compare(space: Space | None, x: Array, y: NDArray[Any], k: int, metric: Metric) -> NDArray[np.float64]:
    return read_table(*prepare(space, x, y, k=k, metric=metric), k).local


def _mapped(space: Space | None, x: Array, y: NDArray[Any]) -> tuple[Array, NDArray[Any]]:
    if space is None:
        return x, y
    return space.map_x(x), y if space.map_y is None else space.map_y(y)


def _split(classes: NDArray[np.integer], rng: np.random.Generator) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Two halves at random, with half of every class each, both in random order."""
    order = rng.permutation(len(classes))
    by_class = order[np.argsort(classes[order], kind="stable")]
    return rng.permutation(by_class[::2]), rng.permutation(by_class[1::2])


def prepare(space: Space | None, x: Array, y: NDArray[Any], *, k: int, metric: Metric) -> tuple[NeighborTable, Target]:
    """Neighbours of x and the structure of y in a space, on the balanced scale; the scores themselves if it is None."""
    n = len(x)
    mapped_x, mapped_y = _mapped(space, x, y)
    width, rank = default_width(n, k), balance_rank(n, k)
    if y.ndim == 1:
        labels = LabelTarget.build(y)
        width = min(width, width_for_classes(labels.sizes, k))
        return NeighborTable.build(mapped_x, width, metric, unit_rank=rank), labels
    table = NeighborTable.build(mapped_x, width, metric, unit_rank=rank)
    if mapped_y.shape[1] == 1:
        return table, ScalarTarget.build(mapped_y[:, 0].astype(np.float64), unit_rank=rank)
    return table, NeighborTable.build(mapped_y, width, metric, unit_rank=rank)


def advantage(
    choices: tuple[Choice, ...], table: NeighborTable, target: Target, local: NDArray[np.float64], k: int
) -> tuple[float, float]:
    """How much more the winners will read than normal scores do with all samples: value and standard error, in nats.

    Both are compared on the same samples with the same neighbours to choose from; what normal scores would lose by
    being read in halves too, the price of splitting, is taken off.

    Args:
        choices: the winners of the halves, one at least.
        table: neighbours of all samples in normal scores.
        target: its target.
        local: shape (n,), local values read off them.
        k: number of neighbours.
    """
    halves = []
    for rows in (choice.held_out for choice in choices):
        width, rank = default_width(len(rows), k), balance_rank(len(rows), k)
        half = read_table(table.restricted(rows, width, rank), target.restricted(rows, width, rank), k)
        halves.append(half.local.mean())
    price = float(local.mean() - np.mean(halves))
    ahead = np.concatenate([choice.ahead for choice in choices])
    return float(ahead.mean()) - max(price, 0.0), float(ahead.std(ddof=1)) / math.sqrt(len(ahead))
