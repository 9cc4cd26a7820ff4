"""The permutation null: the same seeded permutations for every layer and epoch, and the p-value of an estimate."""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

__all__ = ["Permutations", "p_value"]

_KEEP_BYTES = 2**26  # permutations kept in memory; more are made anew, batch by batch


class Permutations:
    """P permutations of n samples.

    Args:
        n_samples: number of samples n.
        n_permutations: number of permutations P.
        seed: the same seed gives the same permutations, the first ones whatever P is.
    """

    def __init__(self, n_samples: int, n_permutations: int, seed: int) -> None:
        self.n_samples = n_samples
        self.n_permutations = n_permutations
        self.seed = seed

    def __len__(self) -> int:
        return self.n_permutations

    def batch(self, start: int, stop: int) -> NDArray[np.int32]:
        """Permutations start to stop, shape (stop - start, n): sample i is paired with the target of sample p[i]."""
        make = _kept if 4 * self.n_samples * self.n_permutations <= _KEEP_BYTES else _made
        return make(self.n_samples, start, stop, self.seed)


def _made(n_samples: int, start: int, stop: int, seed: int) -> NDArray[np.int32]:
    rows = [np.random.default_rng((seed, p)).permutation(n_samples) for p in range(start, stop)]
    return np.array(rows, dtype=np.int32).reshape(len(rows), n_samples)


@lru_cache(maxsize=8)
def _kept(n_samples: int, start: int, stop: int, seed: int) -> NDArray[np.int32]:
    batch = _made(n_samples, start, stop, seed)
    batch.flags.writeable = False
    return batch


def p_value(value: float, null: NDArray[np.float64]) -> float | None:
    """Share of null values, the value itself among them, that reach the value.

    (1 + #{null >= value}) / (1 + P), never zero (Phipson & Smyth 2010, doi:10.2202/1544-6115.1585). Values that differ
    by rounding count as equal.

    Returns:
        The share; None for an empty null, NaN if a value is not finite.
    """
    if not null.size:
        return None
    if not (np.isfinite(value) and np.isfinite(null).all()):
        return math.nan
    tolerance = 1e-12 * max(1.0, abs(value))
    return float(1 + np.count_nonzero(null >= value - tolerance)) / (1 + null.size)
