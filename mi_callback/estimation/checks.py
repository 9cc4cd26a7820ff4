"""What arguments must be: one function an invariant, each saying what was expected, what came and what to do."""

from __future__ import annotations

import numbers
import sys
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = [
    "check_choice",
    "check_count",
    "check_enough_samples",
    "check_finite",
    "check_points",
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


def check_points(n_points: object, k: int) -> int | Literal["auto"] | None:
    """Return a number of evaluation points, "auto" or None; raise TypeError or ValueError otherwise."""
    if n_points is None:
        return None
    if isinstance(n_points, str):
        if n_points != "auto":
            raise ValueError(f"n_points: expected 'auto', a whole number or None, got {n_points!r}.")
        return "auto"
    number = check_count("n_points", n_points, 1)
    if number < k + 2:
        raise ValueError(
            f"n_points: expected at least k + 2 = {k + 2} evaluation points, got {number}. Use 'auto', None for all "
            "samples, or some hundreds: the error bar grows like 1 / sqrt(n_points)."
        )
    return number


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
    """Values as an array of shape (n, d) of real numbers, bools or strings.

    Tensors are detached and brought to the CPU, half precisions that numpy lacks become float32, times become seconds
    after the first of them, objects that are all numbers or all strings become these.

    Args:
        name: what errors call the argument.
        values: shape (n,) or (n, d), anything that numpy makes an array of.

    Raises:
        ValueError: other than one or two dimensions, no samples, or missing values.
        TypeError: values that are neither real numbers nor labels.
    """
    array = _dense(name, values)
    if array.ndim not in (1, 2) or 0 in array.shape:
        raise ValueError(
            f"{name}: expected an array of samples, shape (n,) or (n, d) with n, d >= 1, got shape {array.shape} "
            f"from {type(values).__name__}. Flatten further dimensions to (n, d)."
        )
    return _real(name, array[:, None] if array.ndim == 1 else array)


def _dense(name: str, values: Any) -> NDArray[Any]:
    """An array of what may be a tensor, a data frame or a nest of lists."""
    if isinstance(values, np.ma.MaskedArray) and np.ma.is_masked(values):
        missing = int(np.ma.getmaskarray(values).reshape(len(values), -1).any(axis=1).sum())
        raise ValueError(
            f"{name}: expected a value for every sample, got {missing} of {len(values)} samples masked. "
            "Remove these samples from both sides."
        )
    torch = sys.modules.get("torch")  # not imported for this: who gives a tensor has imported it
    if torch is not None and isinstance(values, torch.Tensor):
        if values.layout is not torch.strided or values.is_nested:
            raise TypeError(f"{name}: expected a dense tensor, got {values.layout}. Use {name}.to_dense().")
        values = values.detach().cpu()
        values = values.float() if values.dtype is torch.bfloat16 else values
    elif hasattr(values, "toarray") and hasattr(values, "nnz"):
        raise TypeError(f"{name}: expected a dense array, got {type(values).__name__}. Use {name}.toarray().")
    try:
        array = np.asarray(values)
        if array.dtype.kind in "US" and isinstance(values, list | tuple):  # numpy writes a NaN among strings as "nan"
            return np.asarray(values, dtype=object)
        return array
    except Exception as error:
        raise TypeError(
            f"{name}: expected an array of numbers or labels, shape (n,) or (n, d), got {type(values).__name__} that "
            f"makes none ({str(error).splitlines()[0]:.120}). Give every sample the same number of values, as an array."
        ) from error


def _real(name: str, array: NDArray[Any]) -> NDArray[Any]:
    """Columns as real numbers, bools or strings, whatever type holds them."""
    if array.dtype.kind == "V" and array.dtype.name.startswith(("bfloat", "float")):  # as other frameworks add them
        return array.astype(np.float32)
    if array.dtype.kind in "mM":
        missing = np.isnat(array)
        _refuse_missing(name, missing, "NaT")
        return np.asarray((array - array.min()) / np.timedelta64(1, "s"), dtype=np.float64)
    if array.dtype.kind == "O":
        return _from_objects(name, array)
    if array.dtype.kind == "c":
        raise TypeError(
            f"{name}: expected real numbers, got {array.dtype}. Give real and imaginary parts as columns: "
            f"np.column_stack([{name}.real, {name}.imag])."
        )
    if array.dtype.kind not in "biufUST":
        raise TypeError(
            f"{name}: expected real numbers, bools or strings, got {array.dtype}. Convert it to one of these."
        )
    return array.astype(np.str_) if array.dtype.kind == "T" else array


def _from_objects(name: str, array: NDArray[Any]) -> NDArray[Any]:
    """Objects that are all strings or all numbers as an array of these."""
    missing = np.array([_is_missing(value) for value in array.flat], dtype=bool).reshape(array.shape)
    _refuse_missing(name, missing, repr(array[missing][0]) if missing.any() else "")
    types = {type(value) for value in array.flat}
    if all(issubclass(kind, str) for kind in types):
        return array.astype(np.str_)
    if all(issubclass(kind, bool | np.bool_) for kind in types):
        return array.astype(np.bool_)
    if all(issubclass(kind, numbers.Integral | np.bool_) for kind in types):
        return array.astype(np.int64)
    if all(issubclass(kind, numbers.Real | np.bool_) or kind.__name__ == "Decimal" for kind in types):
        return array.astype(np.float64)
    shown = ", ".join(sorted(kind.__name__ for kind in types)[:4])
    raise TypeError(
        f"{name}: expected numbers or strings, got objects of type {shown}. Convert them to numbers, or to labels by "
        f"[str(v) for v in {name}]."
    )


def _is_missing(value: Any) -> bool:
    """None, NaN, and what pandas writes for them."""
    if value is None or type(value).__name__ in ("NAType", "NaTType"):
        return True
    return isinstance(value, float | np.floating) and bool(np.isnan(value))


def _refuse_missing(name: str, missing: NDArray[np.bool_], what: str) -> None:
    if missing.any():
        bad = np.flatnonzero(missing.any(axis=1))
        raise ValueError(
            f"{name}: expected a value for every sample, got {what} in {len(bad)} of {len(missing)} samples (first in "
            f"sample {bad[0]}). Remove these samples from both sides, or give missing labels a name of their own."
        )
