"""What happens when measuring fails: training goes on, and every kind of failure is warned of once."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Literal

from mi_callback.monitoring.telling import warn

__all__ = ["Faults", "OnError"]

OnError = Literal["warn", "raise"]


class Faults:
    """Gathers the failures of one measurement and warns about each kind once in a run.

    Args:
        on_error: "warn" to go on, "raise" to let the first failure end training.
    """

    def __init__(self, on_error: OnError) -> None:
        self._on_error = on_error
        self._pending: dict[tuple[str, str, str], tuple[Exception, list[str]]] = {}
        self._warned: set[tuple[str, str, str]] = set()

    def begin_run(self) -> None:
        """Warn again in a new run of what the one before has warned of."""
        self._pending.clear()
        self._warned.clear()

    def add(self, doing: str, error: Exception, layer: str | None = None) -> None:
        """Take note of a failure.

        Args:
            doing: what failed, to complete "while ...".
            error: what was raised.
            layer: the layer it happened at.

        Raises:
            Exception: ``error``, if that is what ``on_error`` asks for.
        """
        if self._on_error == "raise":
            raise error
        gist = re.sub(r"\d+", "", str(error).replace(layer or "", ""))  # the same trouble at any layer, size and epoch
        _, layers = self._pending.setdefault((doing, type(error).__name__, gist), (error, []))
        if layer is not None and layer not in layers:
            layers.append(layer)

    def add_all(self, failures: Iterable[tuple[str, Exception]]) -> None:
        """Take note of several failures: what failed, and what was raised."""
        for doing, error in failures:
            self.add(doing, error)

    def warn(self, epoch: int) -> None:
        """Warn about the kinds of failure that are new in this epoch."""
        for kind, (error, layers) in self._pending.items():
            if kind not in self._warned:
                self._warned.add(kind)
                shown = ", ".join(layers[:5]) + (f" and {len(layers) - 5} more" if len(layers) > 5 else "")
                where = f"epoch {epoch}" + (f", layer {shown}" if layers else "")
                warn(
                    f"Measuring mutual information failed in part ({where}): {kind[1]} while {kind[0]}: {error} "
                    "Values that are missing are NaN, all else goes on, and failures of this kind are not "
                    "told again. Use on_error='raise' to stop at the first.",
                    category=RuntimeWarning,
                )
        self._pending.clear()
