"""Linear maps of one side: whitening, and the directions along which the distribution of the other side changes.

Canonical correlation and discriminant directions (Hotelling 1936; Fisher 1936), sufficient dimension reduction by first
and second moments (Li 1991; Cook & Weisberg 1991), and a search for the frequency of an oscillation, which moments do
not see. Whatever is found is held against the same statistic under permuted Y.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse.linalg import eigsh

from mi_callback.estimation.permutation import stream

__all__ = [
    "Array",
    "CanonicalPairs",
    "Whitening",
    "canonical_pairs",
    "informative_directions",
    "leading_functions",
    "oscillating_direction",
    "principal_basis",
]

Array = NDArray[np.float32]

# --- whitening --------------------------------------------------------------------------------------------------------

_LEAST_SHRINKAGE = 0.01  # of the mean variance: what is thinner stays thin; .003 and .03: the same within .006 nats
_MOST_SHRINKAGE = 0.9  # rounding of single precision leaves more directions than 94 samples of 500 coordinates span
_NEGLIGIBLE = 1e-9  # of the largest variance: rounding
_MOST_COMPONENTS = 512  # of a wider layer, to bound the time; the rest is left as it is


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
            basis = principal_basis(centred, _MOST_COMPONENTS, iterations=2, seed=seed)
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


def principal_basis(values: Array, rank: int, *, iterations: int, seed: int = 0) -> Array:
    """Orthonormal basis of about the leading principal components, shape (d, rank), by subspace iteration.

    From a random sketch (Halko et al. 2011, doi:10.1137/090771806, algorithm 4.4).

    Args:
        values: shape (n, d), centred, float32 or float64.
        rank: number of components, at most min(n, d) to be of use.
        iterations: products with the covariance: one will do for features to read, two for a basis to whiten in.
        seed: seed of the sketch.
    """
    sketch = stream(seed, 6).standard_normal((values.shape[1], rank), dtype=np.float32)
    for _ in range(iterations):
        sketch = values.T @ (values @ np.linalg.qr(sketch)[0])
    basis: Array = np.linalg.qr(sketch)[0]
    return basis


# --- canonical correlation --------------------------------------------------------------------------------------------

_CANONICAL_SIGNIFICANT = 1.1  # times the largest value under one permutation


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
    kept = r > _CANONICAL_SIGNIFICANT * chance
    shrunk = np.clip((r[kept] - chance) / (1 - chance), 0, 0.9999)
    weights = shrunk / np.sqrt(1 - shrunk**2)
    return CanonicalPairs((u[:, kept] * weights).astype(np.float32), (vt[kept].T * weights).astype(np.float32), weights)


# --- directions found by moments --------------------------------------------------------------------------------------

# First moments, E[f(Y) x] (sliced inverse regression, Li 1991, doi:10.1080/01621459.1991.10475035), find what
# correlates with a function of Y; second moments, E[f(Y) (x x' - I)] (sliced average variance estimation, Cook &
# Weisberg 1991; principal Hessian directions, Li 1992), what correlation cannot see.

_MOST_FUNCTIONS = 6  # functions of Y whose second moments are taken
_MOST_COORDINATES = 256  # beyond it second moments cost more than a neighbour search; the leading coordinates are used
# Functions of Y are clipped here for second moments, which would follow a few samples: on square, ring, product and
# sine (n = 1,500, d = 12) a limit of 6 loses .10 nats on average, one of 3 gains .01.
_OUTLYING = 4.0
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


# --- directions found by frequency ------------------------------------------------------------------------------------

# E[f(Y) exp(i w'x)] is the Fourier transform of E[f(Y) | x] times the density of x: for Y = sin(4 u), which no moment
# of low order sees, it has a peak at the frequency 4 along u, as wide as 1 / (spread of x). Its logarithm falls like a
# parabola around the peak, so that from a frequency in its flank a step along the gradient leads to the top.

# Without this search y = sin(3.5 u) + noise reads .01 nats instead of .37 at n = 5,000, d = 16 (truth .76).
_FEWEST_SAMPLES, _MOST_SAMPLES = 200, 2_000  # with fewer, chance reaches as high as most peaks; more cost time
_PEAK_SIGNIFICANT = 1.25  # times the peak under one permutation
_FREQUENCIES = 1_024  # drawn at random, in all directions
_SLOWEST, _FASTEST = 0.5, 5.0  # in radians a standard deviation
_CLIMBING, _STEPS = 48, 10  # how many of them climb, and how often
_LONGEST_STEP = 1.5
_FACTOR = 0.5  # of the gradient of the logarithm: to the top of a Gaussian peak in one step


def oscillating_direction(x: Array, functions: Array, rng: np.random.Generator) -> Array:
    """The direction of the highest peak of E[f(Y) exp(i w'x)], if it stands above its permutation null.

    Args:
        x: shape (n, p), whitened.
        functions: shape (n, m), centred functions of Y of unit variance.
        rng: draws frequencies, and the one permutation that sets the level of chance.

    Returns:
        Shape (p, 1), of unit length; shape (p, 0) if there is none.
    """
    if len(x) < _FEWEST_SAMPLES:
        return np.zeros((x.shape[1], 0), np.float32)
    x, functions = x[:_MOST_SAMPLES], leading_functions(x, functions)[:_MOST_SAMPLES]
    frequencies = rng.standard_normal((x.shape[1], _FREQUENCIES), dtype=np.float32)
    lengths = rng.uniform(_SLOWEST, _FASTEST, _FREQUENCIES).astype(np.float32)
    frequencies *= lengths / np.linalg.norm(frequencies, axis=0)
    phases = x @ frequencies
    waves = np.cos(phases), np.sin(phases)
    found, height = _highest_peak(x, functions, frequencies, waves)
    _, by_chance = _highest_peak(x, functions[rng.permutation(len(x))], frequencies, waves)
    if height <= _PEAK_SIGNIFICANT * by_chance:
        return np.zeros((x.shape[1], 0), np.float32)
    direction: Array = (found / np.linalg.norm(found))[:, None]
    return direction


def _highest_peak(x: Array, functions: Array, frequencies: Array, waves: tuple[Array, Array]) -> tuple[Array, float]:
    """Climb from the frequencies at which a function is largest: the best one, shape (p,), and its height."""
    n = len(x)
    powers = sum((functions.T @ wave / n) ** 2 for wave in waves)
    which, largest = powers.argmax(axis=0), powers.max(axis=0)
    start = np.argsort(-largest)[:_CLIMBING]
    w, f = frequencies[:, start], functions[:, which[start]]
    best, highest = w[:, 0], float(largest[start[0]])
    for step in range(_STEPS + 1):
        phases = x @ w
        even, odd = f * np.cos(phases), f * np.sin(phases)
        a, b = even.mean(axis=0), odd.mean(axis=0)
        power: NDArray[np.float32] = a * a + b * b
        top = int(power.argmax())
        if power[top] > highest:
            best, highest = w[:, top].copy(), float(power[top])
        if step < _STEPS:
            climb = np.float32(2 * _FACTOR / n) * (x.T @ (even * b - odd * a)) / np.maximum(power, np.float32(1e-9))
            w = w + climb * np.minimum(1, np.float32(_LONGEST_STEP) / np.maximum(np.linalg.norm(climb, axis=0), 1e-9))
    return best, float(np.sqrt(highest))
