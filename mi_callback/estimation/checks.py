"""What arguments must be: one function an invariant, each saying what was expected, what came and what to do."""

from __future__ import annotations

import numbers
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = [
    "check_choice",
    "check_count",
    "check_enough_samples",
    "check_finite",
    "check_same_length",
    "columns_of",
]


def check_choice(name: str, value: object, choices: Sequence[str]) -> None:
    """Raise ValueError unless ``value`` is one of ``choices``."""
    if value not in choices:
        raise ValueError(f"{name}: expected one of {', '.join(map(repr, choices))}, got {value!r}.")


def check_count(name: str, value: object, least: int) -> int:
    """Return a whole number of at least ``least``; raise TypeError or ValueError otherwise."""
    if isinstance(value, bool) or not isinstance(value, numbers.Integral):
        raise TypeError(f"{name}: expected a whole number, got {value!r} of type {type(value).__name__}.")
    if value < least:
        raise ValueError(f"{name}: expected at least {least}, got {value}.")
    return int(value)


def check_enough_samples(n_samples: int, k: int) -> None:
    """Raise ValueError unless k neighbours can be told from the rest of n samples."""
    if n_samples < k + 2:
        raise ValueError(
            f"k: expected at most n_samples - 2 = {n_samples - 2}, got k = {k} for {n_samples} samples. "
            "Lower k or gather more samples."
        )


def check_same_length(name: str, length: int, other: str, other_length: int) -> None:
    """Raise ValueError unless both sides have as many samples."""
    if length != other_length:
        raise ValueError(
            f"{name} and {other}: expected as many samples in both, got {length} and {other_length}. "
            "Row i of one must belong to row i of the other."
        )


def check_finite(name: str, values: NDArray[Any]) -> None:
    """Raise ValueError if a value is NaN or infinite."""
    finite = np.isfinite(values)
    if not finite.all():
        bad = np.flatnonzero(~finite.all(axis=1))
        raise ValueError(
            f"{name}: expected finite numbers, got NaN or infinity in {len(bad)} of {len(values)} samples "
            f"(first in sample {bad[0]}). Remove these samples or mend what produced them."
        )


def columns_of(name: str, values: ArrayLike) -> NDArray[np.generic]:
    """Values as an array of shape (n, d); raise ValueError for other than one or two dimensions, or for no samples."""
    array = np.asarray(values)
    if array.ndim not in (1, 2) or 0 in array.shape:
        raise ValueError(
            f"{name}: expected an array of samples, shape (n,) or (n, d) with n, d >= 1, got shape {array.shape}. "
            "Flatten further dimensions to (n, d)."
        )
    return array[:, None] if array.ndim == 1 else array
