"""The permutation null: the same seeded permutations for every layer and epoch, and the p-value of an estimate."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

__all__ = ["BLOCK", "Permutations", "p_value", "stream"]

_PERMUTATION = 1  # purpose of a stream
BLOCK = 8  # permutations a stream: making a generator takes as long as permuting 1,000 samples
_OURS = 0x6D695F63616C6C  # "mi_call": in every seed sequence, so that no stream is one that users' seeds give


def stream(seed: int, *purpose: int) -> np.random.Generator:
    """A random stream of the package's own, for a seed and a purpose.

    Users make their data with ``default_rng(0)`` and estimate with seed 0: the stream of the same seed would then
    permute the samples by the very numbers that made them.
    """
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(_OURS, *purpose)))


class Permutations:
    """P permutations of n samples, and before them the identity.

    Args:
        n_samples: number of samples n.
        n_permutations: number of permutations P.
        seed: the same seed gives the same permutations, the first ones whatever P is.
        points: shape (Q,), ascending: samples that are permuted among themselves, as the others are, so that a point is
            always paired with the target of a point. Such permutations are a subgroup of all, and the test stays exact.
            None permutes all together.
    """

    def __init__(
        self, n_samples: int, n_permutations: int, seed: int, points: NDArray[np.integer] | None = None
    ) -> None:
        self.n_samples = n_samples
        self.n_permutations = n_permutations
        self.seed = seed
        everyone = np.arange(n_samples, dtype=np.int32)
        if points is None or len(points) == n_samples:
            self._parts = [everyone]
        else:
            self._parts = [everyone[points], np.delete(everyone, points)]

    def __len__(self) -> int:
        return self.n_permutations

    def batch(self, start: int, stop: int) -> NDArray[np.int32]:
        """Permutations start to stop, shape (stop - start, n): sample i is paired with the target of sample p[i].

        Number 0 is the identity. Made anew each time, in blocks of a stream each: nothing is kept.
        """
        rows = [np.arange(self.n_samples, dtype=np.int32)[None]] if start == 0 < stop else []
        start, stop = max(start, 1) - 1, stop - 1
        for block in range(start // BLOCK, -(-stop // BLOCK)):
            made, first = self._block(block), block * BLOCK
            rows.append(made[max(start - first, 0) : stop - first])
        return np.concatenate(rows) if len(rows) != 1 else rows[0]

    def _block(self, block: int) -> NDArray[np.int32]:
        rng = stream(self.seed, _PERMUTATION, block)
        permuted = [rng.permuted(np.tile(part, (BLOCK, 1)), axis=1) for part in self._parts]
        if len(permuted) == 1:
            return permuted[0]
        made = np.empty((BLOCK, self.n_samples), np.int32)
        for part, values in zip(self._parts, permuted, strict=True):
            made[:, part] = values
        return made


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
