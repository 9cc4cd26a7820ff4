"""Whitening that does not blow noise up, and canonical directions weighed by what they say about the other side."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["Array", "CanonicalPairs", "Whitening", "canonical_pairs"]

Array = NDArray[np.float32]

_LEAST_SHRINKAGE = 0.01  # of the mean variance: thinner directions, such as noise around a manifold, stay thin
_MOST_SHRINKAGE = 0.9
_NEGLIGIBLE = 1e-9  # of the largest variance: rounding
_MOST_COMPONENTS = 512  # principal components; the rest of a wider layer is left as it is
_SIGNIFICANT = 1.1  # times the largest value under one permutation


@dataclass(frozen=True, slots=True, eq=False)
class Whitening:
    """Linear map to p uncorrelated coordinates of about unit variance.

    The covariance is shrunk towards a multiple of the identity by p / 2n, at least by one per cent, so that neither few
    samples nor a low rank magnify noise. More would cost strong relations dearly: their residual is only seen once x is
    fully decorrelated.

    Attributes:
        mean: shape (d,).
        matrix: shape (d, p).
    """

    mean: Array
    matrix: Array

    @classmethod
    def fit(cls, values: Array, seed: int = 0) -> Whitening:
        """Fit to values of shape (n, d)."""
        n, d = values.shape
        mean: Array = values.mean(axis=0)
        centred: Array = values - mean
        basis: Array | None = None
        if d > _MOST_COMPONENTS:
            basis = _principal_basis(centred, seed)
            centred = centred @ basis
        variances, axes = np.linalg.eigh((centred.T @ centred / n).astype(np.float64))
        kept = variances > _NEGLIGIBLE * variances[-1]
        variances, axes = variances[kept], axes[:, kept]
        shrinkage = min(max(_LEAST_SHRINKAGE, len(variances) / (2 * n)), _MOST_SHRINKAGE)
        scale = np.sqrt((1 - shrinkage) * variances + shrinkage * variances.mean())
        matrix: Array = np.asarray(axes / scale, dtype=np.float32)
        return cls(mean, matrix if basis is None else basis @ matrix)

    def __call__(self, values: Array) -> Array:
        """Map values of shape (n, d) to shape (n, p)."""
        return np.asarray((values - self.mean) @ self.matrix, dtype=np.float32)


@dataclass(frozen=True, slots=True, eq=False)
class CanonicalPairs:
    """Pairs of directions, one in each side, that correlate above chance.

    Attributes:
        x: shape (p, r), each column scaled by its weight.
        y: shape (q, r), likewise.
        weights: shape (r,), descending: r / sqrt(1 - r^2) of the correlation r, shrunk by what chance shows.
    """

    x: Array
    y: Array
    weights: NDArray[np.float64]


def canonical_pairs(x: Array, y: Array, rng: np.random.Generator) -> CanonicalPairs:
    """Canonical correlation analysis of two whitened sides.

    The weight of a pair is the square root of the Fisher information that a unit step along it carries about its
    partner in a Gaussian, r^2 / (1 - r^2): distances then follow how much the conditional distribution changes.

    Args:
        x: shape (n, p), whitened.
        y: shape (n, q), whitened; centred indicators divided by the root of their frequency give discriminant
            directions.
        rng: makes the one permutation that sets the level of chance.
    """
    n = len(x)
    u, r, vt = np.linalg.svd((x.T @ y / n).astype(np.float64), full_matrices=False)
    by_chance = np.linalg.svd((x.T @ y[rng.permutation(n)] / n).astype(np.float64), compute_uv=False)[0]
    chance = min(float(by_chance), 0.9)
    kept = r > _SIGNIFICANT * chance
    shrunk = np.clip((r[kept] - chance) / (1 - chance), 0, 0.9999)
    weights = shrunk / np.sqrt(1 - shrunk**2)
    return CanonicalPairs((u[:, kept] * weights).astype(np.float32), (vt[kept].T * weights).astype(np.float32), weights)


def _principal_basis(centred: Array, seed: int) -> Array:
    """Orthonormal basis of the leading principal components, by one power iteration on a random sketch."""
    sketch = np.random.default_rng(seed).standard_normal((centred.shape[1], _MOST_COMPONENTS), dtype=np.float32)
    for _ in range(2):
        sketch = centred.T @ (centred @ np.linalg.qr(sketch)[0])
    basis: Array = np.linalg.qr(sketch)[0].astype(np.float32)
    return basis
