"""Does I(X;T) really fall? A verdict that one estimator's artefact cannot earn."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

__all__ = ["Curve", "Verdict", "compression_verdict"]

_SIGNIFICANT = 3.0  # standard errors: the highest of many noisy values stands out by two on its own
_SMALLEST = 0.05  # of the peak: what falls by less is called steady; by hand


@dataclass(frozen=True, slots=True, eq=False)
class Curve:
    """One measurement of I(X;T) of a layer over the epochs; another estimator, noise or sample size is another curve.

    Attributes:
        values: shape (E,), in any unit; NaN where there is none.
        stderr: shape (E,), standard errors; NaN counts as 0.
        is_exact: whether the values are the truth, as counted entropies are: such a curve decides alone.
    """

    values: NDArray[np.float64]
    stderr: NDArray[np.float64]
    is_exact: bool = False

    def fall(self) -> tuple[float, float]:
        """How far the end lies below the highest point before it, and the standard error of that.

        The mean of up to three neighbouring epochs is taken at either place: the highest of many noisy values lies
        above the truth, and would see a fall in every flat curve. All epochs are measured on the same samples, so their
        errors go together: the larger of the two is taken for the error of the difference, not the sum of squares.
        """
        present = np.isfinite(self.values)
        values = self.values[present]
        stderr = np.nan_to_num(self.stderr[present])
        if len(values) < 3:
            return 0.0, math.inf
        width = 3 if len(values) >= 9 else 1
        means = np.convolve(values, np.full(width, 1 / width), mode="valid")
        errors = np.sqrt(np.convolve(stderr**2, np.full(width, 1 / width), mode="valid"))  # the same samples: no gain
        peak = int(means.argmax())
        return float(means[peak] - means[-1]), max(float(errors[peak]), float(errors[-1]))


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether a layer compresses its input.

    Attributes:
        kind: "falls": all curves agree that I(X;T) falls. "steady": none falls. "contradicted": some do, some do not.
            "undecided": a single estimate, or fewer than three epochs, can decide nothing.
        falling: names of the curves that fall.
        steady: names of the curves that do not.
        reason: why there is nothing to decide by; empty if there is.
    """

    kind: Literal["falls", "steady", "contradicted", "undecided"]
    falling: tuple[str, ...]
    steady: tuple[str, ...]
    reason: str = ""

    def __str__(self) -> str:
        if self.reason:
            return f"Undecided: {self.reason}"
        return {
            "falls": f"I(X;T) falls, by all of: {', '.join(self.falling)}.",
            "steady": f"I(X;T) does not fall, by any of: {', '.join(self.steady)}.",
            "contradicted": f"I(X;T) falls by {', '.join(self.falling)}, but not by {', '.join(self.steady)}: "
            "not evidence of compression.",
            "undecided": f"Undecided: {', '.join((*self.falling, *self.steady)) or 'no curve'} alone cannot tell. "
            "Measure with noise_std=[...] and over three epochs at least.",
        }[self.kind]


def compression_verdict(curves: Mapping[str, Curve]) -> Verdict:
    """Call I(X;T) falling only if every curve of it falls beyond error bars and by more than 5 % of its peak.

    A fall that only one estimator sees, or one noise level, or one sample size, is the estimator's: chains whose exact
    information rises have been reported as compressing on such evidence.

    Args:
        curves: curves of one layer by name, such as "ksg", "ksg, half the samples", "mixture, sigma = 0.1", "usable".
    """
    exact = {name: curve for name, curve in curves.items() if curve.is_exact}
    falling: list[str] = []
    steady: list[str] = []
    for name, curve in (exact or curves).items():
        drop, stderr = curve.fall()
        if math.isinf(stderr):
            continue
        peak = float(np.nanmax(curve.values))
        falls = drop > _SIGNIFICANT * stderr and drop > _SMALLEST * abs(peak)
        (falling if falls else steady).append(name)
    kind: Literal["falls", "steady", "contradicted", "undecided"]
    if len(falling) + len(steady) < (1 if exact else 2):
        kind = "undecided"
    elif falling and steady:
        kind = "contradicted"
    else:
        kind = "falls" if falling else "steady"
    return Verdict(kind, tuple(falling), tuple(steady))
