"""What every figure shares: a new figure without pyplot, axes in one style, ceilings, null band and hollow points."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from numpy.typing import NDArray

from mi_callback.reporting.history import Ceiling, Series
from mi_callback.reporting.palette import GREY, INK, TEXT, symbol

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes

__all__ = ["beyond", "draw_ceilings", "draw_null_band", "hollow", "new_figure", "note", "style"]

_HALO = [withStroke(linewidth=2.5, foreground="white")]  # keeps text readable on top of lines and in grey print


def new_figure(width: float, height: float) -> Figure:
    """A figure of ``width`` x ``height`` inches that pyplot knows nothing of, at a resolution fit for print."""
    figure = Figure(figsize=(width, height), dpi=160, layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    return figure


def style(ax: Axes, *, xlabel: str = "", ylabel: str = "") -> None:
    """Label the axes and give them the common look."""
    ax.set_xlabel(xlabel, fontsize=TEXT["axis"], color=INK)
    ax.set_ylabel(ylabel, fontsize=TEXT["axis"], color=INK)
    ax.tick_params(labelsize=TEXT["tick"], colors=INK)
    ax.spines[["top", "right"]].set_visible(False)
    ax.grid(visible=True, color="#e6e6e6", linewidth=0.6)
    ax.set_axisbelow(True)


def note(ax: Axes, message: str) -> Artist:
    """Say in the middle of empty axes why nothing is drawn."""
    return ax.text(
        0.5, 0.5, message, transform=ax.transAxes, ha="center", va="center", fontsize=TEXT["note"], color=GREY,
        wrap=True,
    )


def beyond(series: Series, ceilings: Mapping[str, Ceiling]) -> NDArray[np.bool_]:
    """Where a series stands above a ceiling that bounds it by more than two standard errors; shape (E,)."""
    above = np.zeros(len(series.epochs), dtype=bool)
    stderr = np.nan_to_num(series.stderr)
    for ceiling in ceilings.values():
        if ceiling.bounds(series.quantity) and math.isfinite(ceiling.value):
            own = 0.0 if math.isnan(ceiling.stderr) else ceiling.stderr
            above |= series.mi > ceiling.value + 2 * np.hypot(stderr, own)
    return above


def hollow(series: Series, ceilings: Mapping[str, Ceiling]) -> NDArray[np.bool_]:
    """Which points to draw hollow: those flagged, and those beyond a ceiling; shape (E,)."""
    return series.flagged | beyond(series, ceilings)


def draw_ceilings(
    ax: Axes, ceilings: Mapping[str, Ceiling], quantity: str, values: Iterable[float], *, vertical: bool = False
) -> list[Artist]:
    """Draw the ceilings of ``quantity`` as labelled lines, and those far above the values as a note of their value.

    Args:
        ax: axes to draw on.
        ceilings: ceilings by name.
        quantity: quantity shown on the axis that the lines cross.
        values: what is drawn along that axis, which decides what is far.
        vertical: whether the quantity runs along the x axis.

    Returns:
        The lines, bands and texts drawn.
    """
    finite = [v for v in values if math.isfinite(v)]
    top = max(finite, default=0.0)
    reach = top + 0.5 * max(top, 0.5)
    drawn: list[Artist] = []
    far: list[str] = []
    shown = {n: c for n, c in ceilings.items() if c.bounds(quantity) and math.isfinite(c.value)}
    for i, (name, ceiling) in enumerate(sorted(shown.items(), key=lambda item: item[1].value)):
        if ceiling.value > reach:
            far.append(f"{symbol(name)} = {ceiling.value:.3g}")
            continue
        drawn += _ceiling(ax, symbol(name), ceiling, vertical=vertical, at_end=i % 2 == 0)
    if far:
        x, y, ha, va = (0.99, 0.01, "right", "bottom") if vertical else (0.01, 0.99, "left", "top")
        drawn.append(
            ax.text(
                x, y, "off scale: " + ", ".join(far), transform=ax.transAxes, ha=ha, va=va, fontsize=TEXT["note"] - 1,
                color=GREY, path_effects=_HALO,
            )
        )
    return drawn


def _ceiling(ax: Axes, label: str, ceiling: Ceiling, *, vertical: bool, at_end: bool) -> list[Artist]:
    line = ax.axvline if vertical else ax.axhline
    band = ax.axvspan if vertical else ax.axhspan
    drawn: list[Artist] = [line(ceiling.value, color=INK, linewidth=1.0, linestyle=(0, (5, 3)), label="_ceiling")]
    if math.isfinite(ceiling.stderr):
        low, high = ceiling.value - ceiling.stderr, ceiling.value + ceiling.stderr
        drawn.append(band(low, high, color=INK, alpha=0.10, linewidth=0))
    # neighbouring ceilings are labelled at opposite ends, so that close ones stay readable
    if vertical:
        place = {"xy": (ceiling.value, 0.98 if at_end else 0.02), "xytext": (-2, 0), "rotation": 90.0}
        align = {"ha": "right", "va": "top" if at_end else "bottom"}
        axis = ax.get_xaxis_transform()
    else:
        place = {"xy": (0.99 if at_end else 0.01, ceiling.value), "xytext": (0, 2)}
        align = {"ha": "right" if at_end else "left", "va": "bottom"}
        axis = ax.get_yaxis_transform()
    text = ax.annotate(
        f"{label} = {ceiling.value:.3g}", xycoords=axis, textcoords="offset points", fontsize=TEXT["note"], color=INK,
        path_effects=_HALO, **place, **align,
    )
    return [*drawn, text]


def draw_null_band(ax: Axes, series: Sequence[Series]) -> list[Artist]:
    """Draw two standard deviations of the permutation null around zero, of the layer in which it is widest."""
    widest: dict[int, float] = {}
    for one in series:
        for epoch, std in zip(one.epochs.tolist(), one.null_std.tolist(), strict=True):
            if math.isfinite(std):
                widest[epoch] = max(std, widest.get(epoch, 0.0))
    if not widest:
        return []
    epochs = np.array(sorted(widest))
    half = 2 * np.array([widest[epoch] for epoch in epochs.tolist()])
    if len(epochs) == 1:  # a band needs two ends
        epochs, half = epochs + np.array([-0.5, 0.5]), half.repeat(2)
    return [
        ax.fill_between(epochs, -half, half, color=GREY, alpha=0.35, linewidth=0, label=r"null $\pm$ 2 sd"),
        ax.axhline(0.0, color=GREY, linewidth=0.8),
    ]
