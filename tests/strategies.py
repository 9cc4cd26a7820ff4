"""Samples for property tests: random n, d, k, scales, offsets, duplicates, atoms and heavy tails.

Hypothesis draws a handful of parameters and a seed, and numpy makes the arrays: drawing every number by hypothesis
is slow, and shrinking the parameters is what helps to read a failure.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from hypothesis import strategies as st
from numpy.typing import NDArray

__all__ = ["KINDS", "Samples", "classes", "pairs"]

# "grid" ties in one dimension only: in several, equal sums of squares in another order differ by a rounding error, and
# whether they tie is then up to the last bit, in any implementation.
KINDS = ("normal", "heavy", "relu", "copies", "uneven", "grid", "constant column")


@dataclass(frozen=True)
class Samples:
    """A pair of samples and the number of neighbours; the parameters are there to be read when a test fails."""

    n: int
    d: int
    q: int
    k: int
    x_kind: str
    y_kind: str
    coupling: float
    scale: float
    offset: float
    seed: int
    n_classes: int = 0

    @property
    def x(self) -> NDArray[np.float64]:
        return self._arrays()[0]

    @property
    def y(self) -> NDArray[np.float64]:
        return self._arrays()[1]

    def _arrays(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        rng = np.random.default_rng(self.seed)
        common = rng.standard_normal((self.n, 1))
        x = common * self.coupling + rng.standard_normal((self.n, self.d))
        y = common + rng.standard_normal((self.n, self.q))
        x = _shape(x, self.x_kind, rng) * self.scale + self.offset * self.scale
        if self.n_classes:
            edges = np.quantile(y[:, 0], np.linspace(0, 1, self.n_classes + 1)[1:-1] ** 2)  # uneven, some classes tiny
            return x, np.searchsorted(edges, y[:, 0])
        return x, _shape(y, self.y_kind, rng)


def _shape(z: NDArray[np.float64], kind: str, rng: np.random.Generator) -> NDArray[np.float64]:
    if kind == "heavy":
        # Heavy, but not beyond what doubles resolve once the mean is taken off: the bulk must not fall on one number.
        return np.sinh(2.5 * z / z.std())
    if kind == "relu":
        return np.maximum(z, 0)
    if kind == "copies":  # some samples repeat others exactly
        z = z.copy()
        z[rng.integers(0, len(z), len(z) // 4)] = z[rng.integers(0, len(z), len(z) // 4)]
        return z
    if kind == "uneven":
        return z * np.logspace(-3, 3, z.shape[1])
    if kind == "grid":
        return np.round(2 * z) if z.shape[1] == 1 else z
    if kind == "constant column":
        z = z.copy()
        z[:, 0] = 7.0 if z.shape[1] > 1 else z[:, 0]
        return z
    return z


@st.composite
def pairs(draw: st.DrawFn, *, max_n: int = 160, min_n: int = 8) -> Samples:
    """A continuous x and a continuous y, dependent or not."""
    k = draw(st.integers(1, 6))
    return Samples(
        n=draw(st.integers(max(min_n, k + 2), max_n)),
        d=draw(st.integers(1, 5)),
        q=draw(st.integers(1, 3)),
        k=k,
        x_kind=draw(st.sampled_from(KINDS)),
        y_kind=draw(st.sampled_from(KINDS)),
        coupling=draw(st.sampled_from([0.0, 1.0, 5.0])),
        scale=draw(st.sampled_from([1.0, 1e-3, 1e4])),
        offset=draw(st.sampled_from([0.0, 10.0, -1e4])),
        seed=draw(st.integers(0, 2**31)),
    )


@st.composite
def classes(draw: st.DrawFn, *, max_n: int = 160) -> Samples:
    """A continuous x and labels, with classes of very different sizes, sometimes a single member."""
    samples = draw(pairs(max_n=max_n))
    return Samples(**{**samples.__dict__, "n_classes": draw(st.integers(2, 7))})
