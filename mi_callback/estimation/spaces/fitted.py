"""Estimates in cross-fitted spaces: the winners of the competition, read off the samples they have not seen."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mi_callback.estimation.estimators import Reading, read_table
from mi_callback.estimation.neighbors import Metric, NeighborTable
from mi_callback.estimation.parallel import one_blas_thread
from mi_callback.estimation.permutation import Permutations
from mi_callback.estimation.spaces.selection import Choice, advantage, choose_spaces, prepare
from mi_callback.estimation.subsampling import PARTS_OF_HALVES, subsample
from mi_callback.estimation.targets import LabelTarget, Target
from mi_callback.estimation.variable import Variable

__all__ = ["FittedReading", "read_in_best_space"]

_FEWEST_MEMBERS = 8  # of a class, or its halves have too few neighbours
_MOST_MERGED = 0.05  # of the samples, in a class of rare classes
_SIGNIFICANT = 3.0  # standard errors by which a fitted space must do better, as there are several to choose from


@dataclass(frozen=True, slots=True, eq=False)
class FittedReading:
    """An estimate put together from two halves, in nats.

    Attributes:
        space: names of the spaces.
        local: shape (n,): the terms whose mean is the estimate.
        null: shape (P,): estimates with y permuted within the halves.
        stderr: standard error of the estimate; NaN where n is too small for it.
        half: mean of the estimates on halves of the halves; NaN if it was not made.
        n_completed: rows that reached beyond a table and were completed exactly.
    """

    space: str
    local: NDArray[np.float64]
    null: NDArray[np.float64]
    stderr: float
    half: float
    n_completed: int


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
) -> FittedReading | None:
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
    scores_x = x.in_space("scores").astype(np.float32)
    values_y: NDArray[Any]
    split: Target = target
    if isinstance(target, LabelTarget):
        merged = target.with_members(_FEWEST_MEMBERS, _MOST_MERGED)
        if merged is None:
            return None
        split, values_y, n_classes = merged, merged.codes, len(merged.sizes)
    else:
        values_y, n_classes = y.in_space("scores").astype(np.float32), 0
    choices = choose_spaces(scores_x, values_y, n_classes=n_classes, k=k, metric=metric, seed=seed)
    if all(choice.space is None for choice in choices):
        return None
    plain = np.empty(0)
    if not always:
        plain = read_table(table, target, k).local
        whole = plain if split is target else read_table(table, split, k).local
        ahead, error = advantage(choices, table, split, whole, k)
        if not ahead > _SIGNIFICANT * error:
            return None
    parts = [_prepared(choice, scores_x, values_y, k, metric) for choice in choices]
    if not always:
        local = _local(choices, [read_table(*part, k) for part in parts], len(plain))
        difference = local - plain
        if not difference.mean() > _SIGNIFICANT * difference.std(ddof=1) / math.sqrt(len(plain)):
            return None
    reading = _read(choices, parts, len(scores_x), k, n_permutations, seed)
    return reading if split is target else replace(reading, space=f"{reading.space}, rare classes merged")


def _prepared(
    choice: Choice, x: NDArray[np.float32], y: NDArray[Any], k: int, metric: Metric
) -> tuple[NeighborTable, Target]:
    return prepare(choice.space, x[choice.held_out], y[choice.held_out], k=k, metric=metric)


def _local(choices: tuple[Choice, ...], readings: list[Reading], n: int) -> NDArray[np.float64]:
    local = np.empty(n)
    for choice, reading in zip(choices, readings, strict=True):
        local[choice.held_out] = reading.local
    return local


def _read(
    choices: tuple[Choice, ...],
    parts: list[tuple[NeighborTable, Target]],
    n: int,
    k: int,
    n_permutations: int,
    seed: int,
) -> FittedReading:
    """Read both halves with their nulls: sums over all samples, for the estimate and for each permutation."""
    null, variance, half = np.zeros(n_permutations), 0.0, 0.0
    readings = []
    for number, (table, target) in enumerate(parts):
        share = table.n_samples / n
        permutations = Permutations(table.n_samples, n_permutations, seed + number)
        readings.append(read_table(table, target, k, permutations))
        null += share * readings[-1].null
        subsamples = subsample(table, target, k, seed + number, parts=PARTS_OF_HALVES)
        variance += (share * subsamples.stderr) ** 2
        half += share * subsamples.half
    names = list(dict.fromkeys(c.space.name if c.space else "scores" for c in choices))
    return FittedReading(
        space=" and ".join(names),
        local=_local(choices, readings, n),
        null=null,
        stderr=math.sqrt(variance),
        half=half,
        n_completed=sum(reading.n_completed for reading in readings),
    )
