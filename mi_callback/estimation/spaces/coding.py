"""A target as learners of its conditional distribution see it: functions of it, and slices to tell apart."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mi_callback.estimation.spaces.whitening import Array

__all__ = ["CodedTarget", "code_coordinates", "code_labels", "polynomials"]

_SLICES = 16  # of a single target; several share the samples' information, and need fewer each
_SLICES_OF_SEVERAL = 8
_LEAST_MEMBERS = 25  # samples a slice


@dataclass(frozen=True, slots=True, eq=False)
class CodedTarget:
    """A target of n samples.

    Attributes:
        functions: shape (n, m), centred functions of the target of about unit variance.
        indicators: shape (n, c): for each group of columns a one in the slice, or class, that a sample falls in.
        groups: number of columns of each group: one group for labels, one a coordinate otherwise.
        ordered: whether the slices of a group are in order.
    """

    functions: Array
    indicators: Array
    groups: tuple[int, ...]
    ordered: bool


def code_labels(codes: NDArray[np.integer], n_classes: int) -> CodedTarget:
    """Code class numbers of shape (n,): indicators, divided by the root of the frequency for functions."""
    indicators = np.zeros((len(codes), n_classes), np.float32)
    indicators[np.arange(len(codes)), codes] = 1
    share = indicators.mean(axis=0)
    functions = (indicators - share) / np.sqrt(np.maximum(share, 1 / len(codes)))
    return CodedTarget(functions.astype(np.float32), indicators, (n_classes,), ordered=False)


def code_coordinates(coordinates: Array) -> CodedTarget:
    """Code continuous coordinates of shape (n, q): slices of equal numbers, Hermite polynomials for functions."""
    n, q = coordinates.shape
    slices = min(_SLICES if q == 1 else _SLICES_OF_SEVERAL, max(2, n // _LEAST_MEMBERS))
    ranks = np.argsort(np.argsort(coordinates, axis=0, kind="stable"), axis=0, kind="stable")
    indicators = np.zeros((n, q, slices), np.float32)
    np.put_along_axis(indicators, (ranks * slices // n)[:, :, None], 1, axis=2)
    return CodedTarget(polynomials(coordinates), indicators.reshape(n, q * slices), (slices,) * q, ordered=True)


def polynomials(coordinates: Array) -> Array:
    """First three Hermite polynomials of each coordinate, shape (n, 3 q), centred and of unit variance."""
    spread = coordinates.std(axis=0)
    z = (coordinates - coordinates.mean(axis=0)) / np.where(spread > 0, spread, 1)
    values = np.concatenate([z, z**2 - 1, z**3 - 3 * z], axis=1)
    values -= values.mean(axis=0)
    spread = values.std(axis=0)
    return (values / np.where(spread > 0, spread, 1)).astype(np.float32)
