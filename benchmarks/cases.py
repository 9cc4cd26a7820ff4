"""A varied family of samples whose mutual information is known: what the accuracy of the estimates is judged on.

Truths are in nats: closed forms, one-dimensional quadrature, or a Monte Carlo average of the exact log density ratio.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import digamma, gammaln, logsumexp, ndtri

__all__ = ["Case", "family"]

Array = NDArray[np.float64]
Sample = Callable[[int, np.random.Generator], tuple[Array, Array]]


@dataclass(frozen=True)
class Case:
    """One joint distribution of known mutual information.

    Attributes:
        name: what is drawn.
        sample: ``(n, rng) -> (t, y)`` of shapes (n, d) and (n, q).
        truth: mutual information in nats.
        n: the sample size it is judged at.
        low: both sides have few dimensions, so plain normal scores are good already.
        discrete: y holds class labels.
    """

    name: str
    sample: Sample
    truth: float
    n: int = 5_000
    low: bool = False
    discrete: bool = False

    @property
    def independent(self) -> bool:
        """Whether the two sides share nothing."""
        return self.truth == 0


# --- truths -----------------------------------------------------------------------------------------------------------


def gaussian_information(cov: Array, d: int) -> float:
    """Mutual information of the first d coordinates and the rest of a Gaussian of covariance ``cov``."""
    det = [np.linalg.slogdet(c)[1] for c in (cov[:d, :d], cov[d:, d:], cov)]
    return float(det[0] + det[1] - det[2]) / 2


def additive_noise_information(signal: Array, sigma: float) -> float:
    """I(T; s(T) + sigma Z), from a dense sample of s: entropy of the convolved density, less that of the noise."""
    width = sigma / 25
    edges = np.arange(signal.min() - 8 * sigma, signal.max() + 8 * sigma, width)
    mass = np.histogram(signal, edges)[0] / len(signal)
    reach = np.arange(-8 * 25, 8 * 25 + 1) / 25
    kernel = np.exp(-(reach**2) / 2)
    density = np.convolve(mass, kernel / kernel.sum(), mode="same") / width
    density = density[density > 0]
    return float(-(density * np.log(density)).sum() * width - np.log(2 * np.pi * np.e * sigma**2) / 2)


def latents(r: int) -> Array:
    """A dense, even sample of r independent standard normals."""
    if r == 1:
        return ndtri((np.arange(400_000) + 0.5) / 400_000)[:, None]
    return np.random.default_rng(12345).standard_normal((2_000_000, r))


def student_correction(nu: float, d: int, q: int) -> float:
    """What heavy tails add to a Gaussian's mutual information (Arellano-Valle et al. 2013, doi:10.1111/sjos.12004)."""

    def f(a: float) -> float:
        return float(gammaln(a / 2) - a / 2 * digamma(a / 2))

    return f(nu) + f(nu + d + q) - f(nu + d) - f(nu + q)


# --- building blocks --------------------------------------------------------------------------------------------------


def index_model(
    name: str,
    d: int,
    r: int,
    signal: Callable[[Array], Array],
    sigma: float,
    *,
    dense: bool = True,
    embed: Callable[[Array], Array] | None = None,
    n: int = 5_000,
    low: bool = False,
) -> Case:
    """Y = s(B'x) + sigma Z for r orthonormal directions B of a standard Gaussian x, T a one-to-one map of x."""
    truth = additive_noise_information(signal(latents(r)), sigma)
    b = directions(d, r, dense=dense)

    def sample(n: int, rng: np.random.Generator) -> tuple[Array, Array]:
        x = rng.standard_normal((n, d))
        y = signal(x @ b) + sigma * rng.standard_normal(n)
        return (x if embed is None else embed(x)), y[:, None]

    return Case(name, sample, truth, n, low)


def directions(d: int, r: int, *, dense: bool) -> Array:
    """The mean axis first, then random ones orthogonal to it; or coordinate axes."""
    if not dense:
        return np.eye(d)[:, :r]
    basis = np.random.default_rng(7).standard_normal((d, r))
    basis[:, 0] = 1
    q, _ = np.linalg.qr(basis)
    return q * np.sign(q[0])


def spiral(x: Array, speed: float = 1.0) -> Array:
    """Turn x by an angle that grows with its squared norm: a diffeomorphism of the ball (pairs of axes turn)."""
    out = x.copy()
    angle = speed * (x**2).sum(axis=1, keepdims=True) / x.shape[1]
    even, odd = x[:, :-1:2], x[:, 1::2]
    out[:, :-1:2] = np.cos(angle) * even - np.sin(angle) * odd
    out[:, 1::2] = np.sin(angle) * even + np.cos(angle) * odd
    return out


def rotate(x: Array, seed: int = 3) -> Array:
    """A fixed random rotation."""
    q, _ = np.linalg.qr(np.random.default_rng(seed).standard_normal((x.shape[1],) * 2))
    return x @ q


def layer(
    width: int, activation: Callable[[Array], Array], seed: int = 5, gain: float = 1.0
) -> Callable[[Array], Array]:
    """A random dense layer that is one-to-one as soon as width is at least the input's."""

    def forward(x: Array) -> Array:
        rng = np.random.default_rng(seed)
        w = gain * rng.standard_normal((x.shape[1], width)) / np.sqrt(x.shape[1])
        return activation(x @ w + 0.3 * rng.standard_normal(width))

    return forward


def leaky(x: Array) -> Array:
    """Leaky ReLU."""
    return np.where(x > 0, x, 0.1 * x)


def gaussian(
    name: str,
    cov: Array,
    d: int,
    *,
    embed: Callable[[Array], Array] | None = None,
    embed_y: Callable[[Array], Array] | None = None,
    nu: float | None = None,
    n: int = 5_000,
    low: bool = False,
) -> Case:
    """A Gaussian pair, or its Student relative with nu degrees of freedom, under one-to-one maps of the sides."""
    q = len(cov) - d
    truth = gaussian_information(cov, d) + (0 if nu is None else student_correction(nu, d, q))
    root = np.linalg.cholesky(cov)

    def sample(n: int, rng: np.random.Generator) -> tuple[Array, Array]:
        z = rng.standard_normal((n, d + q)) @ root.T
        if nu is not None:
            z *= np.sqrt(nu / rng.chisquare(nu, n))[:, None]
        t, y = z[:, :d], z[:, d:]
        return (t if embed is None else embed(t)), (y if embed_y is None else embed_y(y))

    return Case(name, sample, truth, n, low)


def pairs(d: int, q: int, rhos: list[float]) -> Array:
    """Covariance of unit Gaussians of which the first coordinates correlate in pairs."""
    cov = np.eye(d + q)
    for i, rho in enumerate(rhos):
        cov[i, d + i] = cov[d + i, i] = rho
    return cov


def dense(d: int, q: int, strength: float) -> Array:
    """Every coordinate shares one common cause."""
    return np.eye(d + q) + strength * np.ones((d + q, d + q))


def classes(
    name: str,
    means: Array,
    covs: Array | None = None,
    *,
    d: int,
    embed: Callable[[Array], Array] | None = None,
    n: int = 5_000,
    low: bool = False,
) -> Case:
    """Equally likely Gaussian classes in the first coordinates, noise in the others, then rotated at random."""
    c, r = means.shape
    covs = np.broadcast_to(np.eye(r), (c, r, r)) if covs is None else covs
    roots = np.linalg.cholesky(covs)

    def draw(n: int, rng: np.random.Generator) -> tuple[Array, NDArray[np.int64]]:
        label = rng.integers(c, size=n)
        return means[label] + np.einsum("nij,nj->ni", roots[label], rng.standard_normal((n, r))), label

    z, label = draw(200_000, np.random.default_rng(99))
    log_density = np.stack(
        [
            -((np.linalg.solve(roots[j], (z - means[j]).T) ** 2).sum(axis=0)) / 2 - np.log(np.diag(roots[j])).sum()
            for j in range(c)
        ],
        axis=1,
    )
    mixed = means.any() or not (covs == covs[0]).all()
    own = log_density[np.arange(len(z)), label]
    truth = float(np.log(c) + (own - logsumexp(log_density, axis=1)).mean()) if mixed else 0.0

    def sample(n: int, rng: np.random.Generator) -> tuple[Array, Array]:
        z, label = draw(n, rng)
        t = np.concatenate([z, rng.standard_normal((n, d - r))], axis=1)
        t = rotate(t) if d > r else t
        return (t if embed is None else embed(t)), label[:, None]

    return Case(name, sample, truth, n, low, discrete=True)


def manifold(
    name: str, r: int, d: int, signal: Callable[[Array], Array], sigma: float, thickness: float, n: int = 5_000
) -> Case:
    """A smooth r-dimensional sheet in d dimensions plus small noise; Y depends on the place on the sheet."""
    truth = additive_noise_information(signal(latents(r)), sigma)
    rng = np.random.default_rng(11)
    w, v = rng.standard_normal((r, 3 * d)), rng.standard_normal((3 * d, d)) / np.sqrt(3 * d)

    def sample(n: int, rng: np.random.Generator) -> tuple[Array, Array]:
        z = rng.standard_normal((n, r))
        t = np.concatenate([z, np.tanh(z @ w) @ v[:, r:]], axis=1) + thickness * rng.standard_normal((n, d))
        return rotate(t), (signal(z) + sigma * rng.standard_normal(n))[:, None]

    return Case(name, sample, truth, n, low=False)


def chain(
    name: str, sizes: tuple[int, ...], d: int, s: float, s_y: float, *, aligned: float, what: str, n: int = 5_000
) -> Case:
    """Layers T_l = W_l T_(l-1) + s Z of a linear network, trained (aligned with the target) to some degree."""
    rng = np.random.default_rng(17)
    a = np.linspace(1, 0.2, d)[None] / np.linalg.norm(np.linspace(1, 0.2, d))
    m, noise, carrier = np.eye(d), np.zeros((d, d)), a[0]
    for width in sizes:
        w = 0.3 * rng.standard_normal((width, len(m))) / np.sqrt(len(m))
        direction = rng.standard_normal(width) / np.sqrt(width)
        w += aligned * np.outer(direction, carrier)
        carrier = direction / np.linalg.norm(direction)
        m, noise = w @ m, w @ noise @ w.T + s**2 * np.eye(width)
    cov_t, cov_y = m @ m.T + noise, a @ a.T + s_y**2 * np.eye(1)
    root = np.linalg.cholesky(noise)
    if what == "input":
        truth = (np.linalg.slogdet(cov_t)[1] - np.linalg.slogdet(noise)[1]) / 2
    else:
        k = m @ a.T
        truth = (np.linalg.slogdet(cov_y)[1] - np.linalg.slogdet(cov_y - k.T @ np.linalg.solve(cov_t, k))[1]) / 2

    def sample(n: int, rng: np.random.Generator) -> tuple[Array, Array]:
        x = rng.standard_normal((n, d))
        t = x @ m.T + rng.standard_normal((n, len(m))) @ root.T
        return t, (x if what == "input" else x @ a.T + s_y * rng.standard_normal((n, 1)))

    return Case(name, sample, float(truth), n, low=max(sizes[-1], d if what == "input" else 1) <= 3)


def blobs(name: str, which: int, features: str, n: int = 5_000) -> Case:
    """Images of one Gaussian blob; Y is a latent plus noise, so I(X;Y) caps every layer's I(T;Y)."""
    sigma = 0.15
    grid = np.stack(np.meshgrid(np.arange(16.0), np.arange(16.0), indexing="ij"), axis=-1)
    uniform = (np.arange(200_000) + 0.5) / 200_000
    truth = additive_noise_information(uniform, sigma)

    def sample(n: int, rng: np.random.Generator) -> tuple[Array, Array]:
        u = rng.random((n, 4))
        centre, width, bright = 4 + 8 * u[:, :2], 1 + 2 * u[:, 2], 0.5 + u[:, 3]
        squared = ((grid[None] - centre[:, None, None]) ** 2).sum(axis=-1)
        image = bright[:, None, None] * np.exp(-squared / (2 * width[:, None, None] ** 2))
        y = u[:, which, None] + sigma * rng.standard_normal((n, 1))
        if features == "pixels":
            return image.reshape(n, -1), y
        kernels = np.random.default_rng(23).standard_normal((8, 9)) / 3
        windows = np.lib.stride_tricks.sliding_window_view(image, (3, 3), axis=(1, 2))[:, ::2, ::2]
        return np.maximum(windows.reshape(n, -1, 9) @ kernels.T, 0).reshape(n, -1), y

    return Case(name, sample, truth, n)


def uniform_noise(width: float, d: int, n: int = 5_000) -> Case:
    """X uniform on [0, 1], Y = X + U(-width, width), beside d - 1 idle coordinates."""

    def sample(n: int, rng: np.random.Generator) -> tuple[Array, Array]:
        x = rng.random((n, d))
        return x, x[:, :1] + width * rng.uniform(-1, 1, (n, 1))

    return Case(f"uniform additive noise {width}, d={d}", sample, width - np.log(2 * width), n, low=d <= 3)


def heteroscedastic(d: int, n: int = 5_000) -> Case:
    """Y = exp(a u) Z: the mean says nothing, the spread everything."""
    a, u = 1.0, ndtri((np.arange(2_000) + 0.5) / 2_000)
    y = np.linspace(-40, 40, 40_001)
    density = np.mean([np.exp(-((y / s) ** 2) / 2) / s for s in np.exp(a * u)], axis=0) / np.sqrt(2 * np.pi)
    density = density[density > 0]
    truth = float(-(density * np.log(density)).sum() * (y[1] - y[0]) - np.log(2 * np.pi * np.e) / 2)
    b = directions(d, 1, dense=True)

    def sample(n: int, rng: np.random.Generator) -> tuple[Array, Array]:
        x = rng.standard_normal((n, d))
        return x, np.exp(a * x @ b) * rng.standard_normal((n, 1))

    return Case(f"heteroscedastic, d={d}", sample, truth, n, low=d <= 3)


def several_targets(d: int, n: int = 5_000) -> Case:
    """Y = (u^2, sin 2v, w) each plus its own noise: three informative directions, one linear."""
    lat = latents(1)[:, 0]
    truth = sum(additive_noise_information(s, 0.4) for s in (lat**2, np.sin(2 * lat), lat))
    b = directions(d, 3, dense=True)

    def sample(n: int, rng: np.random.Generator) -> tuple[Array, Array]:
        x = rng.standard_normal((n, d))
        u = x @ b
        y = np.stack([u[:, 0] ** 2, np.sin(2 * u[:, 1]), u[:, 2]], axis=1)
        return x, y + 0.4 * rng.standard_normal((n, 3))

    return Case(f"three targets, d={d}", sample, truth, n)


def family() -> list[Case]:
    """Every case: wide, low-dimensional and independent ones."""
    rho = float(np.sqrt(1 - np.exp(-2 * 0.83)))
    one = float(np.sqrt(1 - np.exp(-2.0)))
    big = 10_000

    def linear(u: Array) -> Array:
        return u[:, 0]

    def square(u: Array) -> Array:
        return u[:, 0] ** 2

    def sine(u: Array) -> Array:
        return np.sin(2 * u[:, 0])

    def ring(u: Array) -> Array:
        return np.sqrt((u**2).sum(axis=1))

    def product(u: Array) -> Array:
        return u[:, 0] * u[:, 1]

    noise = float(np.sqrt(1 / rho**2 - 1))
    rng = np.random.default_rng(31)
    five = rng.standard_normal((10, 5)) * 1.5
    shapes = np.stack([np.diag(v) for v in ([4, 0.25], [0.25, 4.0])])
    tilted = np.array([[[1, r], [r, 1]] for r in (0.9, -0.9)])
    return [
        index_model("linear, d=64", 64, 1, linear, noise, n=big),
        index_model("square, d=64", 64, 1, square, 0.3, n=big),
        index_model("sine, d=64", 64, 1, sine, 0.3, n=big),
        index_model("ring, d=64", 64, 2, ring, 0.3, n=big),
        gaussian("two pairs, 25x25", pairs(25, 25, [0.8, 0.8]), 25, n=big),
        gaussian("one axis, d=256", pairs(256, 1, [one]), 256, n=big),
        classes("10 classes, d=256", five, d=256, n=big),
        blobs("blob conv position", 0, "conv", n=big),
        blobs("blob conv width", 2, "conv", n=big),
        # wide, other shapes and sizes
        index_model("linear, d=64, n=2000", 64, 1, linear, noise, n=2_000),
        index_model("square, d=64, n=2000", 64, 1, square, 0.3, n=2_000),
        index_model("sine, d=32, n=3000", 32, 1, sine, 0.3, n=3_000),
        index_model("cubic, d=128", 128, 1, lambda u: u[:, 0] ** 3 / 3, 0.3),
        index_model("precise linear, d=32", 32, 1, linear, 0.05),
        index_model("product, d=32", 32, 2, product, 0.3),
        index_model("step, d=100", 100, 1, lambda u: np.sign(u[:, 0]), 0.3),
        index_model("absolute, d=16", 16, 1, lambda u: np.abs(u[:, 0]), 0.2),
        index_model("fast sine, d=8", 8, 1, lambda u: np.sin(4 * u[:, 0]), 0.3),
        index_model("sine of 3 u, d=16", 16, 1, lambda u: np.sin(3 * u[:, 0]), 0.3),
        index_model("product plus line, d=32", 32, 3, lambda u: u[:, 0] * u[:, 1] + u[:, 2], 0.3),
        index_model("product of three, d=16", 16, 3, lambda u: u.prod(axis=1), 0.3),
        index_model("maximum, d=48", 48, 2, lambda u: u.max(axis=1), 0.3),
        index_model("sine plus line, d=48", 48, 2, lambda u: np.sin(2 * u[:, 0]) + u[:, 1], 0.3),
        index_model("three squares, d=20", 20, 3, lambda u: (u**2).sum(axis=1) / 2, 0.3),
        index_model("tanh layer 64 of 16, sine", 16, 1, sine, 0.3, embed=layer(64, np.tanh)),
        index_model("leaky layer 128 of 8, product", 8, 2, product, 0.3, embed=layer(128, leaky)),
        index_model("relu layer 256 of 4, square", 4, 1, square, 0.3, embed=layer(256, lambda x: np.maximum(x, 0))),
        heteroscedastic(32),
        several_targets(32),
        uniform_noise(0.1, 30),
        gaussian("dense 50x50", dense(50, 50, 0.5), 50),
        gaussian("dense 10x10", dense(10, 10, 0.5), 10),
        gaussian("two pairs 25x25 rotated", pairs(25, 25, [0.8, 0.8]), 25, embed=rotate, embed_y=rotate),
        gaussian("two pairs 25x25 spiral", pairs(25, 25, [0.8, 0.8]), 25, embed=spiral),
        gaussian("two pairs 3x3 spiral", pairs(3, 3, [0.8, 0.8]), 3, embed=lambda x: spiral(x, 3.0)),
        gaussian("five pairs 5x5 spiral", pairs(5, 5, [0.7] * 5), 5, embed=spiral, embed_y=spiral),
        gaussian("student nu=2, 5x5", pairs(5, 5, [0.8, 0.8]), 5, nu=2),
        gaussian("student nu=3, 25x25", pairs(25, 25, [0.8, 0.8]), 25, nu=3),
        gaussian("student nu=1 no correlation 3x3", pairs(3, 3, []), 3, nu=1),
        classes("4 classes in 2 of 64", np.array([[2.0, 0], [-2, 0], [0, 2], [0, -2]]), d=64),
        classes("correlations in 2 of 32", np.zeros((2, 2)), tilted, d=32),
        classes("two shapes in 2 of 32", np.zeros((2, 2)), shapes, d=32),
        classes("10 classes tanh 128", five, d=16, embed=layer(128, np.tanh, gain=0.5)),
        classes("3 scales of 5 in 40", np.zeros((3, 5)), np.stack([np.eye(5) * s for s in (0.3, 1.0, 3.0)]), d=40),
        manifold("sheet 1 of 64, thin", 1, 64, sine, 0.3, 0.01),
        manifold("sheet 2 of 64", 2, 64, product, 0.3, 0.02),
        manifold("sheet 3 of 128", 3, 128, lambda u: np.sin(u[:, 0]) + u[:, 1] * u[:, 2], 0.3, 0.02),
        chain("chain 32-32, target", (32, 32), 16, 0.3, 0.3, aligned=1.0, what="target"),
        chain("chain 32, input", (32,), 8, 0.3, 0.3, aligned=1.0, what="input"),
        chain("chain 8-4, input", (8, 4), 8, 0.3, 0.3, aligned=2.0, what="input"),
        blobs("blob pixels brightness", 3, "pixels"),
        # low-dimensional: plain normal scores are good here and must not get worse
        index_model("linear, d=1", 1, 1, linear, noise, n=2_000, low=True),
        index_model("square, d=1, n=500", 1, 1, square, 0.3, n=500, low=True),
        index_model("precise sine, d=1, n=350", 1, 1, sine, 0.05, n=350, low=True),
        index_model("sine, d=2", 2, 1, sine, 0.3, low=True),
        index_model("ring, d=2", 2, 2, ring, 0.3, low=True),
        index_model("linear, d=3, n=350", 3, 1, linear, 0.1, n=350, low=True),
        gaussian("pair 1x1 precise", pairs(1, 1, [0.999]), 1, low=True, n=1_000),
        gaussian("two pairs 2x2", pairs(2, 2, [0.8, 0.5]), 2, low=True),
        gaussian("student nu=2 1x1", pairs(1, 1, [0.5]), 1, nu=2, low=True),
        classes("2 classes, d=2", np.array([[1.0, 0], [-1, 0]]), d=2, low=True, n=1_000),
        classes("5 classes, d=2", rng.standard_normal((5, 2)) * 2, d=2, low=True),
        uniform_noise(0.2, 1),
        heteroscedastic(2),
        # independent
        gaussian("independent 64x1", np.eye(65), 64),
        gaussian("independent 20x20 heavy", np.eye(40), 20, embed=np.sinh, embed_y=np.sinh, n=2_000),
        gaussian("independent 3x1", np.eye(4), 3, n=1_000, low=True),
        classes("independent classes, d=50", np.zeros((5, 2)), d=50, n=2_000),
        classes("independent classes, d=2", np.zeros((2, 2)), d=2, n=500, low=True),
    ]
