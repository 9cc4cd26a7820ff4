"""A direction along which Y oscillates, found by its frequency.

E[f(Y) exp(i w'x)] is the Fourier transform of E[f(Y) | x] times the density of x: for Y = sin(4 u), which no moment of
low order sees, it has a peak at the frequency 4 along u, as wide as 1 / (spread of x). Its logarithm falls like a
parabola around the peak, so that from a frequency in its flank a step along the gradient leads to the top.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mi_callback.estimation.spaces.directions import leading_functions
from mi_callback.estimation.spaces.whitening import Array

__all__ = ["oscillating_direction"]

_FEWEST_SAMPLES, _MOST_SAMPLES = 200, 2_000  # with fewer, chance reaches as high as most peaks; more cost time
_SIGNIFICANT = 1.25  # times the peak under one permutation
_FREQUENCIES = 1_024  # drawn at random, in all directions
_SLOWEST, _FASTEST = 0.5, 5.0  # in radians a standard deviation
_CLIMBING, _STEPS = 48, 10  # how many of them climb, and how often
_LONGEST_STEP = 1.5
_FACTOR = 0.5  # of the gradient of the logarithm: to the top of a Gaussian peak in one step


def oscillating_direction(x: Array, functions: Array, rng: np.random.Generator) -> Array:
    """The direction of the highest peak of E[f(Y) exp(i w'x)], if it stands above its permutation null.

    Args:
        x: shape (n, p), whitened.
        functions: shape (n, m), centred functions of Y of unit variance.
        rng: draws frequencies, and the one permutation that sets the level of chance.

    Returns:
        Shape (p, 1), of unit length; shape (p, 0) if there is none.
    """
    if len(x) < _FEWEST_SAMPLES:
        return np.zeros((x.shape[1], 0), np.float32)
    x, functions = x[:_MOST_SAMPLES], leading_functions(x, functions)[:_MOST_SAMPLES]
    frequencies = rng.standard_normal((x.shape[1], _FREQUENCIES), dtype=np.float32)
    lengths = rng.uniform(_SLOWEST, _FASTEST, _FREQUENCIES).astype(np.float32)
    frequencies *= lengths / np.linalg.norm(frequencies, axis=0)
    phases = x @ frequencies
    waves = np.cos(phases), np.sin(phases)
    found, height = _highest_peak(x, functions, frequencies, waves)
    _, by_chance = _highest_peak(x, functions[rng.permutation(len(x))], frequencies, waves)
    if height <= _SIGNIFICANT * by_chance:
        return np.zeros((x.shape[1], 0), np.float32)
    direction: Array = (found / np.linalg.norm(found))[:, None]
    return direction


def _highest_peak(x: Array, functions: Array, frequencies: Array, waves: tuple[Array, Array]) -> tuple[Array, float]:
    """Climb from the frequencies at which a function is largest: the best one, shape (p,), and its height."""
    n = len(x)
    powers = sum((functions.T @ wave / n) ** 2 for wave in waves)
    which, largest = powers.argmax(axis=0), powers.max(axis=0)
    start = np.argsort(-largest)[:_CLIMBING]
    w, f = frequencies[:, start], functions[:, which[start]]
    best, highest = w[:, 0], float(largest[start[0]])
    for step in range(_STEPS + 1):
        phases = x @ w
        even, odd = f * np.cos(phases), f * np.sin(phases)
        a, b = even.mean(axis=0), odd.mean(axis=0)
        power: NDArray[np.float32] = a * a + b * b
        top = int(power.argmax())
        if power[top] > highest:
            best, highest = w[:, top].copy(), float(power[top])
        if step < _STEPS:
            climb = np.float32(2 * _FACTOR / n) * (x.T @ (even * b - odd * a)) / np.maximum(power, np.float32(1e-9))
            w = w + climb * np.minimum(1, np.float32(_LONGEST_STEP) / np.maximum(np.linalg.norm(climb, axis=0), 1e-9))
    return best, float(np.sqrt(highest))
