"""The callback's arguments, checked when it is made."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

from lightning.fabric.utilities.exceptions import MisconfigurationException

from mi_callback.collection.positions import CHOICES
from mi_callback.quantities import ASKED

__all__ = ["check_arguments", "noise_levels"]


def check_arguments(
    *,
    layers: Any,
    quantities: Any,
    every_n_epochs: Any,
    max_samples: Any,
    k: Any,
    batch_fn: Any,
    discrete_target: Any,
    on_error: Any,
    n_points: Any,
    budget: Any,
    name: Any,
    positions: Any,
) -> None:
    """Refuse what cannot work; the estimator checks its own arguments.

    Raises:
        MisconfigurationException: an argument out of its range.
    """
    if not _are_layers(layers):
        expected = (
            "a name of a module or a glob, a list of them, a dict of them to labels, or None; all of them non-empty"
        )
        raise _refusal("layers", layers, f"{expected} strings")
    if isinstance(quantities, str) or not isinstance(quantities, Sequence) or not quantities:
        raise _refusal("quantities", quantities, f"a tuple of one or more of {ASKED}")
    if not set(quantities) <= set(ASKED):
        raise _refusal("quantities", quantities, f"a tuple of one or more of {ASKED}")
    if not _is_int(every_n_epochs) or every_n_epochs < 1:
        raise _refusal("every_n_epochs", every_n_epochs, "an int of at least 1")
    if max_samples is not None and (not _is_int(max_samples) or max_samples < k + 2):
        raise _refusal("max_samples", max_samples, f"None or an int of at least k + 2 = {k + 2}")
    if batch_fn is not None and not callable(batch_fn):
        raise _refusal("batch_fn", batch_fn, "a function of a batch, or None")
    if not (discrete_target is None or isinstance(discrete_target, bool)):
        raise _refusal("discrete_target", discrete_target, "True, False, or None to decide by type and values")
    if on_error not in ("warn", "raise"):
        raise _refusal("on_error", on_error, "'warn' or 'raise'")
    if not (n_points is None or n_points == "auto") and (not _is_int(n_points) or n_points < k + 2):
        raise _refusal(
            "n_points",
            n_points,
            f"'auto', an int of at least k + 2 = {k + 2} evaluation points, or None for all samples",
        )
    if budget is not None and not (_is_number(budget) and 0 < budget <= 1):
        raise _refusal(
            "budget",
            budget,
            "None, or a share of the time above 0 and up to 1, such as 0.1 for one second of measuring in ten",
        )
    if not _are_positions(positions):
        raise _refusal(
            "positions",
            positions,
            f"one of {CHOICES}, a function from a layer's tensor to one of shape (b, d), or a dict from names of "
            "layers or globs to one of these",
        )
    if name is not None and not (isinstance(name, str) and re.fullmatch(r"[A-Za-z0-9_.-]+", name)):
        raise _refusal("name", name, "None, or letters, digits, '_', '-' and '.', as loggers take in tags")


def noise_levels(noise_std: Any) -> tuple[float, ...]:
    """Standard deviations of measurement noise as a tuple, empty for no noise.

    Raises:
        MisconfigurationException: they are not positive numbers, each different.
    """
    levels = () if noise_std is None else tuple(noise_std) if isinstance(noise_std, list | tuple) else (noise_std,)
    known = all(_is_number(s) and 0 < s < math.inf for s in levels)
    if not known or len(set(levels)) < len(levels) or (noise_std is not None and not levels):
        raise _refusal(
            "noise_std",
            noise_std,
            "a positive number in the units of the activations, a list of different ones, or None",
        )
    return tuple(float(s) for s in levels)


def _are_layers(value: Any) -> bool:
    if value is None:
        return True
    if isinstance(value, str):
        return bool(value)
    if isinstance(value, Mapping):
        return all(isinstance(part, str) and part for part in (*value, *value.values()))
    return isinstance(value, list | tuple) and all(isinstance(part, str) and part for part in value)


def _are_positions(value: Any) -> bool:
    if isinstance(value, Mapping):
        named = all(isinstance(name, str) and name for name in value)
        return (
            bool(value)
            and named
            and not any(isinstance(one, Mapping) or not _are_positions(one) for one in value.values())
        )
    return callable(value) or (isinstance(value, str) and value in CHOICES)


def _is_int(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _refusal(name: str, value: Any, expected: str) -> MisconfigurationException:
    return MisconfigurationException(f"`MutualInformationMonitor({name}={value!r})` is not valid. Expected {expected}.")
