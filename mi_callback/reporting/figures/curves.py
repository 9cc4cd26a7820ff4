"""Curves over epochs: one panel a quantity, one line a layer, and a panel of the losses."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, overload

import numpy as np
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from mi_callback.quantities import quantity as quantity_of
from mi_callback.quantities import quantity_of_task
from mi_callback.reporting.figures.annotations import draw_ceilings, draw_null_band, flagged_handle, in_doubt
from mi_callback.reporting.figures.style import (
    DATA_STYLES,
    GREY,
    INK,
    MOST_NAMED,
    TEXT,
    LayerLook,
    depth_bar,
    empty_note,
    layer_looks,
    legend,
    new_figure,
    style,
)
from mi_callback.reporting.labels import layer_labels, panel_label
from mi_callback.reporting.series import Estimates, Series, even_selection

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["curves"]

_MOST_MARKERS = 15  # a curve: at 3 inches of axis they stand .2 apart, three times their size
_ONE_SCALE = ("target", "usable")  # the gap between the two is what is to be seen


@overload
def curves(
    history: Estimates, *, quantities: Sequence[str] | None = ..., losses: bool = ..., ax: None = ...
) -> Figure: ...


@overload
def curves(
    history: Estimates, *, quantities: Sequence[str] | None = ..., losses: bool = ..., ax: Axes | Sequence[Axes]
) -> list[Artist]: ...


def curves(
    history: Estimates,
    *,
    quantities: Sequence[str] | None = None,
    losses: bool = True,
    ax: Axes | Sequence[Axes] | None = None,
) -> Figure | list[Artist]:
    """Draw the curves over epochs with standard error, interval and null band, in the unit of the history.

    Each quantity has a panel of its own; those of total and usable information share their scale, since the gap between
    the two is what is to be seen. Hairlines of a layer's colour are the ends of its intervals. The band around zero is
    two standard deviations of the permutation null, of the layer in which it is widest. Estimates that carry a flag, or
    stand above a limit by more than two standard errors, are
    hollow. Further data sets are laid over the first as broken lines, without errors and null bands. More than seven
    layers are told apart by a gradation of colour over depth, and go without standard errors.

    Args:
        history: estimates of a run.
        quantities: the quantities to draw, one panel each; None takes those of the history, or as many of them as there
            are axes.
        losses: whether to draw the metrics of training with "loss" in their names, in a last panel.
        ax: axes to draw on, one a quantity, and one more for the losses if they are to be drawn; None makes a figure.

    Returns:
        The new figure, or the artists drawn on ``ax``.

    Raises:
        ValueError: if ``quantities`` are given and there is not one axes for each of them.
    """
    names = list(history.quantities if quantities is None else quantities) or ["target"]
    known = _losses(history) if losses else {}
    figure: Figure | None = None
    if ax is None:
        figure = new_figure(0.8 + 1.4 * len(names) + (1.0 if known else 0.0))
        heights = [1.4] * len(names) + [0.9] * bool(known)
        panels = list(figure.subplots(len(heights), 1, sharex=True, squeeze=False, height_ratios=heights)[:, 0])
    else:
        panels = list(ax) if isinstance(ax, Sequence | np.ndarray) else [ax]
        if quantities is not None and len(panels) not in (len(names), len(names) + bool(known)):
            raise ValueError(f"ax: expected one axes for each of {names}, got {len(panels)}.")
    drawn: list[Artist] = []
    for panel, quantity in zip(panels, names, strict=False):
        drawn += _panel(panel, history, quantity, alike=_of_one_scale(quantity, names))
    _share_scale(dict(zip(names, panels, strict=False)))
    drawn += legend(
        panels[0],
        _handles(history, drawn, names),
        own_figure=figure is not None,
        pattern=layer_labels(history.layers).pattern,
    )
    if len(history.layers) > MOST_NAMED:
        depth_bar(panels[: len(names)], history.layers)
    if known and len(panels) > len(names):
        drawn += _draw_losses(panels[len(names)], known)
    panels[-1].set_xlabel("epoch", fontsize=TEXT["axis"], color=INK)
    return drawn if figure is None else figure


def _panel(ax: Axes, history: Estimates, quantity: str, *, alike: Sequence[str]) -> list[Artist]:
    style(ax, ylabel=panel_label(history, quantity))
    ax.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=6))
    found = history.series(quantity)
    if not found:
        return [empty_note(ax, f"The history holds no quantity {quantity!r}.")]
    looks = layer_looks(history.layers)
    few = len(history.layers) <= MOST_NAMED
    values = np.concatenate([one.mi for name in alike for one in history.series(name).values()])
    others = history.data[1:]
    drawn = draw_null_band(ax, list(found.values()))
    drawn += draw_ceilings(ax, history, {"y": (quantity, values.tolist())})
    for layer, series in found.items():
        drawn += _curve(ax, series, history, looks[layer], few=few)
    for i, data in enumerate(others, start=1):
        for layer, series in history.series(quantity, data=data).items():
            drawn += _broken_curve(ax, series, in_doubt(history, series, data=data), looks[layer], i, few=few)
    ax.margins(x=0.02, y=0.13)
    return drawn


def _curve(ax: Axes, series: Series, history: Estimates, look: LayerLook, *, few: bool) -> list[Artist]:
    drawn: list[Artist] = []
    if few and np.isfinite(series.stderr).any():
        low, high = series.mi - series.stderr, series.mi + series.stderr
        drawn.append(ax.fill_between(series.epochs, low, high, color=look.color, alpha=0.18, linewidth=0))
    if few and np.isfinite(series.low).any():
        drawn += _interval(ax, series, look)
    drawn += ax.plot(series.epochs, series.mi, color=look.color, linewidth=1.6 if few else 0.9, label=series.layer)
    some = even_selection(len(series.epochs), _MOST_MARKERS)
    marked = in_doubt(history, series)[some]
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


def _interval(ax: Axes, series: Series, look: LayerLook) -> list[Artist]:
    """The interval's ends as hairlines; they have no say in the scale, and an open end is drawn nowhere."""
    limits = ax.dataLim.frozen()
    drawn: list[Artist] = []
    for end in (series.low, np.where(np.isfinite(series.high), series.high, np.nan)):
        drawn += ax.plot(series.epochs, end, color=look.color, linewidth=0.6, alpha=0.6, label="_interval")
    ax.dataLim.set(limits)
    return drawn


def _broken_curve(
    ax: Axes, series: Series, marked: NDArray[np.bool_], look: LayerLook, i: int, *, few: bool
) -> list[Artist]:
    """The curve of a further data set, the i-th."""
    width = 1.2 if few else 0.7
    dashes = DATA_STYLES[i % len(DATA_STYLES)]
    drawn: list[Artist] = []
    drawn += ax.plot(
        series.epochs, series.mi, color=look.color, linewidth=width, linestyle=dashes, label=f"_{series.layer}"
    )
    some = even_selection(len(series.epochs), _MOST_MARKERS)
    solid = some[~marked[some]] if len(series.epochs) == 1 else some[:0]  # a single epoch makes no line
    for part, face in ((solid, look.color), (some[marked[some]], "white")):
        if len(part):
            drawn += ax.plot(
                series.epochs[part],
                series.mi[part],
                linestyle="none",
                marker=look.marker,
                markersize=3,
                color=look.color,
                markerfacecolor=face,
                markeredgewidth=0.7,
                label="_hollow" if face == "white" else "_solid",
            )
    return drawn


def _of_one_scale(quantity: str, names: Sequence[str]) -> list[str]:
    """The quantities among ``names`` whose panels have the scale of this one, itself among them."""
    pair = _pair(quantity)
    return [name for name in names if name in pair] if pair else [quantity]


def _pair(name: str) -> list[str]:
    """Total and usable information of the target or task that a quantity is about; empty if it is neither."""
    one = quantity_of(name)
    if (one.base or name) not in _ONE_SCALE:
        return []
    return [quantity_of_task(base, one.task).name for base in _ONE_SCALE]


def _share_scale(panels: dict[str, Axes]) -> None:
    """Give total and usable information one scale."""
    for first in panels:
        pair = [panels[name] for name in _pair(first) if name in panels]
        if len(pair) == 2 and panels[first] is pair[0]:
            low, high = zip(*(panel.get_ylim() for panel in pair), strict=True)
            for panel in pair:
                panel.set_ylim(min(low), max(high))


def _losses(history: Estimates) -> dict[str, dict[int, float]]:
    return {name: values for name, values in history.metrics.items() if "loss" in name.lower() and values}


def _draw_losses(ax: Axes, losses: dict[str, dict[int, float]]) -> list[Artist]:
    """Draw the losses in black, by line style: colours belong to the layers."""
    style(ax, ylabel="loss")
    drawn: list[Artist] = []
    for i, (name, values) in enumerate(losses.items()):
        epochs = sorted(values)
        dashes = DATA_STYLES[i % len(DATA_STYLES)]
        drawn += ax.plot(epochs, [values[e] for e in epochs], color=INK, linewidth=1.2, linestyle=dashes, label=name)
    every = np.array([v for values in losses.values() for v in values.values()])
    every = every[np.isfinite(every)]
    if len(every) and every.min() > 0 and every.max() > 100 * every.min():  # two powers of ten, so two labelled ticks
        ax.set_yscale("log")
    ax.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=6))
    return [*drawn, *legend(ax, drawn, own_figure=False)]


def _handles(history: Estimates, drawn: Sequence[Artist], quantities: Sequence[str]) -> list[Artist]:
    handles: list[Artist] = []
    if len(history.layers) <= MOST_NAMED:
        names, looks = layer_labels(history.layers).short, layer_looks(history.layers)
        measured = {layer for quantity in quantities for layer in history.series(quantity)}
        handles += [
            Line2D([], [], color=look.color, marker=look.marker, markersize=5, linewidth=1.6, label=names[layer])
            for layer, look in looks.items()
            if layer in measured
        ]
    if len(history.data) > 1:
        handles += [
            Line2D([], [], color=GREY, linestyle=DATA_STYLES[i % len(DATA_STYLES)], linewidth=1.4, label=data)
            for i, data in enumerate(history.data)
        ]
    labels = {str(artist.get_label()): artist for artist in drawn}
    handles += [artist for label, artist in labels.items() if label.startswith("null")]
    if "_hollow" in labels:
        handles.append(flagged_handle())
    return handles
