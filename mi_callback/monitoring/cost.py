"""What measuring costs: seconds by part, and advice when they become a large share of training."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator

from mi_callback.monitoring.telling import warn

__all__ = ["Cost"]

_SHARE = 0.5  # of the time, above which advice is given; by hand: training then takes twice as long
_LEAST = 20.0  # seconds: a measurement that takes less is not worth advice; by hand


class Cost:
    """Measures the parts of a measurement and the training between two of them.

    Attributes:
        seconds: seconds by part, of the last measurement.
    """

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._resumed: float | None = None
        self._n_measured = 0
        self._advised = False

    @contextlib.contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Add the time of a block to that of a part."""
        began = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - began

    def start(self) -> float:
        """Begin a measurement.

        Returns:
            Seconds of training since the last one, or since training began.
        """
        self.seconds = {}
        return time.perf_counter() - self._resumed if self._resumed is not None else 0.0

    def resume_training(self) -> None:
        """Training goes on from here."""
        self._resumed = time.perf_counter()

    def advise(self, training: float, n_samples: int, n_layers: int) -> None:
        """Warn once if measuring takes a large share. The first measurement, which also sets things up, is let pass.

        Args:
            training: seconds of training before this measurement.
            n_samples: number of samples measured.
            n_layers: number of layers measured.
        """
        measuring = sum(self.seconds.values())
        self._n_measured += 1
        share = measuring / (measuring + training) if measuring > 0 else 0.0
        if self._advised or self._n_measured == 1 or measuring < _LEAST or share < _SHARE:
            return
        self._advised = True
        parts = ", ".join(f"{name} {value:.1f} s" for name, value in self.seconds.items())
        warn(
            f"Measuring mutual information takes {share:.0%} of the time ({parts}; {training:.1f} s of training since "
            f"the last measurement). To spend less, set max_samples below the {n_samples} samples measured, take "
            f"fewer evaluation points with budget or n_points, measure less often with every_n_epochs, or name fewer "
            f"than these {n_layers} layers.",
            category=RuntimeWarning,
        )
