"""The permutation null: the same seeded permutations for every layer and epoch, and the p-value of an estimate."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

__all__ = ["Permutations", "p_value", "stream"]

_PERMUTATION = 1  # purpose of a stream
_BLOCK = 8  # permutations a stream: making a generator takes as long as permuting 1,000 samples
_OURS = 0x6D695F63616C6C  # "mi_call": in every seed sequence, so that no stream is one that users' seeds give


def stream(seed: int, *purpose: int) -> np.random.Generator:
    """A random stream of the package's own, for a seed and a purpose.

    Users make their data with ``default_rng(0)`` and estimate with seed 0: the stream of the same seed would then
    permute the samples by the very numbers that made them.
    """
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(_OURS, *purpose)))


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
        """Permutations start to stop, shape (stop - start, n): sample i is paired with the target of sample p[i].

        Made anew each time, in blocks of a stream each: nothing is kept.
        """
        first, last = start // _BLOCK, -(-stop // _BLOCK)
        ordered = np.tile(np.arange(self.n_samples, dtype=np.int32), (_BLOCK, 1))
        blocks = [stream(self.seed, _PERMUTATION, b).permuted(ordered, axis=1) for b in range(first, last)]
        return np.concatenate([ordered[:0], *blocks])[start - first * _BLOCK : stop - first * _BLOCK]


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
