"""What an estimate of mutual information says about itself: the record, and the flags it can carry."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

__all__ = ["Flag", "MutualInformation", "Unit"]

Unit = Literal["bits", "nats"]


class Flag(enum.Enum):
    """A reason to read an estimate with care. The value is the message: what is the matter and what to do."""

    CONSTANT = "One side does not vary, so it carries no information: the estimate is 0. Check for a dead layer."
    DUPLICATES = (
        "More than 1 % of the samples repeat an earlier one exactly; copies that count as neighbours inflate the "
        "estimate. Remove repeated samples, or measure a discrete side with discrete=True."
    )
    SINGLETONS = "Classes with a single member were left out. Merge rare classes or gather more samples."

    @property
    def label(self) -> str:
        """Short lower-case name, as written into history rows."""
        return self.name.lower()


@dataclass(frozen=True, slots=True, eq=False)
class MutualInformation:
    """One estimate of mutual information, with what is needed to judge it.

    Attributes:
        mi: null-debiased estimate, ``raw - null_mean``, in ``unit``. Signed, never clipped.
        raw: estimate before debiasing, in ``unit``.
        null: shape (P,), the estimates with y permuted, in ``unit``; empty if no permutation was asked for.
        null_mean: mean of ``null``, 0 if it is empty.
        null_std: standard deviation of ``null`` (``ddof=1``), NaN for fewer than two permutations.
        p_value: ``(1 + #{null >= raw}) / (1 + P)``, None without permutations (Phipson & Smyth 2010,
            doi:10.2202/1544-6115.1585).
        stderr: subsampling standard error of ``raw``, in ``unit``; NaN where n is too small for it.
        unit: "bits" or "nats".
        k: number of neighbours.
        n_samples: number of samples n that entered the estimate.
        estimator: name of the estimator, such as "ksg" or "ross".
        space: name of the space in which distances were taken.
        intrinsic_dim: intrinsic dimension of x by maximum likelihood (Levina & Bickel 2004); NaN if undefined.
        flags: reasons to read the estimate with care.
        n_completed: rows, over the estimate and its permutations, that reached beyond the neighbour table and were
            completed exactly.
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
