"""How many evaluation points keep measuring within a share of the time, from what the last measurement cost."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mi_callback.monitoring.telling import warn

__all__ = ["FEWEST_POINTS", "Budget"]

FEWEST_POINTS = 500
"""Points at the least: their error bar is two to four times that of what "auto" takes."""

# Few sizes, those of "auto" among them: the tables of X and Y are kept for each, and need not be made again.
_STEPS = (FEWEST_POINTS, 700, 1_000, 1_400, 2_000, 3_000, 4_500, 6_700, 10_000, 15_000, 22_000, 33_000, 50_000, 75_000)
_APART = 1.5  # ratio of two measurements' points from which their times tell the part that does not depend on points


@dataclass(frozen=True, slots=True)
class _Measured:
    """What a measurement took.

    Attributes:
        points: evaluation points of each of its estimates by neighbours.
        most: the most that any of them was allowed; None for as many as it wanted.
        estimating: seconds for estimating.
        others: seconds for all else, whatever the points.
    """

    points: tuple[int, ...]
    most: int | None
    estimating: float
    others: float

    def with_most(self, most: int) -> int:
        """Points of all estimates together if each may take ``most``: those that were cut off take all of them."""
        return sum(most if points == self.most else min(points, most) for points in self.points)


class Budget:
    """Chooses the number of evaluation points so that measuring takes a share of the time between two measurements.

    Estimating is taken to cost a fixed part and one that grows with the points; the fixed part is read off two
    measurements with different numbers. The first measurement of a run also compiles and makes the tables of X and Y,
    and there is nothing to go by: it takes as many points as it wants, and counts only towards the second.

    Args:
        share: largest share of the time between two measurements, above 0 and up to 1; None for no limit.
        k: number of neighbours.
    """

    def __init__(self, share: float | None, k: int) -> None:
        self.share = share
        self._fewest = max(FEWEST_POINTS, k + 2)
        self._warned = False
        self.begin_run()

    def begin_run(self) -> None:
        """Forget what measuring has cost: another model or other data may come."""
        self._last: _Measured | None = None
        self._n_measured = 0
        self._fixed = 0.0  # seconds of estimating that do not depend on points

    def most_points(self, training: float) -> int | None:
        """The most points that the next measurement may take; None for as many as it wants.

        Args:
            training: seconds of training since the last measurement.
        """
        last = self._last
        if self.share is None or last is None or not last.points:
            return None
        room = self._allowed(training) - last.others - self._fixed
        a_point = (last.estimating - self._fixed) / sum(last.points)
        steps = [step for step in _STEPS if step >= self._fewest]
        step = bisect_right(steps, room, key=lambda most: a_point * last.with_most(most))
        if step == len(steps):
            return None
        most = steps[max(step - 1, 0)]
        wanted_all = last.most is None and most >= max(last.points)
        return None if wanted_all else most

    def spent(
        self,
        seconds: Mapping[str, float],
        training: float,
        points: Sequence[int],
        every_n_epochs: int,
        most: int | None,
    ) -> None:
        """Take note of what a measurement cost, and say once if fewer points cannot make it cheap enough.

        Args:
            seconds: seconds by part; "estimate" is the one that depends on points.
            training: seconds of training before it.
            points: evaluation points of each of its estimates by neighbours.
            every_n_epochs: epochs from one measurement to the next.
            most: the most points that it was allowed.
        """
        if self.share is None:
            return
        estimating = seconds.get("estimate", 0.0)
        now = _Measured(tuple(points), most, estimating, sum(seconds.values()) - estimating)
        self._n_measured += 1
        if self._n_measured > 2 and self._last is not None:  # the first is like no other
            self._learn_fixed_part(self._last, now)
        self._fixed = min(self._fixed, estimating)
        self._last = now
        if self._n_measured > 1:
            self._tell(now, training, every_n_epochs)

    def _learn_fixed_part(self, before: _Measured, now: _Measured) -> None:
        fewer, more = sorted((before, now), key=lambda one: sum(one.points))
        if fewer.points and sum(more.points) >= _APART * sum(fewer.points):
            a_point = (more.estimating - fewer.estimating) / (sum(more.points) - sum(fewer.points))
            self._fixed = max(0.0, now.estimating - max(0.0, a_point) * sum(now.points))

    def _tell(self, now: _Measured, training: float, every_n_epochs: int) -> None:
        """Say once that the budget cannot be kept by fewer points, and what would do."""
        assert self.share is not None
        cannot_be_less = not now.points or max(now.points) <= self._fewest
        least = now.others + (now.estimating if cannot_be_less else self._fixed)
        if self._warned or least <= self._allowed(training):
            return
        self._warned = True
        an_epoch = training / every_n_epochs
        enough = math.ceil(least / max(self._allowed(an_epoch), 1e-9))
        warn(
            f"Measuring mutual information takes {least:.2g} s however few its evaluation points are, the pass over "
            f"the training set {now.others:.2g} s of it: more than budget={self.share:g} of the time, with "
            f"{training:.2g} s of training between two measurements. It goes on with {self._fewest} points. "
            f"every_n_epochs={enough} would keep to the budget, and so might fewer layers or max_samples.",
            category=RuntimeWarning,
        )

    def _allowed(self, training: float) -> float:
        """Seconds of measuring that are the share of training and measuring together."""
        assert self.share is not None
        return math.inf if self.share == 1 else training * self.share / (1 - self.share)
