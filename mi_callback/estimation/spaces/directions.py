"""Sufficient dimension reduction: the directions of X along which the distribution of Y changes.

First moments, E[f(Y) x] (sliced inverse regression, Li 1991, doi:10.1080/01621459.1991.10475035), find what correlates
with a function of Y; second moments, E[f(Y) (x x' - I)] (sliced average variance estimation, Cook & Weisberg 1991;
principal Hessian directions, Li 1992), what correlation cannot see. Each is held against the same moment under
permuted Y.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.sparse.linalg import eigsh

from mi_callback.estimation.spaces.whitening import Array

__all__ = ["informative_directions", "leading_functions"]

_MOST_FUNCTIONS = 6  # functions of Y whose second moments are taken
_MOST_COORDINATES = 256  # beyond it second moments cost more than a neighbour search; the leading coordinates are used
_OUTLYING = 4.0  # functions of Y are clipped here for second moments, which would follow a few samples
_SMALL = 64  # coordinates up to which all eigenvectors are as quick as a few
_NEW = 0.3  # least length of a direction's part outside the span of the stronger ones


def informative_directions(
    x: Array, functions: Array, rng: np.random.Generator, most: int = 8, significant: float = 1.25
) -> Array:
    """Orthonormal directions, the strongest first, that stand above their permutation null.

    Args:
        x: shape (n, p), whitened.
        functions: shape (n, m), centred functions of Y of unit variance.
        rng: makes the one permutation that sets the level of chance.
        most: number of directions at most.
        significant: how many times the largest value under the permutation a direction must reach.

    Returns:
        Shape (p, r), r from 0 to ``most``.
    """
    shuffled = rng.permutation(len(x))
    found = _first_moments(x, functions, shuffled, significant)
    strongest = leading_functions(x, functions)
    for f in strongest.T:
        found += _second_moments(x, np.clip(f, -_OUTLYING, _OUTLYING), shuffled, most, significant)
    found.sort(key=lambda item: -item[0])
    basis = np.zeros((x.shape[1], 0))
    for _, direction in found:
        if basis.shape[1] == most:
            break
        rest = direction - basis @ (basis.T @ direction)
        length = float(np.linalg.norm(rest))
        if length > _NEW:
            basis = np.column_stack([basis, rest / length])
    return basis.astype(np.float32)


_Found = list[tuple[float, NDArray[np.float64]]]


def _decorrelated(functions: Array) -> Array:
    """Uncorrelated functions of unit variance with the same span."""
    variances, axes = np.linalg.eigh((functions.T @ functions / len(functions)).astype(np.float64))
    kept = variances > 1e-6
    decorrelated: Array = functions @ (axes[:, kept] / np.sqrt(variances[kept])).astype(np.float32)
    return decorrelated


def _first_moments(x: Array, functions: Array, shuffled: NDArray[np.intp], significant: float) -> _Found:
    """Left singular vectors of E[x f(Y)'], with how far each stands above chance."""
    f = _decorrelated(functions)
    u, values, _ = np.linalg.svd((x.T @ f / len(x)).astype(np.float64), full_matrices=False)
    chance = np.linalg.svd((x.T @ f[shuffled] / len(x)).astype(np.float64), compute_uv=False)[0]
    return [(float(np.sqrt(v**2 - chance**2)), u[:, i]) for i, v in enumerate(values) if v > significant * chance]


def leading_functions(x: Array, functions: Array) -> Array:
    """The functions themselves if they are few, else the combinations that correlate most with x."""
    if functions.shape[1] <= _MOST_FUNCTIONS:
        return functions
    f = _decorrelated(functions)
    _, _, vt = np.linalg.svd((x.T @ f / len(x)).astype(np.float64), full_matrices=False)
    leading: Array = f @ vt[:_MOST_FUNCTIONS].T.astype(np.float32)
    return leading


def _second_moments(x: Array, f: Array, shuffled: NDArray[np.intp], most: int, significant: float) -> _Found:
    """Eigenvectors of E[f(Y) (x x' - I)], with how far each stands above chance."""
    p = x.shape[1]
    if p > _MOST_COORDINATES:
        x = x[:, -_MOST_COORDINATES:]  # whitening puts the coordinates of large variance last
    n, used = x.shape

    def moments(weights: Array) -> NDArray[np.float64]:
        product: NDArray[np.float64] = ((x * weights[:, None]).T @ x / n).astype(np.float64)
        return product - np.eye(used) * float(weights.mean())

    values, axes = _extreme_eigenpairs(moments(f), most)
    chance = _spectral_norm(moments(f[shuffled]))
    found = []
    for i in np.argsort(-np.abs(values))[:most]:
        if abs(values[i]) > significant * chance:
            direction = np.zeros(p)
            direction[p - used :] = axes[:, i]
            found.append((float(np.sqrt(values[i] ** 2 - chance**2)), direction))
    return found


def _extreme_eigenpairs(matrix: NDArray[np.float64], most: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Eigenpairs of a symmetric matrix of largest magnitude, at least ``most`` if there are as many."""
    if len(matrix) <= max(_SMALL, 2 * most):
        values, axes = np.linalg.eigh(matrix)
    else:
        start = np.random.default_rng(0).standard_normal(len(matrix))
        values, axes = eigsh(matrix, k=most, which="LM", v0=start, tol=1e-4)
    return values, axes


def _spectral_norm(matrix: NDArray[np.float64]) -> float:
    """Largest magnitude among the eigenvalues of a symmetric matrix."""
    values = np.linalg.eigvalsh(matrix) if len(matrix) <= _SMALL else _extreme_eigenpairs(matrix, 1)[0]
    return float(np.abs(values).max())
