"""When an estimate is flagged: one function a source of evidence, each with its thresholds and where they come from."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
from numpy.typing import ArrayLike

from mi_callback.estimation.ceilings import ksg_limit, per_nat
from mi_callback.estimation.permutation import p_value
from mi_callback.estimation.records import Flag, MutualInformation

__all__ = [
    "flags_from_bound",
    "flags_from_mixture",
    "flags_from_record",
    "flags_from_samples",
    "judged",
    "raised",
    "with_flags",
]

_SIGNIFICANT = 2.0  # standard errors, where one comparison is made
_OF_SAMPLES = (Flag.CONSTANT, Flag.DUPLICATES, Flag.SINGLETONS, Flag.FEW_PER_CLASS, Flag.DEAD_UNITS)  # however read
_ERRORS_OF_BOUND = 3.0  # standard errors that a lower bound leaves below it, where it raises the interval's low end
_NEAR_LIMIT = math.log(2)  # nats: so near, a line with Gaussian noise reads .7 to .8 too low, n = 350 to 4,000
# (k/n)^(1/id): how far the k-th neighbour is, as a share of the cloud's width. Where it is a third, 1 nat between
# Gaussian coordinates reads .67 (n = 500, d = 5) and .75 (n = 2,000, d = 6).
_FAR_NEIGHBOUR = 1 / 3
_DRIFT = 0.24  # nats between n/2 and n; one-dimensional cases with n = 350 stay below at errors up to .25 bits
# Of the value: 1 nat between two Gaussian coordinates and two others reads right within .02 and drifts by .02 at most,
# between three and three reads .82 and drifts by .13 (n = 500).
_RELATIVE_DRIFT = 0.12
_NEGLIGIBLE_DRIFT = 0.05  # nats; by hand
_MIXTURE_DRIFT = 0.15  # nats; measured on Gaussian layers of 1 to 64 units, larger errors than .4 bits lie above
_NEGLIGIBLE = 0.03  # nats that a lower bound may lie above the estimate, or above zero, without meaning; by hand
# Times the estimate that the interval's high end lies above it: on 175 random dependences at n = 1,000 this catches .65
# of those read more than a fifth wrong, and .15 of the others.
_FAR_ABOVE = 1.5
_LITTLE = 0.1  # nats above the estimate that need no flag; by hand
_FAR_BELOW = 5.0  # standard deviations of the null; the lowest of 715 independent pairs of twelve kinds lay at -3.3
_DEAD_SHARE = 0.1  # of the units; by hand


def with_flags(estimate: MutualInformation, *flags: Flag) -> MutualInformation:
    """The estimate with further flags; none twice, in the order of ``Flag``."""
    wanted = {*estimate.flags, *flags}
    return dataclasses.replace(estimate, flags=tuple(flag for flag in Flag if flag in wanted))


def judged(
    estimate: MutualInformation,
    *flags: Flag,
    x: ArrayLike | None = None,
    labels: ArrayLike | None = None,
    partner_dim: float = math.nan,
    bound: MutualInformation | None = None,
) -> MutualInformation:
    """The estimate with all flags that what is known speaks for: the one place where neighbours' estimates are judged.

    What only the other layers can tell is left to the audit.

    Args:
        estimate: an estimate by "ksg" or "ross".
        flags: those found on the way to the estimate.
        x: shape (n,) or (n, d), the samples on the side whose neighbours are searched.
        labels: shape (n,) or (n, 1), the other side if it is discrete.
        partner_dim: intrinsic dimension of the second side, if known; the first side's is in the record.
        bound: a lower bound on the same information.
    """
    found = {*estimate.flags, *flags, *flags_from_record(estimate, partner_dim=partner_dim)}
    if x is not None:
        found.update(flags_from_samples(x, labels, discrete=labels is not None, k=estimate.k))
    if bound is not None:
        found.update(flags_from_bound(estimate, bound.mi, bound.stderr))
        estimate = dataclasses.replace(estimate, interval=_above(estimate.interval, bound))
    return with_flags(estimate, *found)


def raised(estimate: MutualInformation, bound: MutualInformation) -> MutualInformation:
    """The greater of an estimate and of a lower bound that lies above it beyond its error: a reading like the others.

    It has to stand out of zero by three standard errors, as it does in one of hundreds of independent pairs, so that
    null and p-value stay those of the other readings.

    Args:
        estimate: an estimate by "auto".
        bound: usable information.
    """
    if not (bound.mi > _ERRORS_OF_BOUND * bound.stderr and bound.mi - bound.stderr > estimate.mi):
        return estimate
    low, high = estimate.interval
    rise = bound.mi - estimate.mi
    raw = estimate.raw + rise
    return dataclasses.replace(
        estimate,
        mi=bound.mi,
        raw=raw,
        p_value=None if estimate.p_value is None else p_value(raw, estimate.null),
        stderr=bound.stderr,
        interval=(low, high + rise),  # the low end is raised when it is judged
        half=math.nan,
        estimator=bound.estimator,
        space="decoder",
        is_fitted=True,
        flags=tuple(flag for flag in estimate.flags if flag in _OF_SAMPLES),
    )


def _above(interval: tuple[float, float], bound: MutualInformation) -> tuple[float, float]:
    """An interval above a lower bound; open if the bound refutes it."""
    low, high = interval
    least = bound.mi - _ERRORS_OF_BOUND * bound.stderr
    if not least > low:
        return interval
    return least, high if least < high else math.inf


def flags_from_record(estimate: MutualInformation, *, partner_dim: float = math.nan) -> tuple[Flag, ...]:
    """What an estimate by neighbours says against itself: saturation, dimension, drift, and the null band.

    Args:
        estimate: an estimate by "ksg" or "ross".
        partner_dim: intrinsic dimension of the second side, if known; the first side's is in the record.
    """
    e, nat = estimate, per_nat(estimate.unit)
    if Flag.CONSTANT in e.flags:
        return ()  # 0 is exact then
    flags = []
    if e.estimator == "ksg" and e.raw > (ksg_limit(e.n_samples, e.k) - _NEAR_LIMIT) * nat:
        flags.append(Flag.SATURATED)
    dimension = max((d for d in (e.intrinsic_dim, partner_dim) if math.isfinite(d)), default=0.0)
    # in a fitted space distances follow a few directions, whatever the cloud fills
    if dimension > 0 and not e.is_fitted and (e.k / e.n_samples) ** (1 / dimension) > _FAR_NEIGHBOUR:
        flags.append(Flag.DIMENSION)
    drift, noise = abs(e.raw - e.half), 0.0 if math.isnan(e.stderr) else e.stderr
    if drift > _DRIFT * nat + _SIGNIFICANT * noise or drift > max(
        _RELATIVE_DRIFT * abs(e.raw), _NEGLIGIBLE_DRIFT * nat, 3 * noise
    ):
        flags.append(Flag.DRIFT)
    if e.interval[1] - e.mi > max(_FAR_ABOVE * e.mi, _LITTLE * nat):
        flags.append(Flag.UNBOUNDED)
    if e.p_value is not None and len(e.null) >= 19:  # with fewer, p cannot reach .05, and the spread is a guess
        if e.raw < e.null_mean - _FAR_BELOW * e.null_std:
            flags.append(Flag.BELOW_NULL)
        elif e.p_value > 0.05:
            flags.append(Flag.WITHIN_NULL)
    return tuple(flags)


def flags_from_mixture(estimate: MutualInformation, *, is_enumerable: bool, drift_stderr: float) -> tuple[Flag, ...]:
    """What the mixture estimator says against itself: near log n, or still moving with n.

    Args:
        estimate: an estimate by "mixture".
        is_enumerable: whether the sample shows all inputs there are; the sum over samples is then the true one.
        drift_stderr: standard error of ``raw - half``, in the estimate's unit.
    """
    if is_enumerable:
        return ()
    nat, flags = per_nat(estimate.unit), []
    if estimate.raw > (math.log(estimate.n_samples) - _NEAR_LIMIT) * nat:
        flags.append(Flag.SATURATED)
    if abs(estimate.raw - estimate.half) > _MIXTURE_DRIFT * nat + _SIGNIFICANT * drift_stderr:
        flags.append(Flag.DRIFT)
    return tuple(flags)


def flags_from_bound(estimate: MutualInformation, bound: float, bound_stderr: float) -> tuple[Flag, ...]:
    """Whether an estimate lies below a lower bound measured on the same samples, beyond error bars.

    A bound that does not stand out of zero says nothing that the null does not, and nobody could rely on it.

    Args:
        estimate: an estimate of the total information.
        bound: usable information, in the same unit.
        bound_stderr: its standard error.
    """
    own = 0.0 if math.isnan(estimate.stderr) else estimate.stderr
    gap, negligible = bound - estimate.mi, _NEGLIGIBLE * per_nat(estimate.unit)
    if bound < max(_SIGNIFICANT * bound_stderr, negligible):
        return ()
    allowed = max(_SIGNIFICANT * math.hypot(own, bound_stderr), 0.05 * bound, negligible)
    return (Flag.BELOW_USABLE,) if gap > allowed else ()


def flags_from_samples(
    activations: ArrayLike, target: ArrayLike | None = None, *, discrete: bool = False, k: int = 3
) -> tuple[Flag, ...]:
    """What the samples themselves warn of: dead units, and classes with too few members.

    Args:
        activations: shape (n,) or (n, d).
        target: shape (n,) or (n, 1), the labels; looked at only if ``discrete``.
        discrete: whether the target is a class.
        k: number of neighbours.
    """
    t = np.asarray(activations)
    t = t.reshape(len(t), -1)
    flags = []
    dead = np.count_nonzero(t.max(axis=0) == t.min(axis=0))
    if _DEAD_SHARE * t.shape[1] <= dead < t.shape[1]:  # all of them: that is Flag.CONSTANT
        flags.append(Flag.DEAD_UNITS)
    if discrete and target is not None:
        counts = np.unique(np.asarray(target), return_counts=True)[1]
        if len(counts) > 1 and counts.min() < 3 * k:
            flags.append(Flag.FEW_PER_CLASS)
    return tuple(flags)
