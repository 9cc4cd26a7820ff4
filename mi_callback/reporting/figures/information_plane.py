"""The information plane: I(X;T) against I(T;Y), one trajectory a layer, epochs by colour."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, overload

import numpy as np
from matplotlib import colormaps
from matplotlib.collections import LineCollection
from matplotlib.colors import Normalize
from matplotlib.lines import Line2D
from numpy.typing import NDArray

from mi_callback.reporting.figures.annotations import HALO, draw_ceilings, flagged_handle, in_doubt
from mi_callback.reporting.figures.style import (
    EPOCH_COLORS,
    INK,
    LETTER,
    MOST_NAMED,
    SOFT,
    TEXT,
    empty_note,
    epoch_bar,
    layer_looks,
    legend,
    new_figure,
    style,
)
from mi_callback.reporting.labels import axis_label, layer_labels
from mi_callback.reporting.series import Estimates, Series, even_selection, targets_of

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["information_plane"]

_MOST_MARKERS = 30  # a trajectory: with seven of them 210 markers, of .08 inches, on some 3 by 2.5 inches
_MOST_SNAPSHOTS = 6  # of a deep network: neighbours still differ in colour by a sixth of the colour map


@dataclass(frozen=True, slots=True)
class _Trajectory:
    layer: str
    epochs: NDArray[np.int64]  # (E,), those at which both coordinates are numbers
    x: NDArray[np.float64]
    y: NDArray[np.float64]
    x_err: NDArray[np.float64]
    y_err: NDArray[np.float64]
    doubt: NDArray[np.bool_]


@overload
def information_plane(
    history: Estimates, *, target: str | None = ..., error_bars: bool = ..., ax: None = ...
) -> Figure: ...


@overload
def information_plane(
    history: Estimates, *, target: str | None = ..., error_bars: bool = ..., ax: Axes
) -> list[Artist]: ...


def information_plane(
    history: Estimates, *, target: str | None = None, error_bars: bool = False, ax: Axes | None = None
) -> Figure | list[Artist]:
    """Draw the information plane, in the unit of the history.

    Up to seven layers are drawn as one trajectory each: the marker tells the layer, the colour the epoch. With more
    than 30 epochs the line passes through all of them and an even selection has markers. Of more layers the
    trajectories are thin and grey, and the layers' points of six epochs are joined in the order of depth, so that the
    network as a whole is seen to move. Points that carry a flag, or stand above a limit by more than two standard
    errors, are hollow. An epoch at which either value is NaN is left out.

    Args:
        history: estimates of the quantities "input" and "target".
        target: the quantity on the other axis, such as "target_age" of one of several tasks; None for "target", or
            that of the first task.
        error_bars: whether to draw one standard error around each point.
        ax: axes to draw on; None makes a figure.

    Returns:
        The new figure, or the artists drawn on ``ax``.
    """
    target = target or next(iter(targets_of(history)), "target")
    if ax is not None:
        return _draw(ax, history, target, error_bars=error_bars, own_figure=False)
    figure = new_figure(3.6)
    _draw(figure.add_subplot(), history, target, error_bars=error_bars, own_figure=True)
    return figure


def _draw(ax: Axes, history: Estimates, target: str, *, error_bars: bool, own_figure: bool) -> list[Artist]:
    style(ax, xlabel=axis_label(history, "input"), ylabel=axis_label(history, target))
    trajectories = _trajectories(history, target)
    if not trajectories:
        return [empty_note(ax, 'The information plane needs the quantities\n"input" and "target" of a layer.')]
    epochs = np.concatenate([t.epochs for t in trajectories])
    norm = Normalize(epochs.min(), max(epochs.max(), epochs.min() + 1))
    xs, ys = (np.concatenate([getattr(t, axis) for t in trajectories]).tolist() for axis in "xy")
    drawn = draw_ceilings(ax, history, {"y": (target, ys), "x": ("input", xs)})
    handles: list[Artist] = []
    labels = layer_labels(history.layers)
    if len(trajectories) <= MOST_NAMED:
        looks = layer_looks(history.layers)
        for t in trajectories:
            marker = looks[t.layer].marker
            some = even_selection(len(t.epochs), _MOST_MARKERS)
            drawn += _path(ax, t, norm)
            drawn += _points(ax, t, some, marker, norm, error_bars=error_bars, size=38)
            name = labels.short[t.layer]
            handles.append(Line2D([], [], linestyle="none", marker=marker, color=INK, markersize=6, label=name))
    else:
        drawn += _snapshots(ax, trajectories, labels.short, norm, error_bars=error_bars)
    if any(t.doubt.any() for t in trajectories):
        handles.append(flagged_handle())
    drawn += legend(ax, handles, own_figure=own_figure, pattern=labels.pattern)
    epoch_bar([ax], norm)
    ax.margins(x=0.07, y=0.09)  # above stands the label of a ceiling, and above that the title
    return drawn


def _trajectories(history: Estimates, target: str) -> list[_Trajectory]:
    inputs, targets = history.series("input"), history.series(target)
    both = [layer for layer in history.layers if layer in inputs and layer in targets]
    found = [_pair(inputs[layer], targets[layer], history) for layer in both]
    return [t for t in found if len(t.epochs)]


def _pair(x: Series, y: Series, history: Estimates) -> _Trajectory:
    epochs, i, j = np.intersect1d(x.epochs, y.epochs, assume_unique=True, return_indices=True)
    known = np.isfinite(x.mi[i]) & np.isfinite(y.mi[j])
    epochs, i, j = epochs[known], i[known], j[known]
    marked = in_doubt(history, x)[i] | in_doubt(history, y)[j]
    return _Trajectory(x.layer, epochs, x.mi[i], y.mi[j], x.stderr[i], y.stderr[j], marked)


def _path(ax: Axes, t: _Trajectory, norm: Normalize) -> list[Artist]:
    points = np.column_stack([t.x, t.y])
    segments = list(np.stack([points[:-1], points[1:]], axis=1))
    lines = LineCollection(segments, cmap=EPOCH_COLORS, norm=norm, linewidths=1.0, alpha=0.6, zorder=2)
    lines.set_array(t.epochs[1:])
    return [ax.add_collection(lines)]


def _points(
    ax: Axes, t: _Trajectory, some: NDArray[np.intp], marker: str, norm: Normalize, *, error_bars: bool, size: float
) -> list[Artist]:
    drawn: list[Artist] = []
    if error_bars:
        bars = ax.errorbar(
            t.x[some],
            t.y[some],
            xerr=t.x_err[some],
            yerr=t.y_err[some],
            fmt="none",
            ecolor=SOFT,
            elinewidth=0.9,
            zorder=1.9,
        )
        drawn += bars.get_children()
    for is_hollow in (False, True):
        part = some[t.doubt[some] == is_hollow]
        colors = colormaps[EPOCH_COLORS](norm(t.epochs[part]))
        drawn.append(
            ax.scatter(
                t.x[part],
                t.y[part],
                marker=marker,
                s=size,
                linewidths=1.3 if is_hollow else 0.5,
                zorder=3,
                facecolors="white" if is_hollow else colors,
                edgecolors=colors if is_hollow else "white",
                label=f"_{t.layer} {'hollow' if is_hollow else 'solid'}",
            )
        )
    return drawn


def _snapshots(
    ax: Axes, trajectories: list[_Trajectory], names: dict[str, str], norm: Normalize, *, error_bars: bool
) -> list[Artist]:
    drawn: list[Artist] = []
    for t in trajectories:
        drawn += ax.plot(t.x, t.y, color=SOFT, linewidth=0.5, alpha=0.5, zorder=1.8, label="_path")
    common = trajectories[0].epochs
    for t in trajectories[1:]:
        common = np.intersect1d(common, t.epochs, assume_unique=True)
    chosen = common[even_selection(len(common), _MOST_SNAPSHOTS)] if len(common) else common
    for epoch in chosen:
        snapshot = _snapshot(trajectories, int(epoch))
        color = colormaps[EPOCH_COLORS](norm(epoch))
        drawn += ax.plot(snapshot.x, snapshot.y, color=color, linewidth=1.2, zorder=2.5, label="_snapshot")
        drawn += _points(ax, snapshot, np.arange(len(trajectories)), "o", norm, error_bars=error_bars, size=16)
        if epoch == chosen[-1]:
            drawn += _name_points(ax, trajectories, snapshot, [names[t.layer] for t in trajectories])
    return drawn


def _name_points(ax: Axes, trajectories: list[_Trajectory], points: _Trajectory, names: list[str]) -> list[Artist]:
    """Write up to five names above points, those of the first and the last layer before others; none covers another."""
    inches = 0.8 * np.array([ax.bbox.width, ax.bbox.height]) / ax.figure.dpi  # what the bar and the labels leave
    spans = np.array([np.ptp(np.concatenate([getattr(t, axis) for t in trajectories])) for axis in "xy"])
    at = np.column_stack([points.x, points.y]) * inches / np.where(spans > 0, spans, 1.0)
    wide, high = LETTER * np.array([len(name) for name in names]), 1.2 * TEXT["note"] / 72
    chosen: list[int] = []
    for i in dict.fromkeys(i for most in (2, 3, 5, len(names)) for i in even_selection(len(names), most).tolist()):
        gaps = np.abs(at[chosen] - at[i])
        if len(chosen) < 5 and np.all((gaps[:, 0] > (wide[chosen] + wide[i]) / 2) | (gaps[:, 1] > high)):
            chosen.append(i)
    return [
        ax.annotate(
            names[i],
            (points.x[i], points.y[i]),
            xytext=(0, 7),
            ha="center",
            textcoords="offset points",
            fontsize=TEXT["note"],
            color=INK,
            path_effects=HALO,
            zorder=6,
        )
        for i in chosen
    ]


def _snapshot(trajectories: list[_Trajectory], epoch: int) -> _Trajectory:
    """The points of all layers at one epoch, in the order of depth."""
    at = [int(np.searchsorted(t.epochs, epoch)) for t in trajectories]
    x, y, x_err, y_err, marked = (
        np.array([getattr(t, key)[i] for t, i in zip(trajectories, at, strict=True)])
        for key in ("x", "y", "x_err", "y_err", "doubt")
    )
    return _Trajectory(f"epoch {epoch}", np.full(len(at), epoch), x, y, x_err, y_err, marked)
