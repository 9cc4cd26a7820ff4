"""Mutual information of two samples, with its null, error bar and flags: what a user without Lightning calls."""

from __future__ import annotations

import copy
import dataclasses
import math
import warnings
from typing import Literal, cast, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mi_callback.estimation.ceilings import per_nat
from mi_callback.estimation.checks import (
    check_choice,
    check_count,
    check_enough_samples,
    check_points,
    check_same_length,
)
from mi_callback.estimation.dimension import intrinsic_dimension
from mi_callback.estimation.entropy import entropy
from mi_callback.estimation.flagging import judged, raised, with_flags
from mi_callback.estimation.interval import Parts, interval, reads_either_way
from mi_callback.estimation.neighbors import Metric, NeighborTable
from mi_callback.estimation.parallel import Team, shared_among
from mi_callback.estimation.permutation import Permutations, p_value, stream
from mi_callback.estimation.points import MOST, PILOT, NPoints, evaluation_points, points_needed
from mi_callback.estimation.projections import project
from mi_callback.estimation.readings import Reading, greatest, read_table
from mi_callback.estimation.records import Flag, MutualInformation, Unit
from mi_callback.estimation.spaces.competition import read_in_best_space
from mi_callback.estimation.subsampling import drop_singletons, subsample
from mi_callback.estimation.targets import LabelTarget, Target
from mi_callback.estimation.usable import usable_information
from mi_callback.estimation.variable import PlainSpace, Variable

__all__ = ["Estimator", "Space", "mutual_information"]

Space = Literal["auto", "raw", "standard", "scores", "supervised"]

_DUPLICATES = 0.01  # share of repeated samples that is worth a flag
_CHECKED_ENTRIES = 2**20  # and a decoder is fitted on so many samples times columns, such as 10,000 x 100
_PARTS = 4  # on which everything is done again: three degrees of freedom for what fits add to the error
_SMALLEST_PART, _LARGEST_PART = 20, 1_250  # samples; of more than 5,000 some are in none, to cost little
_PERMUTATIONS_OF_PARTS = 8  # they only take off what the greatest of several readings gains by chance
_PURPOSE = 8  # of the stream that draws them
_FEWEST_DECODED = 10  # samples: two a fold


class Estimator:
    """Estimates the mutual information of variables, always in the same way.

    Args:
        k: number of neighbours.
        n_permutations: number of permutations P of the null.
        metric: "euclidean" or "chebyshev".
        space: where distances are taken; see ``mutual_information``.
        unit: "bits" or "nats".
        seed: seed of permutations, subsamples and evaluation points.
        n_points: number of evaluation points Q; see ``mutual_information``.

    Attributes:
        most_points: the most evaluation points to take, whatever ``n_points`` asks for; None for no limit.
        team: processes that all make the same estimates of the same samples, and share out the evaluation points.
        n_parts: number of parts of the samples on which everything is done again, for the interval; 0 for none.

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
        n_points: NPoints = "auto",
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
        self.n_points = check_points(n_points, self.k)
        self.most_points: int | None = None
        self.team: Team | None = None
        self.n_parts = _PARTS

    def estimate(self, x: Variable, y: Variable, *, before: str = "") -> MutualInformation:
        """Mutual information I(x; y), in ``unit``.

        Args:
            x: the side whose neighbours are searched, such as a layer's activations.
            y: the side that is permuted, such as the target. Discrete if it says so.
            before: the space that the same layer was read in before. "auto" stays in it until another is ahead, so
                that curves do not jump between spaces that read alike.

        Raises:
            ValueError: different numbers of samples, or fewer than k + 2, single members of classes included.
        """
        check_same_length(x.name, x.n_samples, y.name, y.n_samples)
        check_enough_samples(x.n_samples, self.k)
        samples, classes = x.values, y.labels.codes if y.discrete else None
        taken_for = f"{y.name} as {y.kind}"
        x, y, flags = _without_singletons(x, y)
        with shared_among(self.team):
            estimate = dataclasses.replace(self._estimate(x, y, flags, before), reason=taken_for)
        if self.team is not None:  # what fails on one fails on all, so that all remember the same
            self.team.share(None)
        return judged(estimate, x=samples, labels=classes)

    def at_points(self, n_samples: int) -> bool:
        """Whether so many samples are estimated at evaluation points."""
        return self._limit(n_samples) < n_samples

    def pilot(self, n_samples: int) -> NDArray[np.int64] | None:
        """The first of the evaluation points; None where all samples are points."""
        limit = self._limit(n_samples)
        return evaluation_points(n_samples, min(PILOT, limit), self.seed) if limit < n_samples else None

    def points(self, n_samples: int, local: NDArray[np.float64]) -> NDArray[np.int64] | None:
        """The evaluation points, the same for everything that has so many samples; None for all samples.

        Args:
            n_samples: number of samples n.
            local: local values at the pilot's points, in nats, which tell "auto" how many are needed.
        """
        wanted = limit = self._limit(n_samples)
        if self._asks_local(n_samples):
            wanted = min(points_needed(local), limit)
        return evaluation_points(n_samples, wanted, self.seed)

    def _asks_local(self, n_samples: int) -> bool:
        """Whether local values decide on the number of points."""
        return self.n_points == "auto" and n_samples > MOST

    def _limit(self, n_samples: int) -> int:
        """Points at the most."""
        limits = [n_samples]
        if self.most_points is not None:
            limits.append(self.most_points)
        if self.n_points == "auto":
            limits.append(MOST)
        elif self.n_points is not None:
            limits.append(self.n_points)
        return min(limits)

    def check(self, x: Variable, y: Variable, estimate: MutualInformation) -> MutualInformation:
        """Hold an estimate of I(x; y) against what a decoder attains, see ``held_against``.

        As it is done for the layers of a network; only where samples times columns are very many, the decoder is given
        fewer samples, on which it attains less.
        """
        part = np.arange(x.n_samples)[:: -(-x.values.size // _CHECKED_ENTRIES)]
        bound = self.usable(x.subset(part), y.subset(part)) if len(part) < x.n_samples else self.usable(x, y)
        return self.held_against(bound, estimate)

    def held_against(self, bound: MutualInformation, estimate: MutualInformation) -> MutualInformation:
        """An estimate in the light of a lower bound: with "auto" the greater of both, else flagged if it is lower."""
        return judged(raised(estimate, bound) if self.space == "auto" else estimate, bound=bound)

    def usable(self, x: Variable, y: Variable) -> MutualInformation:
        """What a held-out linear decoder gets out of x about y, in ``unit``; NaN for fewer than ten samples.

        The record's ``n_samples`` is the number that was read, at most 10,000.
        """
        name = "logistic" if y.discrete else "ridge"
        if x.n_samples < _FEWEST_DECODED:
            few = np.full(x.n_samples, math.nan)
            return self.without_null(few, x.n_samples, name, "held-out", reason="fewer than ten samples")
        target = y.labels.codes if y.discrete else y.values
        usable = usable_information(x.values, target, discrete=y.discrete, seed=self.seed)
        record = self.without_null(
            usable.local,
            len(usable.local),
            name,
            "held-out",
            reason="lower bound on I(T;Y) that a linear decoder attains on samples it was not fitted on",
        )
        record = dataclasses.replace(record, stderr=usable.stderr * per_nat(self.unit))
        if x.is_constant or y.is_constant:
            return with_flags(record, Flag.CONSTANT)
        return with_flags(record, Flag.CONSTANT_DECODER) if usable.constant_decoder else record

    def without_null(
        self,
        local: NDArray[np.float64],
        n_samples: int,
        estimator: str,
        space: str,
        *,
        reason: str,
        noise_std: float | None = None,
    ) -> MutualInformation:
        """A record in ``unit`` from local values in nats, of an estimate that needs no null."""
        unit = per_nat(self.unit)
        value, stderr = (one * unit for one in (float(local.mean()), float(local.std()) / math.sqrt(len(local))))
        return MutualInformation(
            mi=value,
            raw=value,
            null=np.empty(0),
            null_mean=0.0,
            null_std=math.nan,
            p_value=None,
            stderr=stderr,
            unit=self.unit,
            k=self.k,
            n_samples=n_samples,
            estimator=estimator,
            space=space,
            intrinsic_dim=math.nan,
            reason=reason,
            noise_std=noise_std,
            n_points=len(local),
            interval=(value - 2 * stderr, value + 2 * stderr),
        )

    def failed(self, n_samples: int) -> MutualInformation:
        """The record of an estimate that failed: NaN, so that curves show the gap."""
        p_value = math.nan if self.n_permutations else None
        nothing = np.array([math.nan])
        record = self.without_null(nothing, n_samples, "none", "none", reason="")
        return dataclasses.replace(record, null_mean=math.nan, p_value=p_value, n_points=None)

    def _estimate(self, x: Variable, y: Variable, flags: set[Flag], before: str = "") -> MutualInformation:
        name = "ross" if y.discrete else "ksg"
        n = x.n_samples
        if x.is_constant or y.is_constant:
            return self._nothing(n, name, flags)
        fits = self.space in ("auto", "supervised")
        space: PlainSpace = "scores" if fits else cast(PlainSpace, self.space)

        def sides(points: NDArray[np.int64] | None) -> tuple[NeighborTable, Target]:
            return x.table(space, self.metric, self.k, points), y.target(space, self.metric, self.k, points)

        pilot = self.pilot(n)
        table, target = sides(pilot)
        local = np.empty(0)
        if fits or self._asks_local(n):  # else the points are read once, with the null
            local = read_table(table, target, self.k).local
        points = self.points(n, local)
        if _share_of_repeats(table, target) > _DUPLICATES:
            flags.add(Flag.DUPLICATES)
        dimension = intrinsic_dimension(table)
        reading, permutations = None, Permutations(n, self.n_permutations, self.seed, points)
        if fits:
            fitted = read_in_best_space(
                x,
                y,
                table,
                target,
                local,
                points=points,
                k=self.k,
                metric=self.metric,
                n_permutations=self.n_permutations,
                seed=self.seed,
                always=self.space == "supervised",
                before=before,
            )
            if fitted is not None:
                reading, permutations = fitted
        if reading is None:
            table, target = sides(points)
            reading = read_table(table, target, self.k, permutations)
            parts = subsample(table, target, self.k, self.seed, local=reading.local, balanced=space != "raw")
            reading = dataclasses.replace(reading, stderr=parts.stderr, half=parts.half)
            dimension = intrinsic_dimension(table)
        if self.space == "auto":
            projected = project(
                x.in_space("scores"),
                y.labels.codes if y.discrete else y.in_space("scores"),
                k=self.k,
                metric=self.metric,
                permutations=permutations,
                points=points,
                seed=self.seed,
            )
            reading = greatest([reading, *projected])
        dimensions = dimension, intrinsic_dimension(target) if isinstance(target, NeighborTable) else math.nan
        return self._record(reading, n, name, space, flags, dimensions, self._on_parts(x, y), _most(y))

    def _on_parts(self, x: Variable, y: Variable) -> Parts:
        """The same on parts of the samples, everything fitted anew."""
        size = min(x.n_samples // max(self.n_parts, 1), self.most_points or _LARGEST_PART, _LARGEST_PART)
        nothing = Parts(np.empty(0), 0)
        if not self.n_parts or size < _SMALLEST_PART:
            return nothing
        smaller = copy.copy(self)
        smaller.n_permutations, smaller.n_points, smaller.n_parts = _PERMUTATIONS_OF_PARTS, None, 0
        order = stream(self.seed, _PURPOSE).permutation(x.n_samples)
        values = []
        for start in range(0, self.n_parts * size, size):
            rows = np.sort(order[start : start + size])
            try:
                a, b, _ = _without_singletons(x.subset(rows), y.subset(rows))
            except ValueError:  # each of so few has a class of its own
                return nothing
            if a.n_samples < _SMALLEST_PART:
                return nothing
            values.append(smaller._estimate(a, b, set()).mi / per_nat(self.unit))
        return Parts(np.array(values), size)

    def _record(
        self,
        reading: Reading,
        n_samples: int,
        estimator: str,
        space: str,
        flags: set[Flag],
        dimensions: tuple[float, float],
        parts: Parts,
        most: float,
    ) -> MutualInformation:
        """From a reading in nats to a record in the unit asked for."""
        unit, null, raw = per_nat(self.unit), reading.null, float(reading.local.mean())
        mean = float(null.mean()) if null.size else 0.0
        p, where = p_value(raw, null), reading.fitted_space or space
        stderr = float(np.fmax(reading.stderr, parts.stderr(n_samples)))
        if reads_either_way(where, dimensions):
            flags = flags | {Flag.EITHER_WAY}
        low, high = interval(
            raw - mean,
            stderr,
            p,
            certified=reading.certified,
            parts=parts,
            n_samples=n_samples,
            dimensions=dimensions,
            space=where,
            most=most,
        )
        return MutualInformation(
            mi=(raw - mean) * unit,
            raw=raw * unit,
            null=null * unit,
            null_mean=mean * unit,
            null_std=float(null.std(ddof=1)) * unit if null.size > 1 else math.nan,
            p_value=p,
            stderr=stderr * unit,
            unit=self.unit,
            k=self.k,
            n_samples=n_samples,
            estimator="copula" if reading.is_bound else estimator,
            space=where,
            is_fitted=reading.fitted_space is not None,
            intrinsic_dim=dimensions[0],
            flags=tuple(flag for flag in Flag if flag in flags),
            n_completed=reading.n_completed,
            half=reading.half * unit,
            interval=(low * unit, high * unit),
            part_mi=parts.mean * unit,
            part_size=parts.size,
            n_points=len(reading.local),
        )

    def _nothing(self, n_samples: int, estimator: str, flags: set[Flag]) -> MutualInformation:
        """The record of a side that does not vary."""
        reading = Reading(np.zeros(n_samples), np.zeros(self.n_permutations), 0, stderr=0.0, half=0.0)
        parts = Parts(np.empty(0), 0)
        record = self._record(
            reading, n_samples, estimator, self.space, flags | {Flag.CONSTANT}, (math.nan, math.nan), parts, 0.0
        )
        return dataclasses.replace(record, interval=(0.0, 0.0))


def _without_singletons(x: Variable, y: Variable) -> tuple[Variable, Variable, set[Flag]]:
    """Both sides without the samples whose class has no other member, and a flag if there were any."""
    kept = drop_singletons(y.labels) if y.discrete else None
    if kept is None:
        return x, y, set()
    if len(kept) == 0:
        raise ValueError(
            f"{y.name}: expected classes with several members, got a class of its own for each of "
            f"{y.n_samples} samples. Use discrete=False if the values are numbers."
        )
    return x.subset(kept), y.subset(kept), {Flag.SINGLETONS}


def _most(y: Variable) -> float:
    """H(Y) of classes, in nats: what no layer can exceed."""
    if not y.discrete:
        return math.inf
    return float(entropy(y.labels.codes).mean())


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
    n_points: NPoints = "auto",
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
        seed: seed of permutations, subsamples and evaluation points.
        n_points: number of evaluation points Q, at least k + 2. Local values are taken at Q random samples, each with
            its neighbours among all n, in Q / n of the time: the estimate keeps its bias, and its error bar grows by
            the sampling error. "auto": all samples up to 10,000; of more, 2,000 to 10,000, as many as bring the
            sampling error under .02 nats. None, or more than there are samples: all.

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
    estimator = Estimator(
        k=k, n_permutations=n_permutations, metric=metric, space=space, unit=unit, seed=seed, n_points=n_points
    )
    a, b = Variable(x, discrete=False, name="x"), Variable(y, discrete=discrete, name="y")
    if b.kind.is_guess:
        warnings.warn(f"y is taken as {b.kind}. If they are classes, pass discrete=True.", stacklevel=2)
    return estimator.check(a, b, estimator.estimate(a, b))
