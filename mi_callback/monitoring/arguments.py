"""The arguments of all ways to measure, checked before anything is done."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mi_callback.collection import CollectionError, check_loader
from mi_callback.collection.positions import CHOICES, Positions
from mi_callback.monitoring.faults import OnError
from mi_callback.quantities import ASKED

__all__ = ["ArgumentError", "Settings", "data_sets"]

_NAME = r"[A-Za-z0-9_.-]+"
_STATISTICS = ("raw", "null_std", "pvalue", "stderr", "low", "high")  # stand in the same place of a tag


class ArgumentError(ValueError):
    """An argument out of its range."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How to measure, whoever asks for it; ``MutualInformationMonitor`` says what each argument means.

    Attributes:
        caller: what the user has called, for errors.
    """

    caller: str
    layers: Any
    quantities: Sequence[str]
    max_samples: int | None
    k: int
    n_permutations: int
    space: Any
    metric: Any
    unit: Any
    seed: int
    batch_fn: Callable[[Any], Any] | None
    noise_std: float | Sequence[float] | None
    discrete_target: bool | None
    active_dropout: bool
    on_error: OnError
    n_points: Any
    every_n_epochs: int = 1
    budget: float | None = None
    positions: Positions = "flatten"
    name: str | None = None

    def check(self) -> None:
        """Refuse what cannot work; the estimator checks its own arguments.

        Raises:
            ArgumentError: an argument out of its range.
        """
        k = self.k
        if not _are_layers(self.layers):
            expected = (
                "a name of a module or a glob, a list of them, a dict of them to labels, or None; all of them non-empty"
            )
            raise self._refusal("layers", f"{expected} strings")
        asked: Any = self.quantities
        if isinstance(asked, str) or not isinstance(asked, Sequence) or not asked or not set(asked) <= set(ASKED):
            raise self._refusal("quantities", f"a tuple of one or more of {ASKED}")
        if not _is_int(self.every_n_epochs) or self.every_n_epochs < 1:
            raise self._refusal("every_n_epochs", "an int of at least 1")
        if self.max_samples is not None and (not _is_int(self.max_samples) or self.max_samples < k + 2):
            raise self._refusal("max_samples", f"None or an int of at least k + 2 = {k + 2}")
        if self.batch_fn is not None and not callable(self.batch_fn):
            raise self._refusal("batch_fn", "a function of a batch, or None")
        if not (self.discrete_target is None or isinstance(self.discrete_target, bool)):
            raise self._refusal("discrete_target", "True, False, or None to decide by type and values")
        if not isinstance(self.active_dropout, bool):
            raise self._refusal("active_dropout", "True to leave dropout drawing as in training, or False")
        if self.on_error not in ("warn", "raise"):
            raise self._refusal("on_error", "'warn' or 'raise'")
        points = self.n_points
        if not (points is None or points == "auto") and (not _is_int(points) or points < k + 2):
            raise self._refusal(
                "n_points", f"'auto', an int of at least k + 2 = {k + 2} evaluation points, or None for all samples"
            )
        if self.budget is not None and not (_is_number(self.budget) and 0 < self.budget <= 1):
            raise self._refusal(
                "budget",
                "None, or a share of the time above 0 and up to 1, such as 0.1 for one second of measuring in ten",
            )
        if not _are_positions(self.positions):
            raise self._refusal(
                "positions",
                f"one of {CHOICES}, a function from a layer's tensor to one of shape (b, d), or a dict from names of "
                "layers or globs to one of these",
            )
        if self.name is not None and not (isinstance(self.name, str) and re.fullmatch(_NAME, self.name)):
            raise self._refusal("name", "None, or letters, digits, '_', '-' and '.', as loggers take in tags")
        given: Any = self.noise_std
        levels = self.noise_levels()
        known = all(_is_number(s) and 0 < s < math.inf for s in levels)
        if not known or len(set(levels)) < len(levels) or (given is not None and not levels):
            raise self._refusal(
                "noise_std", "a positive number in the units of the activations, a list of different ones, or None"
            )

    def noise_levels(self) -> tuple[float, ...]:
        """Standard deviations of measurement noise as a tuple, empty for no noise."""
        given: Any = self.noise_std
        return () if given is None else tuple(given) if isinstance(given, list | tuple) else (given,)

    def _refusal(self, name: str, expected: str) -> ArgumentError:
        return ArgumentError(f"`{self.caller}({name}={getattr(self, name)!r})` is not valid. Expected {expected}.")


def data_sets(
    data: Any, *, named: Sequence[str] = ("train", "val"), caller: str, argument: str = "data"
) -> dict[str, Any]:
    """What to measure on, by name: one of ``named``, or a loader.

    Args:
        data: a name, several, a loader, or a dict of names to loaders.
        named: the data that need no loader, because the trainer has them.
        caller: what the user has called, for errors.
        argument: what ``data`` is called there.

    Raises:
        ArgumentError: it is none of these, or a name that cannot stand in a tag.
    """
    known = [f"{name!r}, " for name in named] + ([f"several of them as {tuple(named)}, "] if len(named) > 1 else [])
    expected = f"{''.join(known)}a DataLoader, or a dict of names to DataLoaders"
    refused = ArgumentError(f"`{caller}({argument}={data!r:.200})` is not valid. Expected {expected}.")
    if isinstance(data, str) or (isinstance(data, tuple | list) and data and all(isinstance(d, str) for d in data)):
        names = [data] if isinstance(data, str) else list(data)
        if not set(names) <= set(named) or len(set(names)) < len(names):
            raise refused
        return {name: name for name in names}
    sets = dict(data) if isinstance(data, Mapping) else {"data": data}
    if not sets or (isinstance(data, tuple | list) and not data):
        raise refused
    for name, loader in sets.items():
        if not (isinstance(name, str) and re.fullmatch(_NAME, name)) or name in _STATISTICS:
            raise ArgumentError(
                f"`{caller}({argument}=...)`: {name!r} cannot name a data set. Use letters, digits, '_', '-' and '.', "
                f"as loggers take in tags, and none of {_STATISTICS}, which tags have already."
            )
        if isinstance(loader, str):
            if loader not in named:
                raise refused
            continue
        try:
            check_loader(f"{argument}[{name!r}]" if isinstance(data, Mapping) else argument, loader)
        except CollectionError as error:
            raise ArgumentError(f"`{caller}`: {error}") from None
    return sets


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
