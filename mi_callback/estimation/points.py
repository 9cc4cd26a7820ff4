"""Evaluation points: the samples at which local values are taken, each with its neighbours among all samples.

KSG, Ross and mixture estimates are means over samples of a local value. Their mean over Q random samples has the bias
of all n, costs Q / n of the work, and adds one error that is known: sd(local)^2 (1 / Q - 1 / n).
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from mi_callback.estimation.permutation import stream

__all__ = ["FEWEST", "MOST", "PILOT", "NPoints", "evaluation_points", "points_needed"]

NPoints = int | Literal["auto"] | None

FEWEST, MOST = 2_000, 10_000
"""Points that "auto" takes at the least and at the most; up to MOST samples are all points."""

PILOT = 1_000
"""Points whose local values tell how many are needed, and whether a fitted space reads more (.07 nats are seen)."""

_STEPS = (2_000, 3_000, 4_500, 6_700, 10_000)  # few sizes, so that the estimates of a layer share their tables
_SAMPLING_ERROR = 0.02  # nats
_PURPOSE = 2  # of the stream that orders the samples


def evaluation_points(n_samples: int, n_points: int, seed: int) -> NDArray[np.int64] | None:
    """Points among samples, ascending: the first ``n_points`` of one random order, so that sets of points are nested.

    Returns:
        Shape (Q,); None if all samples are points.
    """
    if n_points >= n_samples:
        return None
    return np.sort(stream(seed, _PURPOSE).permutation(n_samples)[:n_points])


def points_needed(local: NDArray[np.float64]) -> int:
    """Number of points that bring the sampling error under .02 nats, as "auto" takes them.

    Args:
        local: shape (PILOT,), local values in nats.
    """
    wanted = local.var(ddof=1) / _SAMPLING_ERROR**2
    return next((step for step in _STEPS if step >= wanted), MOST)
