r"""The interval that holds the truth in about 95 of 100 cases, and what each end rests on.

*Low*: the best held-out lower bound less two of its errors, or the estimate less three of its own: readings by
neighbours and projections err downwards.

*High*: the bias that is left. Everything, fits and choices included, is done again on parts of the samples. Where a
bias falls like :math:`n^{-a}`, an estimate on all n samples that lies :math:`\Delta` above those on parts of m is still
:math:`\Delta / ((n/m)^a - 1)` too low. What no size of sample shows, dependence behind many dimensions that reads the
same at all of them, gets an allowance that grows with the dimension. Where nothing was found among many dimensions, or
no parts were estimated, the interval is open: absence of evidence is all there is.

One reading can be too high: neighbours in normal scores where both sides are wide, if the norm alone carries the
dependence. What low rests on then are the other readings.

Constants were chosen on random dependences of known information (``benchmarks/families.py``, seeds 0 to 179 at 1,000
samples and 180 to 269 at 4,000), with which .94 and .93 of the intervals held the truth; others are what is reported.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["Parts", "interval", "reads_either_way"]

_ERRORS = 3.0  # standard errors at either end: they are themselves known to a fifth
_UNSURE = 0.02  # nats that an estimate may lie too high without a standard error showing it
_EXPONENT = 0.22  # of the bias: parts of a quarter lie a third of what is left below
_ALLOWANCE, _SHARE = 0.03, 0.05  # nats at 1,000 samples and three dimensions; and of the estimate
_FEW_DIMENSIONS = 2.0  # intrinsic; up to here neighbours find all there is
_WIDE = 8.0  # intrinsic dimensions of both sides from which neighbours can read too much
_SIGNIFICANT = 0.05


@dataclass(frozen=True, slots=True, eq=False)
class Parts:
    """Estimates on parts of the samples, everything fitted anew.

    Attributes:
        values: shape (parts,), estimates less their nulls, in nats.
        size: samples in each.
    """

    values: NDArray[np.float64]
    size: int

    @property
    def mean(self) -> float:
        """Their mean; NaN if there are none."""
        return float(self.values.mean()) if self.values.size else math.nan

    def stderr(self, n_samples: int) -> float:
        """Standard error of an estimate on all samples by their spread, as its variance falls like 1 / n."""
        return float(self.values.std(ddof=1)) * math.sqrt(self.size / n_samples) if self.values.size > 1 else math.nan


def reads_either_way(space: str, dimensions: tuple[float, float]) -> bool:
    """Whether a reading may be too high as well as too low.

    Args:
        space: where it was read.
        dimensions: intrinsic dimensions of both sides; NaN where there is none, as for classes.
    """
    return space == "scores" and min(dimensions) > _WIDE


def interval(
    mi: float,
    stderr: float,
    p_value: float | None,
    *,
    certified: float,
    parts: Parts,
    n_samples: int,
    dimensions: tuple[float, float],
    space: str,
    most: float = math.inf,
) -> tuple[float, float]:
    """A 95 % interval for the truth; open at the top where nothing bounds it. All in nats.

    Args:
        mi: the estimate less its null.
        stderr: its standard error; NaN counts as 0.
        p_value: of the estimate under permutations; None without.
        certified: what other readings and bounds leave below their errors; minus infinity if there is none.
        parts: estimates on parts of the samples.
        n_samples: number of samples n.
        dimensions: intrinsic dimensions of both sides; NaN where there is none.
        space: where it was read.
        most: what the truth cannot exceed, such as H(Y).
    """
    error = _ERRORS * (0.0 if math.isnan(stderr) else stderr)
    low = certified if reads_either_way(space, dimensions) else max(certified, mi - error - _UNSURE)
    low = min(max(low, -error - _UNSURE), most)
    many = max(max(np.nan_to_num(dimensions)) - _FEW_DIMENSIONS, 0.0)
    is_found = mi > error if p_value is None else p_value <= _SIGNIFICANT
    if not parts.values.size or (many and not is_found):
        return low, most
    bias = max(mi - parts.mean, 0.0) / ((n_samples / parts.size) ** _EXPONENT - 1)
    allowance = _ALLOWANCE * math.sqrt(many) * (1_000 / n_samples) ** 0.25 + (_SHARE * max(mi, 0.0) if many else 0.0)
    return low, max(low, min(max(mi, certified) + error + bias + allowance, most))
