"""Small networks: outputs, probabilities of slices, the likelihood, its gradient, and steps down it.

Affine maps with ReLU between them and a softmax over each group of outputs. Notation: ``parameters`` is one vector, all
weights (row by row) before all offsets; ``sizes`` (L + 1,) are the widths of input, hidden layers and output; if
``projects``, the first map is a projection, without offset and ReLU; ``starts`` (groups + 1,) says where groups of
outputs begin; ``values`` is a vector that holds the outputs of all maps for n samples, one map after the other.
"""

from __future__ import annotations

import numpy as np

from mi_callback.estimation.kernels.basics import compiled

__all__ = ["descend", "forward", "gradient", "log_loss", "softmax"]

_STEP = 5e-3  # of Adam
_STEP_OF_DIRECTIONS = 0.04  # over sqrt(p): the same turn of a direction whatever the number of coordinates
_NEGLIGIBLE = np.float32(1e-30)
_LEAST_LOGIT = np.float32(-30)  # below the largest: keeps probabilities, and what is made of them, off subnormal floats


@compiled
def _n_parameters(sizes):
    """Length of ``parameters``; its weights end at the second number."""
    weights = 0
    for layer in range(sizes.size - 1):
        weights += sizes[layer] * sizes[layer + 1]
    return weights + sizes[1:].sum(), weights


@compiled
def _n_values(sizes, n):
    """Length of ``values`` for n samples."""
    return n * sizes[1:].sum()


@compiled
def forward(parameters, sizes, projects, starts, x, values):
    """Write the outputs of every map for x (n, p) to ``values``; returns the last ones, shape (n, c)."""
    n = x.shape[0]
    at_weights, at_offsets, at = 0, _n_parameters(sizes)[1], 0
    inputs = x
    for layer in range(sizes.size - 1):
        p, h = sizes[layer], sizes[layer + 1]
        outputs = values[at : at + n * h].reshape(n, h)
        np.dot(inputs, parameters[at_weights : at_weights + p * h].reshape(p, h), outputs)
        if layer > 0 or not projects:
            offsets = parameters[at_offsets : at_offsets + h]
            least = np.float32(-np.inf if layer == sizes.size - 2 else 0)
            for i in range(n):
                for j in range(h):
                    outputs[i, j] = max(outputs[i, j] + offsets[j], least)
        inputs = outputs
        at_weights, at_offsets, at = at_weights + p * h, at_offsets + h, at + n * h
    return inputs


@compiled
def softmax(outputs, starts):
    """Replace outputs (n, c) by the softmax over each group."""
    for i in range(outputs.shape[0]):
        for g in range(starts.size - 1):
            group = outputs[i, starts[g] : starts[g + 1]]
            largest = group.max()
            total = np.float32(0)
            for j in range(group.size):
                group[j] = np.exp(max(group[j] - largest, _LEAST_LOGIT))
                total += group[j]
            for j in range(group.size):
                group[j] /= total


@compiled
def log_loss(parameters, sizes, projects, starts, x, indicators, values):
    """Mean negative log-likelihood of indicators (n, c) in nats, summed over the groups."""
    outputs = forward(parameters, sizes, projects, starts, x, values)
    softmax(outputs, starts)
    total = 0.0
    for i in range(x.shape[0]):
        for j in range(indicators.shape[1]):
            if indicators[i, j] > 0:
                total -= indicators[i, j] * np.log(outputs[i, j] + np.float32(1e-9))
    return total / x.shape[0]


@compiled
def gradient(parameters, sizes, projects, starts, x, indicators, values, spare, out):
    """Write the gradient of the mean negative log-likelihood to ``out``, as long as ``parameters``.

    Args:
        spare: as long as ``values``; both are overwritten.
    """
    n = x.shape[0]
    slope = forward(parameters, sizes, projects, starts, x, values)
    softmax(slope, starts)
    for i in range(n):
        for j in range(slope.shape[1]):
            slope[i, j] = (slope[i, j] - indicators[i, j]) / np.float32(n)
    total, weights = _n_parameters(sizes)
    at_weights, at_offsets, at = weights, total, _n_values(sizes, n)
    for layer in range(sizes.size - 2, -1, -1):
        p, h = sizes[layer], sizes[layer + 1]
        at_weights, at_offsets, at = at_weights - p * h, at_offsets - h, at - n * h
        inputs = values[at - n * p : at].reshape(n, p) if layer > 0 else x
        np.dot(inputs.T, slope, out[at_weights : at_weights + p * h].reshape(p, h))
        offsets = out[at_offsets : at_offsets + h]
        offsets[:] = 0
        if layer > 0 or not projects:
            for i in range(n):
                for j in range(h):
                    offsets[j] += slope[i, j]
        if layer == 0:
            break
        below = spare[: n * p].reshape(n, p)
        np.dot(slope, parameters[at_weights : at_weights + p * h].reshape(p, h).T, below)
        if layer > 1 or not projects:  # outputs of the layer below are of no more use: its slopes take their place
            for i in range(n):
                for j in range(p):
                    inputs[i, j] = below[i, j] if inputs[i, j] > 0 else np.float32(0)
        else:
            inputs[:] = below
        slope = inputs


@compiled
def descend(parameters, sizes, projects, starts, x, indicators, moments, order, batch, done, total, step, decay):
    """One epoch of Adam (Kingma & Ba 2015, arXiv:1412.6980), in steps that fall along a half cosine to zero.

    Args:
        parameters: changed in place.
        x, indicators: (n, p) samples and (n, c) what to predict.
        moments: (2, parameters) running means of the gradient and its square; changed in place.
        order: (n,) the samples; an incomplete batch at the end is left out.
        batch: samples a step.
        done: steps that were made before.
        total: steps in all.
        step: size of the first step, in units of the usual one.
        decay: weight decay.
    """
    n_weights = _n_parameters(sizes)[1]
    n_directions = sizes[0] * sizes[1] if projects else 0
    first, second = moments[0], moments[1]
    slope = np.empty_like(parameters)
    values = np.empty(_n_values(sizes, batch), np.float32)
    spare = np.empty_like(values)
    some_x = np.empty((batch, x.shape[1]), np.float32)
    some_indicators = np.empty((batch, indicators.shape[1]), np.float32)
    for at in range(0, order.size - batch + 1, batch):
        for r in range(batch):
            some_x[r] = x[order[at + r]]
            some_indicators[r] = indicators[order[at + r]]
        gradient(parameters, sizes, projects, starts, some_x, some_indicators, values, spare, slope)
        done += 1
        rate = step * 0.5 * (1 + np.cos(np.pi * done / total)) / (1 - 0.9**done)
        unbias = np.float32(1 / (1 - 0.999**done))
        for j in range(parameters.size):
            first[j] += np.float32(0.1) * (slope[j] - first[j])
            second[j] += np.float32(0.001) * (slope[j] * slope[j] - second[j])
        for c in range(sizes[1] if projects else 0):  # one scale a direction, so that the basis of X does not matter
            square = np.float32(0)
            for j in range(c, n_directions, sizes[1]):
                square += second[j]
            scale = np.sqrt(square * unbias / np.float32(sizes[0])) + np.float32(1e-8)
            turn = np.float32(rate * _STEP_OF_DIRECTIONS / np.sqrt(sizes[0])) / scale
            for j in range(c, n_directions, sizes[1]):
                parameters[j] -= turn * first[j]
        size, kept = np.float32(rate * _STEP), np.float32(1 - rate * _STEP * decay)
        for j in range(n_directions, parameters.size):
            parameters[j] -= size * first[j] / (np.sqrt(second[j] * unbias) + np.float32(1e-8))
        for j in range(n_directions, n_weights):
            parameters[j] *= kept
    for j in range(parameters.size):  # of dead units: they would decay to subnormal floats, slow ones, and stay
        first[j] = first[j] if abs(first[j]) >= _NEGLIGIBLE else np.float32(0)
        second[j] = second[j] if second[j] >= _NEGLIGIBLE else np.float32(0)
