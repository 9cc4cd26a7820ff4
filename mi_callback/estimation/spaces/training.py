"""Fitting of slice networks: Adam (Kingma & Ba 2015, arXiv:1412.6980) in plain array code, with early stopping."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np

from mi_callback.estimation.spaces.network import SliceNetwork, grouped_softmax
from mi_callback.estimation.spaces.whitening import Array

__all__ = ["fit_network", "refine"]

_EPOCHS, _PATIENCE = 40, 6
_BATCH, _LARGE_BATCH, _LARGE = 128, 256, 3_000  # samples a step, and from how many samples on the larger one
_NEGLIGIBLE = 1e-30
_TRIAL = 10  # epochs after which a network that is behind its rival is given up
_REFINING_EPOCHS = 8
_STEP = 5e-3  # of Adam
_STEP_OF_DIRECTIONS = 0.04  # over sqrt(p): the same turn of a direction whatever the number of coordinates


def fit_network(
    x: Array,
    indicators: Array,
    held_out: tuple[Array, Array],
    groups: tuple[int, ...],
    *,
    ordered: bool,
    hidden: tuple[int, ...],
    directions: Array | None = None,
    decay: float = 0.01,
    rival: float = np.inf,
    seed: int = 0,
) -> SliceNetwork:
    """Fit a network, stopping where the loss on held-out samples is least.

    Args:
        x: shape (n, p).
        indicators: shape (n, c), what to predict.
        held_out: x and indicators of other samples, for early stopping.
        groups: number of columns of each group of indicators.
        ordered: whether the slices of a group are in order.
        hidden: widths of the layers with ReLU.
        directions: shape (p, r): begin with a projection, and with these directions.
        decay: weight decay.
        rival: loss on the held-out samples that another model attains.
        seed: seed of weights and batches.
    """
    rng = np.random.default_rng(seed)
    projects = directions is not None
    sizes = [x.shape[1], *([directions.shape[1]] if directions is not None else []), *hidden, indicators.shape[1]]
    weights = [(rng.standard_normal((a, b)) * np.sqrt(2 / a)).astype(np.float32) for a, b in pairwise(sizes)]
    biases = [np.zeros(size, np.float32) for size in sizes[1:]]
    if directions is not None:
        weights[0] = directions.copy()
        biases[1] = (0.5 * rng.standard_normal(sizes[2])).astype(np.float32)  # kinks spread over the projection
    else:
        weights[0] *= np.float32(0.3)  # weak at first: features that help must grow, the others stay small
    weights[-1] *= np.float32(0.1)
    start = SliceNetwork(tuple(weights), tuple(biases), groups, ordered, projects)
    return _train(start, x, indicators, rng, epochs=_EPOCHS, step=1.0, decay=decay, held_out=held_out,
                  rival=rival)


def refine(network: SliceNetwork, x: Array, indicators: Array, *, decay: float = 0.01, seed: int = 0) -> SliceNetwork:
    """Go on for a few epochs, in steps that end at zero, with the samples that were held out among the others."""
    rng = np.random.default_rng(seed)
    return _train(network, x, indicators, rng, epochs=_REFINING_EPOCHS, step=0.5, decay=decay, held_out=None)


def _train(
    network: SliceNetwork,
    x: Array,
    indicators: Array,
    rng: np.random.Generator,
    *,
    epochs: int,
    step: float,
    decay: float,
    held_out: tuple[Array, Array] | None,
    rival: float = np.inf,
) -> SliceNetwork:
    n, p = x.shape
    batch = min(_LARGE_BATCH if n >= _LARGE else _BATCH, n)
    layers = len(network.weights)
    parameters = [w.copy() for w in (*network.weights, *network.biases)]
    network = replace(network, weights=tuple(parameters[:layers]), biases=tuple(parameters[layers:]))
    first, second = ([np.zeros_like(q) for q in parameters] for _ in range(2))
    total, done = epochs * (n // batch), 0
    best, least, best_epoch = parameters, np.inf, 0
    for epoch in range(epochs):
        order = rng.permutation(n)
        for at in range(0, n - batch + 1, batch):
            rows = order[at : at + batch]
            gradients = _gradients(network, x[rows], indicators[rows])
            done += 1
            rate = step * 0.5 * (1 + np.cos(np.pi * done / total)) / (1 - 0.9**done)
            for j, (q, g) in enumerate(zip(parameters, gradients, strict=True)):
                if g is None:
                    continue
                first[j] += np.float32(0.1) * (g - first[j])
                second[j] += np.float32(0.001) * (g * g - second[j])
                mean_square = second[j] / np.float32(1 - 0.999**done)
                if network.projects and j == 0:  # one scale a direction, so that the basis of X does not matter
                    q -= np.float32(rate * _STEP_OF_DIRECTIONS / np.sqrt(p)) * first[j] / (
                        np.sqrt(mean_square.mean(axis=0)) + np.float32(1e-8)
                    )
                    continue
                q -= np.float32(rate * _STEP) * first[j] / (np.sqrt(mean_square) + np.float32(1e-8))
                if j < layers:
                    q *= np.float32(1 - rate * _STEP * decay)
        for moments in (*first, *second):  # of dead units: they would decay to subnormal floats, slow ones, and stay
            moments[np.abs(moments) < _NEGLIGIBLE] = 0
        if held_out is None:
            continue
        loss = network.loss(*held_out)
        if loss < least:
            best, least, best_epoch = [q.copy() for q in parameters], loss, epoch
        elif epoch - best_epoch >= _PATIENCE:
            break
        if epoch >= _TRIAL and least > rival:
            break
    return replace(network, weights=tuple(best[:layers]), biases=tuple(best[layers:]))


def _gradients(network: SliceNetwork, x: Array, indicators: Array) -> list[Array | None]:
    """Gradients of the mean loss by weights and then biases; None for the offset that a projection does not have."""
    values = network.activations(x)
    g = (grouped_softmax(values[-1], network.groups) - indicators) / np.float32(len(x))
    layers = len(network.weights)
    by_weights: list[Array | None] = [None] * layers
    by_biases: list[Array | None] = [None] * layers
    for layer in range(layers - 1, -1, -1):
        by_weights[layer] = values[layer].T @ g
        if not (network.projects and layer == 0):
            by_biases[layer] = g.sum(axis=0)
        if layer:
            g = g @ network.weights[layer].T
            if not (network.projects and layer == 1):
                g *= values[layer] > 0
    return by_weights + by_biases
