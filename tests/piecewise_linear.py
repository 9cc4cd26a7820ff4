"""The regression with known truth: Y = X^2 - X - 1 + 0.2 E, and what a ReLU network's layers hold of it.

A ReLU network of a one-dimensional input is piecewise linear, so that I(T;Y) of a layer follows from its knots:
I(T;Y) = I(X;Y) - I(X;Y|T), and I(X;Y|T = t) is zero wherever one x alone is mapped to t. Nothing of the package
is imported here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from tests.ground_truth import entropy_on_grid

__all__ = ["QuadraticRegression", "relu_network"]

Array = NDArray[np.float64]


def relu_network(
    weights: Sequence[Array], biases: Sequence[Array], low: float, high: float
) -> list[tuple[Array, Array]]:
    """Each layer of a ReLU network of one input as a piecewise linear map of x.

    Args:
        weights: W_l of shape (d_l, d_{l-1}), with d_0 = 1.
        biases: b_l of shape (d_l,).
        low: lower end of x.
        high: upper end of x.

    Returns:
        For every layer knots (m,) and values (m, d_l) after the ReLU; the last layer is left linear.
    """
    knots, values = np.array([low, high]), np.array([[low], [high]])
    layers = []
    for depth, (w, b) in enumerate(zip(weights, biases, strict=True)):
        values = values @ np.asarray(w, float).T + np.asarray(b, float)
        if depth < len(weights) - 1:
            before, after = values[:-1], values[1:]
            segment, unit = np.nonzero(before * after < 0)
            share = before[segment, unit] / (before[segment, unit] - after[segment, unit])
            crossings = knots[segment] + share * (knots[segment + 1] - knots[segment])
            merged = np.union1d(knots, crossings)
            values = np.column_stack([np.interp(merged, knots, column) for column in values.T])
            knots, values = merged, np.maximum(values, 0)
            # Interpolation leaves 1e-17 where a unit crosses zero; an exact zero keeps dead pieces flat.
            values[values < 1e-12 * max(1.0, float(np.abs(values).max()))] = 0.0
        layers.append((knots, values))
    return layers


@dataclass(frozen=True)
class QuadraticRegression:
    """X ~ U(-3, 3), Y = X^2 - X - 1 + noise E: I(X;Y) = h(Y) - h(noise E), 2.4074247 nats at noise .2."""

    noise: float = 0.2
    low: float = -3.0
    high: float = 3.0
    name: str = "quadratic regression"

    @staticmethod
    def curve(x: Array) -> Array:
        return x**2 - x - 1

    def sample(self, n: int, rng: np.random.Generator) -> tuple[Array, Array]:
        x = rng.uniform(self.low, self.high, n)
        return x, self.curve(x) + self.noise * rng.standard_normal(n)

    @property
    def target_entropy(self) -> float:
        """h(Y) in nats."""
        return self._entropy(*self._spread_over([(self.low, self.high)]))

    @property
    def mutual_information(self) -> float:
        return self.target_entropy - self._noise_entropy

    def layer_information(self, knots: Array, values: Array) -> float:
        """I(T;Y) in nats for T the piecewise linear map with these knots (m,) and values (m, d)."""
        width = self.high - self.low
        lost = 0.0
        flat: dict[tuple[float, ...], list[tuple[float, float]]] = {}
        lines: dict[tuple[float, ...], list[tuple[float, float, float, float]]] = {}
        size = max(1.0, float(np.abs(values).max()))
        for (x0, t0), (x1, t1) in pairwise(zip(knots, values, strict=True)):
            if x1 - x0 < 1e-12:
                continue
            step = t1 - t0
            if np.linalg.norm(step) <= 1e-12 * size:
                flat.setdefault(tuple(np.round(t0 / size, 9)), []).append((x0, x1))
                continue
            # Two pieces can overlap only on one and the same line: its direction and its foot tell lines apart.
            direction = step / np.linalg.norm(step)
            if direction[np.argmax(np.abs(direction) > 1e-9)] < 0:
                direction = -direction
            foot = t0 - (t0 @ direction) * direction
            line = (*np.round(direction, 7), *np.round(foot / size, 7))
            lines.setdefault(tuple(v + 0.0 for v in line), []).append((x0, x1, t0 @ direction, t1 @ direction))
        for pieces in flat.values():
            share = sum(b - a for a, b in pieces) / width
            lost += share * (self._entropy(*self._spread_over(pieces)) - self._noise_entropy)
        for pieces in lines.values():
            lost += self._lost_on_a_line(pieces)
        return self.mutual_information - lost

    @property
    def _noise_entropy(self) -> float:
        return float(0.5 * np.log(2 * np.pi * np.e * self.noise**2))

    def _grid(self) -> Array:
        margin = 10 * self.noise
        top = max(self.curve(np.array(self.low)), self.curve(np.array(self.high)))
        return np.arange(-1.25 - margin, float(top) + margin, self.noise / 12)

    def _mixture(self, x: Array, weights: Array) -> Array:
        """Densities of Y on the grid, for rows of x (..., r) held with weights (..., r) that sum to one."""
        grid = self._grid()
        z = (grid - self.curve(x)[..., None]) / self.noise
        kernel = np.exp(-0.5 * z**2) / (np.sqrt(2 * np.pi) * self.noise)
        return np.sum(weights[..., None] * kernel, axis=-2)

    def _spread_over(self, pieces: list[tuple[float, float]]) -> tuple[Array, Array]:
        """x and weights of X uniform on these intervals, as Gauss-Legendre nodes on steps of at most a fiftieth."""
        nodes, node_weights = np.polynomial.legendre.leggauss(8)
        xs, ws = [], []
        for a, b in pieces:
            edges = np.linspace(a, b, max(2, int(np.ceil((b - a) * 50)) + 1))
            half = np.diff(edges)[:, None] / 2
            xs.append((edges[:-1, None] + half * (nodes + 1)).ravel())
            ws.append((half * node_weights).ravel())
        weights = np.concatenate(ws)
        return np.concatenate(xs), weights / weights.sum()

    def _entropy(self, x: Array, weights: Array) -> float:
        return float(entropy_on_grid(self._mixture(x, weights), self.noise / 12))

    def _lost_on_a_line(self, pieces: list[tuple[float, float, float, float]]) -> float:
        """Integral of p(t) I(X;Y|T = t) over a line on which the pieces (x0, x1, t0, t1) lie."""
        nodes, node_weights = np.polynomial.legendre.leggauss(8)
        ends = np.unique([t for piece in pieces for t in piece[2:]])
        lost = 0.0
        for a, b in pairwise(ends):
            over = [p for p in pieces if min(p[2:]) <= a and b <= max(p[2:])]
            if len(over) < 2 or b - a < 1e-12:
                continue
            x0, x1, t0, t1 = (np.array(column) for column in zip(*over, strict=True))
            slope = (x1 - x0) / (t1 - t0)  # dx/dt of each piece
            # Steps short enough that no preimage moves y by more than half the noise: the integrand is then smooth.
            steps = int(np.ceil(np.abs(slope).max() * (b - a) * 7 / (0.5 * self.noise))) + 1
            edges = np.linspace(a, b, steps + 1)
            half = np.diff(edges) / 2
            t = (edges[:-1, None] + half[:, None] * (nodes + 1)).ravel()
            weight_t = (half[:, None] * node_weights).ravel()
            x = x0 + (t[:, None] - t0) * slope
            density = np.abs(slope) / (self.high - self.low)  # of t on each piece
            shares = np.broadcast_to(density / density.sum(), x.shape)
            gain = np.empty(len(t))
            for block in np.array_split(np.arange(len(t)), max(1, len(t) // 500)):
                gain[block] = (
                    entropy_on_grid(self._mixture(x[block], shares[block]), self.noise / 12) - self._noise_entropy
                )
            lost += float(density.sum() * weight_t @ gain)
        return lost
