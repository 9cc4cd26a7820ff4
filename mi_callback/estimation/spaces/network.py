"""A small network that learns the distribution of a coded target given X, in plain array code.

Its only use is to find coordinates for distances, so it is kept to what that needs: one softmax a group of slices. A
linear first stage of few directions makes it a model of sufficient dimension reduction by conditional likelihood;
directions that do not help on held-out samples are pruned.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from mi_callback.estimation.spaces.whitening import Array

__all__ = ["SliceNetwork", "grouped_softmax"]

_METRIC_SAMPLES = 2048
_LEAST_LOGIT = np.float32(-30)  # below the largest: keeps probabilities, and what is made of them, off subnormal floats
_CLIP = 1e-3  # probabilities are kept this far from 0 and 1 in log odds


@dataclass(frozen=True, slots=True, eq=False)
class SliceNetwork:
    """Probabilities of slices given X: affine maps with ReLU between them, and a softmax a group.

    Attributes:
        weights: matrices of the affine maps, the first of shape (p, h).
        biases: their offsets.
        groups: number of outputs of each softmax.
        ordered: whether the slices of a group are in order.
        projects: whether the first map is a projection to a few directions, without offset and ReLU.
    """

    weights: tuple[Array, ...]
    biases: tuple[Array, ...]
    groups: tuple[int, ...]
    ordered: bool
    projects: bool

    def activations(self, x: Array) -> list[Array]:
        """Inputs of every affine map, and last the outputs before the softmax."""
        values = [x]
        for layer, (w, b) in enumerate(zip(self.weights, self.biases, strict=True)):
            out = values[-1] @ w
            if not (self.projects and layer == 0):
                out += b
                if layer < len(self.weights) - 1:
                    np.maximum(out, 0, out=out)
            values.append(out)
        return values

    def probabilities(self, x: Array) -> Array:
        """Shape (n, c): probability of each slice, each group adding up to one."""
        return grouped_softmax(self.activations(x)[-1], self.groups)

    def loss(self, x: Array, indicators: Array) -> float:
        """Mean negative log-likelihood in nats, summed over the groups."""
        return float(-(np.log(self.probabilities(x) + 1e-9) * indicators).sum() / len(x))

    def log_odds(self, x: Array) -> Array:
        """Coordinates in which samples are near if their conditional distributions are.

        Log odds of lying below each boundary between slices; log probabilities where slices have no order. Shape
        (n, c - number of groups) or (n, c).
        """
        p = self.probabilities(x)
        if not self.ordered:
            log: Array = np.log(p + np.float32(_CLIP))
            return log
        below = np.concatenate([np.cumsum(group, axis=1)[:, :-1] for group in _split(p, self.groups)], axis=1)
        below = np.clip(below, 0, 1)
        odds: Array = np.log((below + _CLIP) / (1 - below + _CLIP))
        return odds

    def metric(self, x: Array) -> NDArray[np.float64]:
        """Average Fisher information of the slices about the first map's outputs, shape (h, h).

        E sum_c p_c (grad log p_c)(grad log p_c)': how fast the conditional distribution changes in each direction.
        """
        values = self.activations(x[:_METRIC_SAMPLES])
        jacobian = np.broadcast_to(self.weights[-1].T, (len(values[0]), *self.weights[-1].T.shape))
        for layer in range(len(self.weights) - 2, 0, -1):
            jacobian = (jacobian * (values[layer + 1] > 0)[:, None, :]) @ self.weights[layer].T
        total = np.zeros((self.weights[1].shape[0],) * 2)
        at = 0
        for p in _split(grouped_softmax(values[-1], self.groups), self.groups):
            part = jacobian[:, at : at + p.shape[1]]
            slope = (part - np.einsum("nc,nch->nh", p, part)[:, None]) * np.sqrt(p)[:, :, None]
            flat = slope.reshape(-1, slope.shape[2])
            total += (flat.T @ flat).astype(np.float64) / len(p)
            at += p.shape[1]
        return total

    def directions(self, x: Array) -> Array:
        """Directions of the projection, the most informative first, scaled by how much they tell; shape (p, h)."""
        information, axes = np.linalg.eigh(self.metric(x))
        scale = np.sqrt(np.maximum(information, 0) / max(float(information[-1]), 1e-12))
        directions: Array = self.weights[0] @ (axes * scale)[:, ::-1].astype(np.float32)
        return directions

    def pruned(self, x: Array, held_out: Array, indicators: Array) -> SliceNetwork:
        """The network of the leading directions that predict held-out samples best."""
        axes = np.linalg.eigh(self.metric(x))[1][:, ::-1].astype(np.float32)
        best, least = self, np.inf
        for h in range(1, axes.shape[1] + 1):
            leading = axes[:, :h]
            network = replace(
                self,
                weights=(self.weights[0] @ leading, leading.T @ self.weights[1], *self.weights[2:]),
                biases=(self.biases[0][:h], *self.biases[1:]),
            )
            loss = network.loss(held_out, indicators)
            if loss < least:
                best, least = network, loss
        return best


def _split(values: Array, groups: tuple[int, ...]) -> list[Array]:
    return np.split(values, np.cumsum(groups)[:-1], axis=1)


def grouped_softmax(outputs: Array, groups: tuple[int, ...]) -> Array:
    """Softmax over each group of columns."""
    shares = []
    for part in _split(outputs, groups):
        share = np.exp(np.maximum(part - part.max(axis=1, keepdims=True), _LEAST_LOGIT))
        share /= share.sum(axis=1, keepdims=True)
        shares.append(share)
    return shares[0] if len(shares) == 1 else np.concatenate(shares, axis=1)
