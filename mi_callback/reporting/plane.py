"""The information plane: I(X;T) against I(T;Y), one trajectory a layer, epochs by colour."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, overload

import numpy as np
from matplotlib.collections import LineCollection
from matplotlib.colors import Normalize
from matplotlib.lines import Line2D
from numpy.typing import NDArray

from mi_callback.reporting.canvas import draw_ceilings, hollow, new_figure, note, style
from mi_callback.reporting.history import History, Series
from mi_callback.reporting.palette import EPOCH_COLORS, INK, MARKERS, TEXT, quantity_label

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["information_plane"]

_MOST_MARKERS = 40  # a trajectory of more epochs is a line through all of them, with markers on an even selection
_MOST_LABELS = 8


@dataclass(frozen=True, slots=True)
class _Trajectory:
    layer: str
    epochs: NDArray[np.int64]  # (E,), those at which both coordinates are numbers
    x: NDArray[np.float64]
    y: NDArray[np.float64]
    x_err: NDArray[np.float64]
    y_err: NDArray[np.float64]
    hollow: NDArray[np.bool_]


@overload
def information_plane(history: History, *, error_bars: bool = ..., ax: None = ...) -> Figure: ...


@overload
def information_plane(history: History, *, error_bars: bool = ..., ax: Axes) -> list[Artist]: ...


def information_plane(history: History, *, error_bars: bool = False, ax: Axes | None = None) -> Figure | list[Artist]:
    """Draw the information plane, in the unit of the history.

    A layer is told by its marker, an epoch by its colour. Points that carry a flag, or stand above a limit by more than
    two standard errors, are hollow. With more than 40 epochs the line passes through every epoch, and an even selection
    of them has markers. An epoch at which either value is NaN is left out.

    Args:
        history: estimates of the quantities "input" and "target".
        error_bars: whether to draw one standard error around each point.
        ax: axes to draw on; None makes a figure.

    Returns:
        The new figure, or the artists drawn on ``ax``.
    """
    figure = None
    if ax is None:
        figure = new_figure(5.6, 4.4)
        ax = figure.add_subplot()
    drawn = _draw(ax, history, error_bars=error_bars)
    return drawn if figure is None else figure


def _draw(ax: Axes, history: History, *, error_bars: bool) -> list[Artist]:
    style(ax, xlabel=quantity_label("input", history.unit), ylabel=quantity_label("target", history.unit))
    trajectories = _trajectories(history)
    if not trajectories:
        return [note(ax, "The information plane needs the quantities\n\"input\" and \"target\" of one layer.")]
    epochs = np.concatenate([t.epochs for t in trajectories])
    norm = Normalize(epochs.min(), max(epochs.max(), epochs.min() + 1))
    markers = {t.layer: MARKERS[i % len(MARKERS)] for i, t in enumerate(trajectories)}
    drawn: list[Artist] = []
    for axis, quantity in (("y", "target"), ("x", "input")):
        values = np.concatenate([getattr(t, axis) for t in trajectories])
        drawn += draw_ceilings(ax, history.ceilings, quantity, values.tolist(), vertical=axis == "x")
    for t in trajectories:
        drawn += _trajectory(ax, t, markers[t.layer], norm, error_bars=error_bars)
    drawn += _names(ax, trajectories, markers)
    if ax.figure is not None:
        points = next(a for a in drawn if a.get_label() == "_points")
        bar = ax.figure.colorbar(points, ax=ax, pad=0.02, fraction=0.05)
        bar.set_label("epoch", fontsize=TEXT["axis"], color=INK)
        bar.ax.tick_params(labelsize=TEXT["tick"], colors=INK)
        bar.outline.set_visible(False)
    ax.margins(0.06)
    return drawn


def _trajectories(history: History) -> list[_Trajectory]:
    inputs, targets = history.series("input"), history.series("target")
    both = [layer for layer in history.layers if layer in inputs and layer in targets]
    found = [_pair(inputs[layer], targets[layer], history) for layer in both]
    return [t for t in found if len(t.epochs)]


def _pair(x: Series, y: Series, history: History) -> _Trajectory:
    epochs, i, j = np.intersect1d(x.epochs, y.epochs, assume_unique=True, return_indices=True)
    known = np.isfinite(x.mi[i]) & np.isfinite(y.mi[j])
    epochs, i, j = epochs[known], i[known], j[known]
    marked = hollow(x, history.ceilings)[i] | hollow(y, history.ceilings)[j]
    return _Trajectory(x.layer, epochs, x.mi[i], y.mi[j], x.stderr[i], y.stderr[j], marked)


def _trajectory(ax: Axes, t: _Trajectory, marker: str, norm: Normalize, *, error_bars: bool) -> list[Artist]:
    drawn: list[Artist] = []
    if len(t.epochs) > 1:
        points = np.column_stack([t.x, t.y])
        lines = LineCollection(
            list(np.stack([points[:-1], points[1:]], axis=1)), cmap=EPOCH_COLORS, norm=norm, linewidths=0.9,
            alpha=0.6, zorder=2,
        )
        lines.set_array(t.epochs[1:])
        drawn.append(ax.add_collection(lines))
    some = np.unique(np.linspace(0, len(t.epochs) - 1, min(len(t.epochs), _MOST_MARKERS)).round().astype(int))
    if error_bars:
        bars = ax.errorbar(
            t.x[some], t.y[some], xerr=t.x_err[some], yerr=t.y_err[some], fmt="none", ecolor="#b0b0b0", elinewidth=0.8,
            zorder=1.9,
        )
        drawn += bars.get_children()
    for is_hollow in (False, True):
        part = some[t.hollow[some] == is_hollow]
        points = ax.scatter(
            t.x[part], t.y[part], c=t.epochs[part], cmap=EPOCH_COLORS, norm=norm, marker=marker, s=34, linewidths=0.5,
            edgecolors="white", zorder=3, label="_points",
        )
        if is_hollow:
            points.set(facecolor="white", edgecolor="face", linewidth=1.3)
        drawn.append(points)
    return drawn


def _names(ax: Axes, trajectories: list[_Trajectory], markers: dict[str, str]) -> list[Artist]:
    handles = [
        Line2D([], [], linestyle="none", marker=markers[t.layer], color=INK, markersize=6, label=t.layer)
        for t in trajectories[:_MOST_LABELS]
    ]
    return [ax.legend(handles=handles, fontsize=TEXT["note"], frameon=False, loc="best")]
