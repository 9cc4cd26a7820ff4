"""Mutual information of two samples, with its null, error bar and flags: what a user without Lightning calls."""

from __future__ import annotations

import dataclasses
import math
import warnings
from typing import Literal, cast, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mi_callback.estimation.checks import check_choice, check_count, check_enough_samples, check_same_length
from mi_callback.estimation.dimension import intrinsic_dimension
from mi_callback.estimation.estimators import read_table
from mi_callback.estimation.flagging import flags_from_record, with_flags
from mi_callback.estimation.neighbors import Metric, NeighborTable
from mi_callback.estimation.permutation import Permutations, p_value
from mi_callback.estimation.records import Flag, MutualInformation, Unit
from mi_callback.estimation.spaces.competition import read_in_best_space
from mi_callback.estimation.subsampling import drop_singletons, subsample
from mi_callback.estimation.targets import LabelTarget, Target
from mi_callback.estimation.variable import PlainSpace, Variable

__all__ = ["Estimator", "Space", "mutual_information"]

Space = Literal["auto", "raw", "standard", "scores", "supervised"]

_DUPLICATES = 0.01  # share of repeated samples that is worth a flag


class Estimator:
    """Estimates the mutual information of variables, always in the same way.

    Args:
        k: number of neighbours.
        n_permutations: number of permutations P of the null.
        metric: "euclidean" or "chebyshev".
        space: where distances are taken; see ``mutual_information``.
        unit: "bits" or "nats".
        seed: seed of permutations and subsamples.

    Raises:
        ValueError, TypeError: an argument that is not understood.
    """

    def __init__(
        self,
        *,
        k: int = 3,
        n_permutations: int = 100,
        metric: Metric = "euclidean",
        space: Space = "auto",
        unit: Unit = "bits",
        seed: int = 0,
    ) -> None:
        check_choice("metric", metric, get_args(Metric))
        check_choice("space", space, get_args(Space))
        check_choice("unit", unit, get_args(Unit))
        self.k = check_count("k", k, 1)
        self.n_permutations = check_count("n_permutations", n_permutations, 0)
        self.seed = check_count("seed", seed, 0)
        self.metric: Metric = metric
        self.space: Space = space
        self.unit: Unit = unit

    def estimate(self, x: Variable, y: Variable) -> MutualInformation:
        """Mutual information I(x; y), in ``unit``.

        Args:
            x: the side whose neighbours are searched, such as a layer's activations.
            y: the side that is permuted, such as the target. Discrete if it says so.

        Raises:
            ValueError: different numbers of samples, or fewer than k + 2, single members of classes included.
        """
        return dataclasses.replace(self._estimate(x, y), reason=f"{y.name} as {y.kind}")

    def _estimate(self, x: Variable, y: Variable) -> MutualInformation:
        check_same_length(x.name, x.n_samples, y.name, y.n_samples)
        check_enough_samples(x.n_samples, self.k)
        flags = set()
        if y.discrete:
            kept = drop_singletons(y.labels)
            if kept is not None:
                flags.add(Flag.SINGLETONS)
                if len(kept) == 0:
                    raise ValueError(
                        f"{y.name}: expected classes with several members, got a class of its own for each of "
                        f"{y.n_samples} samples. Use discrete=False if the values are numbers."
                    )
                x, y = x.subset(kept), y.subset(kept)
        name = "ross" if y.discrete else "ksg"
        n = x.n_samples
        if x.is_constant or y.is_constant:
            return self._nothing(n, name, flags)
        fits = self.space in ("auto", "supervised")
        space: PlainSpace = "scores" if fits else cast(PlainSpace, self.space)
        table = x.table(space, self.metric, self.k)
        target = y.target(space, self.metric, self.k)
        if _share_of_repeats(table, target) > _DUPLICATES:
            flags.add(Flag.DUPLICATES)
        if fits:
            fitted = read_in_best_space(
                x,
                y,
                table,
                target,
                k=self.k,
                metric=self.metric,
                n_permutations=self.n_permutations,
                seed=self.seed,
                always=self.space == "supervised",
            )
            if fitted is not None:
                return self._record(
                    float(fitted.local.mean()),
                    fitted.null,
                    fitted.stderr,
                    fitted.half,
                    n,
                    name,
                    fitted.space,
                    intrinsic_dimension(table),
                    flags,
                    fitted.n_completed,
                )
        reading = read_table(table, target, self.k, Permutations(n, self.n_permutations, self.seed))
        parts = subsample(table, target, self.k, self.seed, balanced=space != "raw")
        return self._record(
            float(reading.local.mean()),
            reading.null,
            parts.stderr,
            parts.half,
            n,
            name,
            space,
            intrinsic_dimension(table),
            flags,
            reading.n_completed,
        )

    def _record(
        self,
        raw: float,
        null: NDArray[np.float64],
        stderr: float,
        half: float,
        n_samples: int,
        estimator: str,
        space: str,
        dimension: float,
        flags: set[Flag],
        n_completed: int,
    ) -> MutualInformation:
        """From nats to a record in the unit asked for."""
        unit = 1 / math.log(2) if self.unit == "bits" else 1.0
        mean = float(null.mean()) if null.size else 0.0
        record = MutualInformation(
            mi=(raw - mean) * unit,
            raw=raw * unit,
            null=null * unit,
            null_mean=mean * unit,
            null_std=float(null.std(ddof=1)) * unit if null.size > 1 else math.nan,
            p_value=p_value(raw, null),
            stderr=stderr * unit,
            unit=self.unit,
            k=self.k,
            n_samples=n_samples,
            estimator=estimator,
            space=space,
            intrinsic_dim=dimension,
            flags=tuple(flag for flag in Flag if flag in flags),
            n_completed=n_completed,
            half=half * unit,
        )
        return with_flags(record, *flags_from_record(record))

    def _nothing(self, n_samples: int, estimator: str, flags: set[Flag]) -> MutualInformation:
        """The record of a side that does not vary."""
        return self._record(
            0.0,
            np.zeros(self.n_permutations),
            0.0,
            0.0,
            n_samples,
            estimator,
            self.space,
            math.nan,
            flags | {Flag.CONSTANT},
            0,
        )


def _share_of_repeats(table: NeighborTable, target: Target) -> float:
    """Share of samples that repeat an earlier one on both sides."""
    if not (table.copies > 1).any():
        return 0.0
    if isinstance(target, LabelTarget):
        other: NDArray[np.generic] = target.codes
    elif isinstance(target, NeighborTable):
        other = target.leaders
    else:
        other = target.values
    pairs = np.rec.fromarrays([table.leaders, other])
    return 1 - len(np.unique(pairs)) / table.n_samples


def mutual_information(
    x: ArrayLike,
    y: ArrayLike,
    *,
    k: int = 3,
    n_permutations: int = 100,
    metric: Metric = "euclidean",
    space: Space = "auto",
    unit: Unit = "bits",
    discrete: bool | None = None,
    seed: int = 0,
) -> MutualInformation:
    """Mutual information I(x; y) from samples, in ``unit``, by k nearest neighbours.

    Continuous y: first estimator of Kraskov, Stoegbauer & Grassberger (2004), doi:10.1103/PhysRevE.69.066138. Discrete
    y: Ross (2014), doi:10.1371/journal.pone.0087357. Coincident samples: Gao et al. (2017), arXiv:1709.06212.

    Args:
        x: shape (n,) or (n, d), numbers.
        y: shape (n,) or (n, q), numbers or class labels. Strings, bools, one-hot rows, integers of at most ten
            different values, floats of two, and integers that number classes with some thirty samples each are
            classes; ages, counts and other integers are numbers. ``reason`` of the result says what was decided.
        k: number of neighbours, at most n - 2. A class with m <= k members uses its m - 1.
        n_permutations: number of permutations P of the null.
        metric: distance within each side, "euclidean" or "chebyshev".
        space: where distances are taken. "raw": as given. "standard": each coordinate centred and divided by its
            standard deviation. "scores": each coordinate's ranks through the normal quantile function. "supervised":
            a map fitted on one half of the samples and read off the other, and the halves swapped. "auto": that where
            it does better than normal scores, which need not split. All but "raw" put both sides on the balanced
            scale: distances divided by the median distance to the sqrt(k n)-th neighbour.
        unit: "bits" or "nats".
        discrete: whether y holds class labels, told by its type and values if None. Equal rows are one class.
        seed: seed of permutations and subsamples.

    Returns:
        The estimate with its null, p-value, standard error and flags.

    Raises:
        ValueError: shapes that do not fit, NaN or infinity, too few samples for k, or an option that is not understood.
        TypeError: x that is not numeric, y that is neither numbers nor labels, or an option of another type.

    Warns:
        UserWarning: the integers of y might be class labels as well as numbers; say so by ``discrete``.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> x = rng.standard_normal(1000)
        >>> y = x + rng.standard_normal(1000)
        >>> bool(0.4 < mutual_information(x, y).mi < 0.6)  # exact: 0.5 bits
        True
    """
    estimator = Estimator(k=k, n_permutations=n_permutations, metric=metric, space=space, unit=unit, seed=seed)
    a, b = Variable(x, discrete=False, name="x"), Variable(y, discrete=discrete, name="y")
    if b.kind.is_guess:
        warnings.warn(f"y is taken as {b.kind}. If they are classes, pass discrete=True.", stacklevel=2)
    return estimator.estimate(a, b)
