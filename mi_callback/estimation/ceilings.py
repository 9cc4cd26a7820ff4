"""What bounds an estimate from above: the data, and the number of samples."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import digamma

from mi_callback.estimation.entropy import entropy
from mi_callback.estimation.records import Ceiling, Flag, MutualInformation, Unit

__all__ = ["Ceilings", "ceilings", "ksg_limit", "per_nat"]


def per_nat(unit: Unit) -> float:
    """What one nat is in ``unit``."""
    return 1 / math.log(2) if unit == "bits" else 1.0


def ksg_limit(n: int, k: int) -> float:
    """psi(n) - psi(k) in nats: what the estimator of Kraskov et al. reads where x and y are the same.

    Kraskov, Stoegbauer & Grassberger 2004, doi:10.1103/PhysRevE.69.066138.
    """
    return float(digamma(n) - digamma(k))


@dataclass(frozen=True, slots=True)
class Ceilings:
    """Upper limits of a run, in ``unit``.

    Attributes:
        information: I(X;Y), which no I(T;Y) exceeds (data processing); NaN if it was not measured.
        information_stderr: its standard error.
        target_entropy: H(Y) of a discrete target; NaN for a continuous one.
        log_n: the entropy of n samples that are all different, which no sum over samples exceeds.
        estimator_limit: psi(n) - psi(k), which no KSG estimate exceeds.
        unit: "bits" or "nats".
    """

    information: float
    information_stderr: float
    target_entropy: float
    log_n: float
    estimator_limit: float
    unit: Unit

    def of_target(self) -> Ceiling:
        """The lowest limit on I(T;Y); infinity if there is none.

        H(Y) is known better than I(X;Y), so it counts where the two are within two standard errors.
        """
        information = math.inf if math.isnan(self.information) else self.information
        stderr = 0.0 if math.isnan(self.information_stderr) else self.information_stderr
        if not math.isnan(self.target_entropy) and self.target_entropy <= information + 2 * stderr:
            return Ceiling(self.target_entropy)
        return Ceiling(information, stderr)

    def is_refuted_by(self, usable: MutualInformation) -> bool:
        """Whether a lower bound on some I(T;Y) lies above I(X;Y), which then was read too low."""
        return Ceiling(self.information, self.information_stderr).is_refuted_by(usable.mi, usable.stderr)

    def without_information(self) -> Ceilings:
        """The limits but for I(X;Y)."""
        return replace(self, information=math.nan, information_stderr=math.nan)

    def named(self) -> dict[str, tuple[float, float]]:
        """Finite limits by the name under which figures draw them, each with its standard error (NaN if exact)."""
        limits = {
            "I(X;Y)": (self.information, self.information_stderr),
            "H(Y)": (self.target_entropy, math.nan),
            "log n": (self.log_n, math.nan),
            "psi(n) - psi(k)": (self.estimator_limit, math.nan),
        }
        return {name: limit for name, limit in limits.items() if math.isfinite(limit[0])}


def ceilings(
    n: int, k: int, unit: Unit, *, information: MutualInformation | None = None, labels: ArrayLike | None = None
) -> Ceilings:
    """Put together the limits of a run.

    Args:
        n: number of samples.
        k: number of neighbours.
        unit: unit of the result.
        information: an estimate of I(X;Y), in the same unit. Left out of the limits if it is saturated or of too many
            dimensions: an estimate that is too low would accuse the layers. If it still moves with the number of
            samples, the move is counted as an error.
        labels: shape (n,), a discrete target.
    """
    scale = per_nat(unit)
    if information is not None and information.unit != unit:
        raise ValueError(f"information: expected an estimate in {unit}, got {information.unit}.")
    if information is not None and {Flag.SATURATED, Flag.DIMENSION, Flag.BELOW_USABLE} & set(information.flags):
        information = None
    value = stderr = math.nan
    if information is not None:
        value, stderr = information.mi, information.stderr
        if Flag.DRIFT in information.flags:
            stderr = math.hypot(0.0 if math.isnan(stderr) else stderr, information.raw - information.half)
    return Ceilings(
        information=value,
        information_stderr=stderr,
        target_entropy=math.nan if labels is None else float(np.mean(entropy(labels))) * scale,
        log_n=math.log(n) * scale,
        estimator_limit=ksg_limit(n, k) * scale,
        unit=unit,
    )
