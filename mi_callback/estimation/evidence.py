"""What is kept beside the main curve of I(X;T), so that a verdict on compression rests on more than one estimator."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from mi_callback.estimation.trend import Curve, Verdict, compression_verdict

__all__ = ["Evidence", "Witness"]


@dataclass(frozen=True, slots=True)
class Witness:
    """One measurement of I(X;T) of a layer at one epoch, by one way of measuring.

    Attributes:
        name: the way of measuring, such as "ksg, half the samples".
        value: the estimate.
        stderr: its standard error; NaN if unknown.
        is_exact: whether it is counted rather than estimated.
    """

    name: str
    value: float
    stderr: float
    is_exact: bool = False


class Evidence:
    """Witnesses of a run by layer and name, over the epochs; plain values that a checkpoint can hold."""

    def __init__(self) -> None:
        self._seen: dict[str, dict[str, dict[int, tuple[float, float, bool]]]] = {}

    def add(self, epoch: int, layer: str, witnesses: tuple[Witness, ...]) -> None:
        """Add what was measured of a layer at an epoch; what is measured again replaces the earlier value."""
        of_layer = self._seen.setdefault(layer, {})
        for w in witnesses:
            of_layer.setdefault(w.name, {})[int(epoch)] = (float(w.value), float(w.stderr), bool(w.is_exact))

    def curves(self, layer: str) -> dict[str, Curve]:
        """The curves of a layer by name, in the order of epochs."""
        curves = {}
        for name, seen in self._seen.get(layer, {}).items():
            rows = [seen[epoch] for epoch in sorted(seen)]
            curves[name] = Curve(np.array([r[0] for r in rows]), np.array([r[1] for r in rows]), rows[-1][2])
        return curves

    def verdicts(self) -> dict[str, Verdict]:
        """Does I(X;T) fall: a verdict for each layer."""
        return {layer: compression_verdict(self.curves(layer)) for layer in self._seen}

    def state_dict(self) -> dict[str, Any]:
        """Everything as dicts and lists of plain values."""
        return {
            layer: {name: [[epoch, *row] for epoch, row in seen.items()] for name, seen in of_layer.items()}
            for layer, of_layer in self._seen.items()
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Replace the content by that of a ``state_dict``."""
        self._seen = {
            layer: {
                name: {
                    int(epoch): (value, math.nan if stderr is None else stderr, is_exact)
                    for epoch, value, stderr, is_exact in rows
                }
                for name, rows in of_layer.items()
            }
            for layer, of_layer in state.items()
        }
