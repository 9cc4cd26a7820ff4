"""Intrinsic dimension, read off the first distances of each row."""

from __future__ import annotations

import math

import numpy as np

from mi_callback.estimation.neighbors import NeighborTable

__all__ = ["intrinsic_dimension"]

_NEIGHBORS = 20


def intrinsic_dimension(table: NeighborTable) -> float:
    """Dimension of the set that the samples lie on, by maximum likelihood.

    Levina & Bickel (2004), "Maximum likelihood estimation of intrinsic dimension", eq. 8, averaged over the samples by
    the mean of the inverses (MacKay & Ghahramani 2005). Rows that begin with coincident samples are left out.

    Args:
        table: neighbours of n samples.

    Returns:
        The dimension; NaN if no row is left.
    """
    columns = min(_NEIGHBORS, table.distances.shape[1])
    near = table.distances[:, :columns].astype(np.float64)
    usable = (table.lengths >= columns) & (columns > 2)
    usable &= near[:, 0] > 0
    if not usable.any():
        return math.nan
    logs = np.log(near[usable])
    # Inverse of the estimate in each row, with columns - 2 for columns - 1, which makes it unbiased.
    inverse = (logs[:, -1:] - logs[:, :-1]).sum(axis=1) / (columns - 2)
    mean = float(inverse.mean())
    return 1 / mean if mean > 0 else math.nan
