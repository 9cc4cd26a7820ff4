"""Curves over epochs: one panel a quantity, one line a layer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, overload

import numpy as np
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from mi_callback.reporting.canvas import depth_bar, legend, new_figure, note, style
from mi_callback.reporting.history import History
from mi_callback.reporting.marks import draw_ceilings, draw_null_band, hollow, hollow_handle
from mi_callback.reporting.palette import (
    GREY,
    INK,
    MOST_NAMED,
    TEXT,
    LayerLook,
    axis_label,
    layer_looks,
    short_name,
)
from mi_callback.reporting.series import Series, even_selection

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["curves"]

_MOST_MARKERS = 15  # epochs of a curve that has a marker at each of them; more are a plain line with some markers
_LOSS_STYLES = ((0, (1, 1.2)), (0, (4, 1.5, 1, 1.5)), (0, (6, 2)))


@overload
def curves(history: History, *, quantities: Sequence[str] | None = ..., ax: None = ...) -> Figure: ...


@overload
def curves(history: History, *, quantities: Sequence[str] | None = ..., ax: Axes | Sequence[Axes]) -> list[Artist]: ...


def curves(
    history: History, *, quantities: Sequence[str] | None = None, ax: Axes | Sequence[Axes] | None = None
) -> Figure | list[Artist]:
    """Draw the curves over epochs with standard error and null band, in the unit of the history.

    Usable information is dashed in the panel of the total, if there are up to seven layers.
    The band around zero is two standard deviations of the permutation null, of the layer in which it is widest.
    Estimates that carry a flag, or stand above a limit by more than two standard errors, are hollow. Metrics of
    training with "loss" in their names are drawn on a second axis of the first panel. More than seven layers are told
    by a gradation of colour over depth, and go without standard errors.

    Args:
        history: estimates of a run.
        quantities: the quantities to draw, one panel each; None takes those of the history, or as many of them as there
            are axes.
        ax: axes to draw on, one a panel; None makes a figure.

    Returns:
        The new figure, or the artists drawn on ``ax``.

    Raises:
        ValueError: if ``quantities`` are given and there is not one axes for each panel.
    """
    names = list(history.quantities if quantities is None else quantities) or ["target"]
    within = len(history.layers) <= MOST_NAMED and {"target", "usable"} <= set(names)
    if within:
        names.remove("usable")
    figure: Figure | None = None
    if ax is None:
        figure = new_figure(0.8 + 1.5 * len(names))
        panels = list(figure.subplots(len(names), 1, sharex=True, squeeze=False)[:, 0])
    else:
        panels = list(ax) if isinstance(ax, Sequence | np.ndarray) else [ax]
        if quantities is not None and len(names) != len(panels):
            raise ValueError(f"ax: expected one axes for each of {names}, got {len(panels)}.")
    drawn: list[Artist] = []
    for panel, quantity in zip(panels, names, strict=False):
        drawn += _panel(panel, history, quantity)
        if within and quantity == "target":
            drawn += _usable(panel, history)
    _share_scale(dict(zip(names, panels, strict=False)))
    losses = _losses(panels[0], history)
    drawn += losses
    panels[-1].set_xlabel("epoch", fontsize=TEXT["axis"], color=INK)
    handles = _handles(history, drawn, names)
    drawn += legend(panels[0], handles, own_figure=figure is not None)
    if len(history.layers) > MOST_NAMED:
        depth_bar(panels, history.layers)
    return drawn if figure is None else figure


def _panel(ax: Axes, history: History, quantity: str) -> list[Artist]:
    style(ax, ylabel=axis_label(history, quantity))
    ax.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=6))
    found = history.series(quantity)
    if not found:
        return [note(ax, f"The history holds no quantity {quantity!r}.")]
    looks = layer_looks(history.layers)
    few = len(history.layers) <= MOST_NAMED
    values = np.concatenate([one.mi for one in found.values()])
    drawn = draw_null_band(ax, list(found.values()))
    drawn += draw_ceilings(ax, history, {"y": (quantity, values.tolist())})
    for layer, series in found.items():
        drawn += _curve(ax, series, history, looks[layer], few=few)
    ax.margins(x=0.02, y=0.13)
    return drawn


def _curve(ax: Axes, series: Series, history: History, look: LayerLook, *, few: bool) -> list[Artist]:
    drawn: list[Artist] = []
    if few and np.isfinite(series.stderr).any():
        low, high = series.mi - series.stderr, series.mi + series.stderr
        drawn.append(ax.fill_between(series.epochs, low, high, color=look.color, alpha=0.18, linewidth=0))
    drawn += ax.plot(
        series.epochs, series.mi, color=look.color, linewidth=1.6 if few else 0.9, label=short_name(series.layer)
    )
    some = even_selection(len(series.epochs), _MOST_MARKERS)
    marked = hollow(history, series)[some]
    for part, face in ((some[~marked], look.color), (some[marked], "white")):
        if len(part) and (few or face == "white"):
            drawn += ax.plot(
                series.epochs[part],
                series.mi[part],
                linestyle="none",
                marker=look.marker,
                markersize=4.2 if few else 3,
                color=look.color,
                markerfacecolor=face,
                markeredgewidth=0.9,
                label="_hollow" if face == "white" else "_solid",
            )
    return drawn


def _usable(ax: Axes, history: History) -> list[Artist]:
    """Dashed beside the total, in the colours of the layers: the gap between the two is what is to be seen."""
    looks = layer_looks(history.layers)
    drawn: list[Artist] = []
    for layer, series in history.series("usable").items():
        drawn += ax.plot(
            series.epochs, series.mi, color=looks[layer].color, linewidth=1.3, linestyle=(0, (3, 1.2)), label="_usable"
        )
    return drawn


def _share_scale(panels: dict[str, Axes]) -> None:
    """Give total and usable information one scale where they have a panel each."""
    pair = [panels[name] for name in ("target", "usable") if name in panels]
    if len(pair) == 2:
        low, high = zip(*(panel.get_ylim() for panel in pair), strict=True)
        for panel in pair:
            panel.set_ylim(min(low), max(high))


def _losses(ax: Axes, history: History) -> list[Artist]:
    losses = {name: values for name, values in history.metrics.items() if "loss" in name.lower() and values}
    if not losses:
        return []
    twin = ax.twinx()
    drawn: list[Artist] = []
    for i, (name, values) in enumerate(losses.items()):
        epochs = sorted(values)
        drawn += twin.plot(
            epochs, [values[e] for e in epochs], color=GREY, linewidth=1.3, linestyle=_LOSS_STYLES[i % 3], label=name
        )
    every = np.array([v for values in losses.values() for v in values.values()])
    every = every[np.isfinite(every)]
    if len(every) and every.min() > 0 and every.max() > 30 * every.min():
        twin.set_yscale("log")
    twin.set_ylabel("loss", fontsize=TEXT["axis"], color=GREY)
    twin.tick_params(labelsize=TEXT["tick"], colors=GREY)
    twin.spines[["top", "left"]].set_visible(False)
    twin.spines["right"].set_color(GREY)
    # the curves of information stand in front of the loss
    ax.set_zorder(twin.get_zorder() + 1)
    ax.patch.set_visible(False)
    return drawn


def _handles(history: History, drawn: Sequence[Artist], quantities: Sequence[str]) -> list[Artist]:
    handles: list[Artist] = []
    if len(history.layers) <= MOST_NAMED:
        looks = layer_looks(history.layers)
        measured = {layer for quantity in quantities for layer in history.series(quantity)}
        handles += [
            Line2D([], [], color=look.color, marker=look.marker, markersize=5, linewidth=1.6, label=short_name(layer))
            for layer, look in looks.items()
            if layer in measured
        ]
    labels = {str(artist.get_label()): artist for artist in drawn}
    handles += [artist for label, artist in labels.items() if label.startswith("null") or label in history.metrics]
    if "_usable" in labels:
        handles.append(Line2D([], [], color=GREY, linewidth=1.3, linestyle=(0, (3, 1.2)), label="usable"))
    if "_hollow" in labels:
        handles.append(hollow_handle())
    return handles
