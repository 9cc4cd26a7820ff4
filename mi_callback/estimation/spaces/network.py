"""A small network that learns the distribution of a coded target given X.

Its only use is to find coordinates for distances, so it is kept to what that needs: one softmax a group of slices. A
linear first stage of few directions makes it a model of sufficient dimension reduction by conditional likelihood;
directions that do not help on held-out samples are pruned.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from mi_callback.estimation import kernels
from mi_callback.estimation.spaces.whitening import Array

__all__ = ["SliceNetwork"]

_METRIC_SAMPLES = 2048
_LEAST_VARIANCE = np.float32(0.01)  # of a slice's score, given x
_OUTLYING = 6.0  # residuals are clipped here, in standard deviations
_CLIP = 1e-3  # probabilities are kept this far from 0 and 1 in log odds


@dataclass(frozen=True, slots=True, eq=False)
class SliceNetwork:
    """Probabilities of slices given X: affine maps with ReLU between them, and a softmax a group.

    Attributes:
        parameters: all weights, row by row, and after them all offsets.
        sizes: widths of the input, the hidden layers and the output.
        groups: number of outputs of each softmax.
        ordered: whether the slices of a group are in order.
        projects: whether the first map is a projection to a few directions, without offset and ReLU.
    """

    parameters: Array
    sizes: tuple[int, ...]
    groups: tuple[int, ...]
    ordered: bool
    projects: bool

    @property
    def weights(self) -> list[Array]:
        """Matrices of the affine maps, the first of shape (p, h)."""
        shapes = list(pairwise(self.sizes))
        ends = np.cumsum([a * b for a, b in shapes])
        return [part.reshape(shape) for part, shape in zip(np.split(self.parameters, ends), shapes, strict=False)]

    @property
    def biases(self) -> list[Array]:
        """Offsets of the affine maps."""
        widths = self.sizes[1:]
        return np.split(self.parameters[-sum(widths) :], np.cumsum(widths)[:-1])

    @property
    def form(self) -> tuple[NDArray[np.intp], bool, NDArray[np.intp]]:
        """What compiled passes need to know: sizes, whether it projects, where groups of outputs begin and end."""
        starts = np.array([sum(self.groups[:g]) for g in range(len(self.groups) + 1)], np.intp)
        return np.array(self.sizes, np.intp), self.projects, starts

    def room(self, n: int) -> Array:
        """Room for the outputs of all maps for n samples."""
        return np.empty(n * sum(self.sizes[1:]), np.float32)

    def activations(self, x: Array) -> list[Array]:
        """Inputs of every affine map, and last the outputs before the softmax."""
        x, values = np.ascontiguousarray(x), self.room(len(x))
        kernels.forward(self.parameters, *self.form, x, values)
        ends = len(x) * np.cumsum(self.sizes[1:])
        return [x, *(part.reshape(len(x), -1) for part in np.split(values, ends[:-1]))]

    def probabilities(self, x: Array) -> Array:
        """Shape (n, c): probability of each slice, each group adding up to one."""
        outputs = self.activations(x)[-1]
        kernels.softmax(outputs, self.form[2])
        return outputs

    def loss(self, x: Array, indicators: Array) -> float:
        """Mean negative log-likelihood in nats, summed over the groups."""
        return float(
            kernels.log_loss(self.parameters, *self.form, np.ascontiguousarray(x), indicators, self.room(len(x)))
        )

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

    def unexplained(self, x: Array, indicators: Array, direction: Array) -> Array:
        """Functions of the slices, and of where x lies, that average to nothing wherever the network is right.

        For slices in order the Pearson residual of their normal scores, its square less one, and its product with the
        sign of x along a direction: shape (n, 3 groups). For classes what is left of each indicator: shape (n, c).
        All centred and of unit variance.
        """
        p = self.probabilities(x)
        if self.ordered:
            side = np.sign(x @ direction)
            parts = []
            for shares, slices in zip(_split(p, self.groups), _split(indicators, self.groups), strict=True):
                scores = ndtri((np.arange(shares.shape[1]) + 0.5) / shares.shape[1]).astype(np.float32)
                mean = shares @ scores
                residual = (slices @ scores - mean) / np.sqrt(np.maximum(shares @ scores**2 - mean**2, _LEAST_VARIANCE))
                parts += [residual, residual**2 - 1, residual * side]
            functions = np.stack(parts, axis=1)
        else:
            functions = indicators - p
        functions = functions - functions.mean(axis=0)
        spread = functions.std(axis=0)
        clipped = np.clip(functions / np.where(spread > 0, spread, 1), -_OUTLYING, _OUTLYING)
        unexplained: Array = clipped - clipped.mean(axis=0)
        return unexplained

    def metric(self, x: Array) -> NDArray[np.float64]:
        """Average Fisher information of the slices about the first map's outputs, shape (h, h).

        E sum_c p_c (grad log p_c)(grad log p_c)': how fast the conditional distribution changes in each direction.
        """
        values, weights = self.activations(x[:_METRIC_SAMPLES]), self.weights
        jacobian = np.broadcast_to(weights[-1].T, (len(values[0]), *weights[-1].T.shape))
        for layer in range(len(weights) - 2, 0, -1):
            jacobian = (jacobian * (values[layer + 1] > 0)[:, None, :]) @ weights[layer].T
        total = np.zeros((self.sizes[1],) * 2)
        at = 0
        kernels.softmax(values[-1], self.form[2])
        for p in _split(values[-1], self.groups):
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
        first, second, *weights = self.weights
        offsets = self.biases[1:]
        for h in range(1, axes.shape[1] + 1):
            leading = axes[:, :h]
            parts = [first @ leading, leading.T @ second, *weights, np.zeros(h, np.float32), *offsets]
            network = replace(
                self,
                parameters=np.concatenate([part.ravel() for part in parts]),
                sizes=(self.sizes[0], h, *self.sizes[2:]),
            )
            loss = network.loss(held_out, indicators)
            if loss < least:
                best, least = network, loss
        return best


def _split(values: Array, groups: tuple[int, ...]) -> list[Array]:
    return np.split(values, np.cumsum(groups)[:-1], axis=1)
