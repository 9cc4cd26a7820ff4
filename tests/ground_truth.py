"""Cases whose mutual information is known: each can be sampled, and says its true value in nats.

Closed forms where there are any, quadrature elsewhere. Nothing here is estimated from samples, and nothing here
imports the package under test.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.special import entr, erf, ndtr

__all__ = [
    "BITS",
    "Case",
    "ClassConditional",
    "DiscreteUniformMixture",
    "Gaussian",
    "Independent",
    "LinearGaussianChain",
    "NoisyNeuron",
    "ReluAtom",
    "bivariate",
    "information_of_rounded",
    "linear_readout",
    "paired",
]

Array = NDArray[np.float64]
BITS = 1 / np.log(2)  # bits in a nat


class Case(Protocol):
    """A joint distribution with known mutual information."""

    name: str

    @property
    def mutual_information(self) -> float:
        """True I(X;Y) in nats."""
        ...

    def sample(self, n: int, rng: np.random.Generator) -> tuple[Array, Array]:
        """Draw x of shape (n, d) or (n,) and y of shape (n, q) or (n,)."""
        ...


def _normal_density(z: Array, scale: float | Array = 1.0) -> Array:
    return np.exp(-0.5 * (z / scale) ** 2) / (np.sqrt(2 * np.pi) * scale)


def _normal_entropy(scale: float) -> float:
    return float(0.5 * np.log(2 * np.pi * np.e * scale**2))


def entropy_on_grid(density: Array, step: float) -> Array:
    """Differential entropy in nats of densities (..., g) on an equidistant grid (trapezium rule)."""
    positive = np.where(density > 0, density, 1.0)
    return -np.sum(density * np.log(positive), axis=-1) * step


# ---------------------------------------------------------------------------------------------- Gaussians


@dataclass(frozen=True)
class Gaussian:
    """Jointly normal X (the first d coordinates) and Y (the others): I = 1/2 log(det S_X det S_Y / det S)."""

    name: str
    covariance: Array
    d: int

    @property
    def mutual_information(self) -> float:
        log_det = lambda block: np.linalg.slogdet(block)[1]  # noqa: E731
        s, d = self.covariance, self.d
        return float(0.5 * (log_det(s[:d, :d]) + log_det(s[d:, d:]) - log_det(s)))

    def sample(self, n: int, rng: np.random.Generator) -> tuple[Array, Array]:
        z = rng.standard_normal((n, len(self.covariance))) @ np.linalg.cholesky(self.covariance).T
        return z[:, : self.d], z[:, self.d :]


def bivariate(rho: float) -> Gaussian:
    """A normal pair with correlation rho: I = -1/2 log(1 - rho^2)."""
    return Gaussian(f"bivariate rho={rho:g}", np.array([[1.0, rho], [rho, 1.0]]), 1)


def paired(d: int, rho: float) -> Gaussian:
    """d independent pairs (x_i, y_i) of correlation rho: I = -d/2 log(1 - rho^2)."""
    eye = np.eye(d)
    return Gaussian(f"paired d={d} rho={rho:g}", np.block([[eye, rho * eye], [rho * eye, eye]]), d)


def linear_readout(d: int, noise: float) -> Gaussian:
    """Y = (sum of the d coordinates) / sqrt(d) + noise E: I = 1/2 log(1 + 1 / noise^2), in every dimension."""
    covariance = np.eye(d + 1)
    covariance[d, :d] = covariance[:d, d] = 1 / np.sqrt(d)
    covariance[d, d] = 1 + noise**2
    return Gaussian(f"linear readout d={d} noise={noise:g}", covariance, d)


# -------------------------------------------------------------------------------------------- independence

_MARGINALS: dict[str, Callable[[int, int, np.random.Generator], Array]] = {
    "normal": lambda n, d, rng: rng.standard_normal((n, d)),
    "uniform": lambda n, d, rng: rng.uniform(-1, 1, (n, d)),
    "heavy tails": lambda n, d, rng: rng.standard_t(1.5, (n, d)),
    "skewed": lambda n, d, rng: rng.lognormal(0, 1.5, (n, d)),
    "half on an atom": lambda n, d, rng: np.maximum(rng.standard_normal((n, d)), 0),
    "lattice": lambda n, d, rng: rng.integers(0, 8, (n, d)).astype(float),
    "labels": lambda n, d, rng: rng.integers(0, 4, n),
}


@dataclass(frozen=True)
class Independent:
    """X and Y drawn independently, each from a named marginal: I = 0."""

    x_kind: str
    y_kind: str
    d: int = 2
    q: int = 1
    mutual_information: float = 0.0

    @property
    def name(self) -> str:
        return f"independent {self.x_kind} d={self.d}, {self.y_kind}"

    def sample(self, n: int, rng: np.random.Generator) -> tuple[Array, Array]:
        return _MARGINALS[self.x_kind](n, self.d, rng), _MARGINALS[self.y_kind](n, self.q, rng)


# --------------------------------------------------------------------------------- discrete and mixed sides


@dataclass(frozen=True)
class ClassConditional:
    """Y a class with equal odds, X | Y=c ~ N(means[c], I): the means lie on one axis of d, the rest is noise.

    I(X;Y) = h(mixture) - h(N(0,1)) on the informative axis, by quadrature.
    """

    means: tuple[float, ...]
    d: int = 1

    @property
    def name(self) -> str:
        return f"classes at {self.means} d={self.d}"

    @property
    def mutual_information(self) -> float:
        grid, step = np.linspace(min(self.means) - 12, max(self.means) + 12, 40_001, retstep=True)
        mixture = np.mean([_normal_density(grid - m) for m in self.means], axis=0)
        return float(entropy_on_grid(mixture, step)) - _normal_entropy(1.0)

    def sample(self, n: int, rng: np.random.Generator) -> tuple[Array, Array]:
        y = rng.integers(0, len(self.means), n)
        x = rng.standard_normal((n, self.d))
        x[:, 0] += np.asarray(self.means)[y]
        return x, y


@dataclass(frozen=True)
class ReluAtom:
    """T = max(0, U), Y = U + noise E with U, E ~ N(0, 1): half the mass of T on one atom.

    Above zero T gives U away; at zero Y is the noisy lower half: I(T;Y) = h(Y) - 1/2 h(Y | U < 0) - 1/2 h(noise E).
    P(U < 0 | Y = y) is a normal distribution function, so that all but one integral is closed.
    """

    noise: float = 0.3

    @property
    def name(self) -> str:
        return f"ReLU atom noise={self.noise:g}"

    @property
    def mutual_information(self) -> float:
        spread = np.hypot(1, self.noise)
        grid, step = np.linspace(-12 * spread, 12 * spread, 80_001, retstep=True)
        # U | Y = y is normal with mean y / spread^2 and deviation noise / spread.
        below = 0.5 * (1 + erf(-grid / (spread * self.noise) / np.sqrt(2)))
        lower_half = 2 * below * _normal_density(grid, spread)
        return (
            _normal_entropy(spread) - 0.5 * float(entropy_on_grid(lower_half, step)) - 0.5 * _normal_entropy(self.noise)
        )

    def sample(self, n: int, rng: np.random.Generator) -> tuple[Array, Array]:
        u = rng.standard_normal(n)
        return np.maximum(u, 0), u + self.noise * rng.standard_normal(n)


@dataclass(frozen=True)
class DiscreteUniformMixture:
    """X uniform on {0..m-1}, Y ~ U[X, X+2]: I = log m - (m-1) log 2 / m (Gao et al. 2017)."""

    m: int

    @property
    def name(self) -> str:
        return f"discrete-uniform mixture m={self.m}"

    @property
    def mutual_information(self) -> float:
        return float(np.log(self.m) - (self.m - 1) * np.log(2) / self.m)

    def sample(self, n: int, rng: np.random.Generator) -> tuple[Array, Array]:
        x = rng.integers(0, self.m, n)
        return x.astype(float), x + rng.uniform(0, 2, n)


@dataclass(frozen=True)
class NoisyNeuron:
    """X uniform on {-3,-1,1,3}, T = tanh(w X + b) + beta Z: I(X;T) = h(mixture of four) - h(beta Z)."""

    w: float
    b: float
    beta: float

    @property
    def name(self) -> str:
        return f"noisy neuron w={self.w:g} b={self.b:g} beta={self.beta:g}"

    @property
    def mutual_information(self) -> float:
        centres = np.tanh(self.w * np.array([-3.0, -1.0, 1.0, 3.0]) + self.b)
        grid, step = np.linspace(
            -1 - 12 * self.beta, 1 + 12 * self.beta, int(40 * (2 / self.beta + 24)) + 1, retstep=True
        )
        mixture = np.mean([_normal_density(grid - c, self.beta) for c in centres], axis=0)
        return float(entropy_on_grid(mixture, step)) - _normal_entropy(self.beta)

    def sample(self, n: int, rng: np.random.Generator) -> tuple[Array, Array]:
        x = rng.choice([-3.0, -1.0, 1.0, 3.0], n)
        return x, np.tanh(self.w * x + self.b) + self.beta * rng.standard_normal(n)


# ---------------------------------------------------------------------------------- linear-Gaussian network


@dataclass(frozen=True)
class LinearGaussianChain:
    """X ~ N(0, S), T_l = W_l T_{l-1} + b_l + s_l Z_l, Y = A X + s_y E: every quantity in closed form.

    With M_l = W_l M_{l-1}, C_l = W_l C_{l-1} W_l' + s_l^2 I, S_l = M_l S M_l' + C_l, K_l = M_l S A' and
    S_Y = A S A' + s_y^2 I: I(X;T_l) = 1/2 log(det S_l / det C_l) and
    I(T_l;Y) = 1/2 log(det S_Y / det(S_Y - K_l' S_l^-1 K_l)). Shifts b_l change nothing.
    """

    weights: tuple[Array, ...]  # W_l of shape (d_l, d_{l-1})
    noise: tuple[float, ...]  # s_l
    readout: Array  # A of shape (q, d_0)
    target_noise: float  # s_y
    covariance: Array  # S of shape (d_0, d_0)

    def _layer(self, layer: int) -> tuple[Array, Array, Array]:
        """M_l, C_l and S_l of layer 1, 2, ..."""
        d = len(self.covariance)
        m, c = np.eye(d), np.zeros((d, d))
        for w, s in zip(self.weights[:layer], self.noise[:layer], strict=True):
            m, c = w @ m, w @ c @ w.T + s**2 * np.eye(len(w))
        return m, c, m @ self.covariance @ m.T + c

    def with_input(self, layer: int) -> float:
        """I(X; T_layer) in nats."""
        _, c, s = self._layer(layer)
        return float(0.5 * (np.linalg.slogdet(s)[1] - np.linalg.slogdet(c)[1]))

    def with_target(self, layer: int) -> float:
        """I(T_layer; Y) in nats; layer 0 is X itself, which gives the ceiling I(X;Y)."""
        m, _, s = self._layer(layer)
        s_y = self.readout @ self.covariance @ self.readout.T + self.target_noise**2 * np.eye(len(self.readout))
        k = m @ self.covariance @ self.readout.T
        return float(0.5 * (np.linalg.slogdet(s_y)[1] - np.linalg.slogdet(s_y - k.T @ np.linalg.solve(s, k))[1]))

    def sample(self, n: int, rng: np.random.Generator) -> tuple[Array, list[Array], Array]:
        """X, the layers' activations, and Y."""
        x = rng.standard_normal((n, len(self.covariance))) @ np.linalg.cholesky(self.covariance).T
        y = x @ self.readout.T + self.target_noise * rng.standard_normal((n, len(self.readout)))
        layers = [x]
        for w, s in zip(self.weights, self.noise, strict=True):
            layers.append(layers[-1] @ w.T + s * rng.standard_normal((n, len(w))))
        return x, layers[1:], y


def information_of_rounded(slope: float, noise: float) -> float:
    """I(U;Y) in bits of Y = floor(slope (U + noise E)), U and E standard Gaussian, by quadrature over U."""
    u = np.linspace(-7, 7, 4001)
    weight = np.exp(-(u**2) / 2)
    weight /= weight.sum()
    edges = np.arange(np.floor(-12 * slope), 12 * slope + 1) / slope
    p = np.diff(ndtr((edges - u[:, None]) / noise), axis=1)
    return float((entr(weight @ p).sum() - weight @ entr(p).sum(axis=1)) / np.log(2))
