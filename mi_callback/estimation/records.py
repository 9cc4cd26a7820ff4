"""What an estimate of mutual information says about itself: the record, and the flags it can carry."""

from __future__ import annotations

import enum
import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["Ceiling", "Flag", "MutualInformation", "Unit"]

Unit = Literal["bits", "nats"]

_SIGNIFICANT = 2.0  # standard errors, where one comparison is made
_NEGLIGIBLE = 0.01  # of a ceiling


class Flag(enum.Enum):
    """A reason to read an estimate with care. The value is the message: what is the matter and what to do."""

    CONSTANT = "One side does not vary, so it carries no information: the estimate is 0. Check for a dead layer."
    DUPLICATES = (
        "More than 1 % of the samples repeat an earlier one exactly; copies that count as neighbours inflate the "
        "estimate. Remove repeated samples, or measure a discrete side with discrete=True."
    )
    SINGLETONS = "Classes with a single member were left out. Merge rare classes or gather more samples."
    SATURATED = (
        "The estimate is within one bit of the most that so many samples can show; the truth may be anything above. "
        "Use more samples, or measure I(X;T) with a larger noise_std."
    )
    ABOVE_CEILING = (
        "The estimate lies above I(X;Y) or H(Y) by more than two standard errors and 1 %, which the truth cannot: one "
        "of the two is off. Most often it is I(X;Y), read too low off inputs of many dimensions: use more samples. If "
        "it is the layer, look for repeated samples, then for targets that leak into the inputs."
    )
    BELOW_USABLE = (
        "The estimate lies below what a simple held-out decoder gets out of the same samples, so it is too low. Rely "
        "on usable information, use more samples, or try space='supervised'."
    )
    DIMENSION = (
        "The samples fill more dimensions than their number can resolve: nearest neighbours are far away, and the "
        "estimate is biased low. Use more samples, a narrower layer, or noise_std for I(X;T)."
    )
    DRIFT = (
        "The estimate still moves with the number of samples: half of them give a different value. Read it as a bound "
        "in the direction of the drift, and use more samples, or for I(X;T) a larger noise_std."
    )
    FEW_PER_CLASS = (
        "A class has fewer than three times k members, so its neighbours reach across its whole cloud. Merge rare "
        "classes or gather more samples."
    )
    DEAD_UNITS = (
        "At least a tenth of the columns, a layer's units, do not vary over the samples. They are harmless to the "
        "estimate, but check initialisation, learning rate and activation function."
    )
    WITHIN_NULL = (
        "The estimate is not told apart from independence (p > .05 under permuted samples). Do not read a trend into "
        "it."
    )
    BELOW_NULL = (
        "The estimate lies further below those of permuted samples than chance can put it: the two sides are surely "
        "dependent, and the value is meaningless, as distances do not show this dependence. Rely on usable "
        "information, or try another space, such as space='raw' or space='supervised'."
    )
    CONSTANT_DECODER = (
        "No linear decoder read held-out samples better than one that looks at nothing, so usable information is 0. "
        "Too few samples give that too: before reading it as information lost, see whether more samples raise it."
    )
    DETERMINISTIC = (
        "A deterministic layer of a continuous input has infinite I(X;T); the reading shows the resolution of the "
        "samples, not compression. Set noise_std to measure I(X; T + sigma Z)."
    )
    UNBOUNDED = (
        "The truth may be more than twice as large, or nothing bounds it from above: of many dimensions little or "
        "nothing was found, or the samples are too few. Absence of evidence is all there is: use more samples or a "
        "narrower layer."
    )
    EITHER_WAY = (
        "Both sides fill many dimensions and only their neighbours show the dependence: the estimate may be too high "
        "as well as too low, as where the norm alone carries the information. Rely on the low end of the interval."
    )
    DATA_PROCESSING = (
        "The estimate exceeds that of a layer it should be bounded by, beyond error bars, which no chain of layers can "
        "do. One of the two is biased, unless connections skip layers."
    )
    BELOW_TARGET = (
        "I(X;T) lies below what the same layer holds on the target, beyond error bars, and cannot: all that a layer "
        "knows of Y it has from X. It is read too low, most often because X has many dimensions. Use more samples, "
        "give what X is in fewer dimensions as a third value of batch_fn, or set noise_std."
    )

    @property
    def label(self) -> str:
        """Short lower-case name, as written into history rows."""
        return self.name.lower()

    @property
    def is_doubt(self) -> bool:
        """Whether it casts doubt on the value; figures draw such points hollow. The others are remarks."""
        return self not in (
            Flag.CONSTANT,
            Flag.SINGLETONS,
            Flag.FEW_PER_CLASS,
            Flag.DEAD_UNITS,
            Flag.WITHIN_NULL,
            Flag.CONSTANT_DECODER,
        )


@dataclass(frozen=True, slots=True, eq=False)
class MutualInformation:
    """One estimate of mutual information, with what is needed to judge it.

    Attributes:
        mi: null-debiased estimate, ``raw - null_mean``, in ``unit``. Signed, never clipped. The mixture estimator,
            which has no null, is debiased by 1/n extrapolation instead: ``2 raw - half``.
        raw: estimate before debiasing, in ``unit``.
        null: shape (P,), the estimates with y permuted, in ``unit``; empty if no permutation was asked for.
        null_mean: mean of ``null``, 0 if it is empty.
        null_std: standard deviation of ``null`` (``ddof=1``), NaN for fewer than two permutations.
        p_value: ``(1 + #{null >= raw}) / (1 + P)``, None without permutations (Phipson & Smyth 2010,
            doi:10.2202/1544-6115.1585).
        stderr: standard error of ``raw``, in ``unit``: by subsampling, or by the spread of estimates on parts with all
            fits made anew, whichever is larger; NaN where n is too small for it.
        unit: "bits" or "nats".
        k: number of neighbours.
        n_samples: number of samples n that entered the estimate.
        interval: low and high, in ``unit``, which hold the truth in about 95 of 100 cases; infinite at the top where
            nothing bounds it. See ``mi_callback/estimation/interval.py``.
        part_mi: mean of the estimates on parts of the samples, fits and choices made anew, in ``unit``; NaN without.
            How far ``mi`` lies above says how much it still rises with n.
        part_size: number of samples in each of these parts; 0 without.
        n_points: number of evaluation points, the samples at which local values were taken; None if unknown.
        estimator: name of the estimator, such as "ksg" or "ross".
        space: name of the space in which distances were taken.
        intrinsic_dim: intrinsic dimension of x by maximum likelihood (Levina & Bickel 2004); NaN if undefined.
        flags: reasons to read the estimate with care.
        n_completed: rows, over the estimate and its permutations, that reached beyond the neighbour table and were
            completed exactly.
        half: mean of the estimates on halves of the samples, in ``unit``; NaN if it was not made. How far it lies
            from ``raw`` says how much the estimate still moves with n.
        bounds: lower and upper bound on the true value, in ``unit``, where the estimator has them; else None.
        reason: why this estimator was chosen, and what the value means with it; empty where there was no choice.
        is_fitted: whether that space was fitted to the samples.
        noise_std: standard deviation of the measurement noise of I(X; T + sigma Z); None without noise.
        reduction: what was done to a wide layer before its space, which can only lower the information; None if
            nothing was.
    """

    mi: float
    raw: float
    null: NDArray[np.float64]
    null_mean: float
    null_std: float
    p_value: float | None
    stderr: float
    unit: Unit
    k: int
    n_samples: int
    estimator: str
    space: str
    intrinsic_dim: float
    flags: tuple[Flag, ...] = ()
    n_completed: int = 0
    half: float = math.nan
    bounds: tuple[float, float] | None = None
    reason: str = ""
    is_fitted: bool = False
    noise_std: float | None = None
    reduction: str | None = None
    n_points: int | None = None
    interval: tuple[float, float] = (math.nan, math.nan)
    part_mi: float = math.nan
    part_size: int = 0

    def __repr__(self) -> str:
        """What a reader wants to see first; the null and the rest are attributes."""
        p_value = "" if self.p_value is None else f", p_value={self.p_value:.3g}"
        flags = f", flags=[{', '.join(flag.label for flag in self.flags)}]" if self.flags else ""
        low, high = self.interval
        return (
            f"MutualInformation({self.mi:.3f} in [{low:.3f}, {high:.3f}] {self.unit}{p_value}, "
            f"n_samples={self.n_samples}, estimator={self.estimator!r}, space={self.space!r}{flags})"
        )


@dataclass(frozen=True, slots=True)
class Ceiling:
    """An upper limit of what can be true, or of what the estimator can read.

    Attributes:
        value: the limit, in the unit of the estimates.
        stderr: its standard error; NaN if it is exact or unknown.
        quantities: quantities that it bounds; empty for all.
    """

    value: float
    stderr: float = math.nan
    quantities: tuple[str, ...] = ()

    def is_below(self, value: ArrayLike, stderr: ArrayLike = math.nan) -> NDArray[np.bool_]:
        """Whether values lie above the limit beyond error: by two standard errors of both, and by 1 % of it.

        The 1 %: at separable classes both are H(Y), known to .001 bits, and the null's mean alone moves a reading by
        more than that.

        Args:
            value: shape (...), estimates.
            stderr: shape (...), their standard errors; NaN counts as 0.

        Returns:
            Shape (...).
        """
        error = np.hypot(np.nan_to_num(stderr), np.nan_to_num(self.stderr))
        margin = np.maximum(_SIGNIFICANT * error, _NEGLIGIBLE * abs(self.value))
        return np.asarray(np.asarray(value) > self.value + margin)

    def is_refuted_by(self, value: float, stderr: float) -> bool:
        """Whether a lower bound on what it limits lies above it: an estimate of a limit can be too low.

        A limit without a standard error is not an estimate, and stands.
        """
        return math.isfinite(self.stderr) and bool(self.is_below(value, stderr))
