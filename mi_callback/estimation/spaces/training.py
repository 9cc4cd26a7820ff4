"""Fitting of slice networks by Adam (Kingma & Ba 2015, arXiv:1412.6980), with early stopping."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np

from mi_callback.estimation import kernels
from mi_callback.estimation.spaces.network import SliceNetwork
from mi_callback.estimation.spaces.whitening import Array

__all__ = ["fit_network", "refine"]

_EPOCHS, _PATIENCE = 40, 6
_BATCH, _LARGE_BATCH, _LARGE = 128, 256, 3_000  # samples a step, and from how many samples on the larger one
_TRIAL = 10  # epochs after which a network that is behind its rival is given up
_REFINING_EPOCHS = 8


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
    sizes = [x.shape[1], *([directions.shape[1]] if directions is not None else []), *hidden, indicators.shape[1]]
    weights = [(rng.standard_normal((a, b)) * np.sqrt(2 / a)).astype(np.float32) for a, b in pairwise(sizes)]
    biases = [np.zeros(size, np.float32) for size in sizes[1:]]
    if directions is not None:
        weights[0] = directions
        biases[1] = (0.5 * rng.standard_normal(sizes[2])).astype(np.float32)  # kinks spread over the projection
    else:
        weights[0] *= np.float32(0.3)  # weak at first: features that help must grow, the others stay small
    weights[-1] *= np.float32(0.1)
    parameters = np.concatenate([part.ravel() for part in (*weights, *biases)])
    start = SliceNetwork(parameters, tuple(sizes), groups, ordered, directions is not None)
    return _train(start, x, indicators, rng, epochs=_EPOCHS, step=1.0, decay=decay, held_out=held_out, rival=rival)


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
    n = len(x)
    batch = min(_LARGE_BATCH if n >= _LARGE else _BATCH, n)
    parameters = network.parameters.copy()
    moments = np.zeros((2, parameters.size), np.float32)
    form, x = network.form, np.ascontiguousarray(x)
    if held_out is not None:
        others, room = np.ascontiguousarray(held_out[0]), network.room(len(held_out[0]))
    total = epochs * (n // batch)
    best, least, best_epoch = parameters, np.inf, 0
    for epoch in range(epochs):
        done = epoch * (n // batch)
        kernels.descend(parameters, *form, x, indicators, moments, rng.permutation(n), batch, done, total, step, decay)
        if held_out is None:
            continue
        loss = kernels.log_loss(parameters, *form, others, held_out[1], room)
        if loss < least:
            best, least, best_epoch = parameters.copy(), loss, epoch
        elif epoch - best_epoch >= _PATIENCE:
            break
        if epoch >= _TRIAL and least > rival:
            break
    return replace(network, parameters=best)
