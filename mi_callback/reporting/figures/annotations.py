"""What is drawn around the estimates: ceilings, the null band, and which points are in doubt."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.lines import Line2D
from matplotlib.patheffects import withStroke
from numpy.typing import NDArray

from mi_callback.reporting.figures.style import GREY, INK, SOFT, TEXT
from mi_callback.reporting.labels import fold, symbol
from mi_callback.reporting.series import Ceiling, Estimates, Series, drawable_ceilings

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes

__all__ = ["HALO", "draw_ceilings", "draw_null_band", "flagged_handle", "in_doubt"]

HALO = [withStroke(linewidth=2.5, foreground="white")]  # keeps text readable on top of lines and in grey print

_TITLE = 32  # characters, 2 inches at 9 points: what names of 24 characters in a bar leave to the axes


def in_doubt(history: Estimates, series: Series, *, data: str | None = None) -> NDArray[np.bool_]:
    """Which points are flagged, or above a ceiling of their data set, the first by default; shape (E,)."""
    marked: NDArray[np.bool_] = series.flagged.copy()
    for ceiling in history.ceilings_of(series.quantity, data=data).values():
        marked |= ceiling.is_below(series.mi, series.stderr)
    return marked


def flagged_handle() -> Line2D:
    """What stands for points in doubt, which are hollow, in a legend."""
    return Line2D(
        [],
        [],
        linestyle="none",
        marker="o",
        markersize=6,
        color=GREY,
        markerfacecolor="none",
        markeredgewidth=1.2,
        label="flagged",
    )


def draw_ceilings(ax: Axes, history: Estimates, axes: Mapping[str, tuple[str, Iterable[float]]]) -> list[Artist]:
    """Draw ceilings as labelled lines; if all that bound a quantity are far above it, they are named above the axes.

    Args:
        ax: axes to draw on.
        history: the history whose ceilings they are.
        axes: "x" and "y" to the quantity along that axis and the values drawn there, which decide what is far.

    Returns:
        The lines, bands and texts drawn.
    """
    drawn: list[Artist] = []
    far: dict[str, float] = {}
    for axis, (quantity, values) in axes.items():
        bounding = history.ceilings_of(quantity)
        near = drawable_ceilings(bounding, values)
        # neighbouring ceilings are labelled at opposite ends, so that close ones stay readable
        for i, name in enumerate(sorted(near, key=lambda n: -near[n].value)):
            drawn += _ceiling(ax, symbol(name), near[name], vertical=axis == "x", at_end=i % 2 == (axis == "x"))
        if not near:
            far |= {n: c.value for n, c in bounding.items()}
    if far:
        named = [f"{symbol(name)} = {value:.3g}, " for name, value in far.items()]
        text = fold(["off the axis: ", *named], _TITLE).rstrip(",")
        drawn.append(ax.set_title(text, loc="right", fontsize=TEXT["note"], color=GREY, pad=3, linespacing=1.1))
    return drawn


def _ceiling(ax: Axes, label: str, ceiling: Ceiling, *, vertical: bool, at_end: bool) -> list[Artist]:
    line, band = (ax.axvline, ax.axvspan) if vertical else (ax.axhline, ax.axhspan)
    drawn: list[Artist] = [
        line(ceiling.value, color=INK, linewidth=1.0, linestyle=(0, (5, 3)), zorder=1.5, label="_ceiling")
    ]
    if math.isfinite(ceiling.stderr):
        low, high = ceiling.value - ceiling.stderr, ceiling.value + ceiling.stderr
        drawn.append(band(low, high, color=SOFT, alpha=0.35, linewidth=0, zorder=0.5))
    end = 0.98 if at_end else 0.02
    text = f"{label} = {ceiling.value:.3g}"
    if vertical:
        written = ax.annotate(
            text,
            (ceiling.value, end),
            xycoords=ax.get_xaxis_transform(),
            xytext=(-2, 0),
            textcoords="offset points",
            rotation=90,
            ha="right",
            va="top" if at_end else "bottom",
            fontsize=TEXT["note"],
            color=INK,
            zorder=3.5,  # the halo keeps it readable where curves pass
            path_effects=HALO,
        )
    else:
        written = ax.annotate(
            text,
            (end, ceiling.value),
            xycoords=ax.get_yaxis_transform(),
            xytext=(0, 2),
            textcoords="offset points",
            ha="right" if at_end else "left",
            va="bottom",
            fontsize=TEXT["note"],
            color=INK,
            zorder=3.5,  # the halo keeps it readable where curves pass
            path_effects=HALO,
        )
    return [*drawn, written]


def draw_null_band(ax: Axes, series: Sequence[Series]) -> list[Artist]:
    """Draw two standard deviations of the permutation null around zero, of the layer in which it is widest."""
    epochs = np.unique(np.concatenate([one.epochs for one in series]))
    widest = np.full(len(epochs), np.nan)
    for one in series:
        at = np.searchsorted(epochs, one.epochs)
        widest[at] = np.fmax(widest[at], one.null_std)
    known = np.isfinite(widest)
    if not known.any():
        return []
    epochs, half = epochs[known].astype(float), 2 * widest[known]
    if len(epochs) == 1:  # a band needs two ends
        epochs, half = epochs + np.array([-0.5, 0.5]), half.repeat(2)
    return [
        ax.fill_between(epochs, -half, half, color=SOFT, alpha=0.7, linewidth=0, label="null ±2 sd"),
        ax.axhline(0.0, color=GREY, linewidth=0.8, label="_zero"),
    ]
