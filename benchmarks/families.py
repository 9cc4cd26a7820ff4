"""Random joint distributions of exactly known mutual information: what interval and flags are made on and judged by.

A seed draws a dependence, features that have nothing to do with it, and one-to-one maps that hide it. The maps change
no information, so the truth stays what it was. Constants of the package may be chosen on ``TUNING`` seeds only; what is
reported comes from others.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

from benchmarks.cases import Case, additive_noise_information, classes, gaussian_information, pairs, student_correction

__all__ = ["KINDS", "TUNING", "random_case"]

Array = NDArray[np.float64]
Map = Callable[[Array], Array]

KINDS = ("weak pairs", "medium pairs", "strong pairs", "additive", "classes", "student")
TUNING = range(1_000)
"""Seeds that constants of the package were chosen on."""

_STRENGTHS = {"weak pairs": (0.1, 0.4), "medium pairs": (0.4, 0.8), "strong pairs": (0.8, 0.98)}
_FUNCTIONS: tuple[Map, ...] = (
    lambda u: u,
    lambda u: (u**2 - 1) / np.sqrt(2),
    lambda u: np.sqrt(2) * np.sin(2 * u),
    lambda u: np.sign(u),
    lambda u: (np.abs(u) - 0.798) / 0.603,
    lambda u: np.tanh(2 * u) / 0.83,
)


def random_case(seed: int, n: int) -> Case:
    """The case of a seed, to be judged at n samples."""
    rng = np.random.default_rng((0xFA, seed))
    kind = KINDS[seed % len(KINDS)]
    base, d, q = _DEPENDENCES.get(kind, _pairs)(kind, rng)
    idle = int(rng.choice([0, 0, 2, 8, 30, 120]))
    idle_y = int(rng.choice([0, 0, 5, 20])) if q > 1 else 0
    hide, how = _hidden(d + idle, rng)
    hide_y, how_y = _hidden(q + idle_y, rng) if not base.discrete else (lambda y: y, "")

    def sample(n: int, rng: np.random.Generator) -> tuple[Array, Array]:
        x, y = base.sample(n, rng)
        x = np.concatenate([x, rng.standard_normal((n, idle))], axis=1)
        if base.discrete:
            return hide(x), y
        return hide(x), hide_y(np.concatenate([y, rng.standard_normal((n, idle_y))], axis=1))

    name = f"{seed} {kind}, {d}+{idle} {how} x {q}+{idle_y} {how_y}".strip()
    return Case(name, sample, base.truth, n, discrete=base.discrete)


# --- dependences ------------------------------------------------------------------------------------------------------


def _pairs(kind: str, rng: np.random.Generator) -> tuple[Case, int, int]:
    r = int(rng.integers(1, 6))
    d, q = (r + int(rng.integers(0, 4)), r + int(rng.integers(0, 4))) if rng.random() < 0.7 else (r, r)
    if rng.random() < 0.4:
        r, q = 1, 1
    cov = pairs(d, q, list(rng.uniform(*_STRENGTHS[kind], r)))
    root = np.linalg.cholesky(cov)

    def sample(n: int, rng: np.random.Generator) -> tuple[Array, Array]:
        z = rng.standard_normal((n, d + q)) @ root.T
        return z[:, :d], z[:, d:]

    return Case(kind, sample, gaussian_information(cov, d)), d, q


def _additive(kind: str, rng: np.random.Generator) -> tuple[Case, int, int]:
    r = int(rng.integers(1, 5))
    functions = [_FUNCTIONS[int(i)] for i in rng.integers(len(_FUNCTIONS), size=r)]
    weights, sigma = rng.uniform(0.5, 1.5, r), float(rng.uniform(0.15, 1.0))

    def signal(u: Array) -> Array:
        return sum((w * f(column) for w, f, column in zip(weights, functions, u.T, strict=True)), np.zeros(len(u)))

    truth = additive_noise_information(signal(np.random.default_rng(5).standard_normal((500_000, r))), sigma)

    def sample(n: int, rng: np.random.Generator) -> tuple[Array, Array]:
        u = rng.standard_normal((n, r))
        return u, (signal(u) + sigma * rng.standard_normal(n))[:, None]

    return Case(kind, sample, truth), r, 1


def _classes(kind: str, rng: np.random.Generator) -> tuple[Case, int, int]:
    c, r = int(rng.integers(2, 11)), int(rng.integers(1, 5))
    means = rng.standard_normal((c, r)) * rng.uniform(0.3, 3)
    covs = None
    if rng.random() < 0.4:
        covs = np.stack([np.diag(rng.uniform(0.2, 2, r)) for _ in range(c)])
    return classes(kind, means, covs, d=r), r, 1


def _student(kind: str, rng: np.random.Generator) -> tuple[Case, int, int]:
    nu, d, q = float(rng.uniform(2, 8)), int(rng.integers(1, 16)), int(rng.integers(1, 16))
    if rng.random() < 0.3:
        q = 1
    r = int(rng.integers(0, min(d, q) + 1))
    cov = pairs(d, q, list(rng.uniform(0.2, 0.8, r)))
    root = np.linalg.cholesky(cov)

    def sample(n: int, rng: np.random.Generator) -> tuple[Array, Array]:
        z = rng.standard_normal((n, d + q)) @ root.T
        z *= np.sqrt(nu / rng.chisquare(nu, n))[:, None]
        return z[:, :d], z[:, d:]

    return Case(kind, sample, gaussian_information(cov, d) + student_correction(nu, d, q)), d, q


_DEPENDENCES = {"additive": _additive, "classes": _classes, "student": _student}


# --- maps that hide ---------------------------------------------------------------------------------------------------


def _hidden(d: int, rng: np.random.Generator) -> tuple[Map, str]:
    """A one-to-one map of d coordinates, and its name."""
    how = str(rng.choice(["", "rotated", "skewed", "marginals", "flow", "rotated marginals", "rotated flow"]))
    parts: list[Map] = []
    if "rotated" in how and d > 1:
        turn = np.linalg.qr(rng.standard_normal((d, d)))[0]
        parts.append(lambda x: x @ turn)
    if how == "skewed" and d > 1:
        shear = np.eye(d) + np.triu(rng.standard_normal((d, d)), 1) * rng.uniform(0.2, 1) / np.sqrt(d)
        parts.append(lambda x: x @ shear)
    if "flow" in how and d > 1:
        parts += [_coupling(d, rng) for _ in range(2)]
    if "marginals" in how:
        which = rng.integers(4, size=d)
        bends: tuple[Map, ...] = (lambda z: z, lambda z: np.exp(z), lambda z: z**3, lambda z: ndtr(z))
        parts.append(lambda x: np.stack([bends[int(i)](c) for i, c in zip(which, x.T, strict=True)], axis=1))

    def hide(x: Array) -> Array:
        for part in parts:
            x = part(x)
        return x

    return hide, how


def _coupling(d: int, rng: np.random.Generator) -> Map:
    """One coupling layer: a random half of the coordinates shifts and stretches the other half."""
    order = rng.permutation(d)
    first, second = order[: d // 2], order[d // 2 :]
    w = rng.standard_normal((len(first), 8)) / np.sqrt(len(first))
    shift, stretch = rng.standard_normal((8, len(second))) * 0.5, rng.standard_normal((8, len(second))) * 0.2

    def flow(x: Array) -> Array:
        out = x.copy()
        hidden = np.tanh(x[:, first] @ w)
        out[:, second] = x[:, second] * np.exp(hidden @ stretch) + hidden @ shift
        return out

    return flow
