"""The figure of the HTML report, in plotly: plane and curves side by side, one slider over epochs for both."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import plotly.graph_objects as go
from numpy.typing import NDArray
from plotly.subplots import make_subplots

from mi_callback.reporting.figures.annotations import in_doubt
from mi_callback.reporting.figures.style import GREY, INK, LayerLook, layer_looks
from mi_callback.reporting.labels import layer_labels, plain_symbol
from mi_callback.reporting.series import (
    Estimates,
    Series,
    drawable_ceilings,
    even_selection,
    noise_sweep,
    shown_quantities,
    targets_of,
)

__all__ = ["interactive_figure"]

_MOST_POINTS = 300  # of a curve; a browser is slow with more, and the selection is even
_MOST_STEPS = 150  # of the slider
_MOST_MARKERS = 2000  # in one pair of axes; with more points, lines alone
_DASHES = ("dash", "dot", "dashdot")  # of the data sets after the first
_SYMBOLS = {
    "o": "circle",
    "s": "square",
    "^": "triangle-up",
    "D": "diamond",
    "v": "triangle-down",
    "P": "cross",
    "X": "x",
}


@dataclass(frozen=True, slots=True)
class _Place:
    """One layer in one pair of axes; x is None where epochs run along the axis."""

    x: Series | None
    y: Series
    row: int
    column: int


def interactive_figure(history: Estimates) -> go.Figure:
    """Draw information plane and curves with a slider over epochs.

    Args:
        history: estimates of a run.

    Returns:
        A plotly figure. Each layer is one group of its legend; the frames move the marked points.
    """
    panels = [q for q in shown_quantities(history) if q not in noise_sweep(history)]
    target = next(iter(targets_of(history)), "")
    has_plane = bool(target) and "input" in history.quantities
    column = 2 if has_plane else 1  # of the curves; the plane has the whole height of the first
    specs: list[list[Any]] = [[None, {}] if has_plane else [{}] for _ in panels]
    if has_plane:
        specs[0][0] = {"rowspan": len(panels)}
    figure = make_subplots(
        len(panels), column, specs=specs, shared_xaxes="columns", vertical_spacing=0.07, horizontal_spacing=0.1
    )
    looks, labels = layer_looks(history.layers), layer_labels(history.layers)
    plane: list[_Place] = []
    if has_plane:
        inputs, targets = history.series("input"), history.series(target)
        plane = [_Place(inputs[name], targets[name], 1, 1) for name in inputs if name in targets]
    curves = [
        _Place(None, series, row, column)
        for row, quantity in enumerate(panels, start=1)
        for series in history.series(quantity).values()
    ]
    for place in plane:
        _trajectory(figure, history, place, looks[place.y.layer], labels.short[place.y.layer])
    _curves(figure, history, curves, looks, labels.short)
    for row, quantity in enumerate(panels, start=1):
        _further_data(figure, history, quantity, row, column, looks)
    if has_plane:
        _axes(figure, history, "input", 1, 1, vertical=True)
        _axes(figure, history, target, 1, 1)
    for row, quantity in enumerate(panels, start=1):
        _axes(figure, history, quantity, row, column)
    figure.update_xaxes(title_text="epoch", row=len(panels), col=column)
    for place in (*plane, *curves):
        _marked(figure, place, looks[place.y.layer], labels.short[place.y.layer])
    _slider(figure, history, [*plane, *curves])
    figure.update_layout(
        template="plotly_white",
        height=max(560, 230 * len(panels) + 160),
        margin={"l": 60, "r": 20, "t": 30, "b": 20},
        legend={"title": {"text": f"layers{f' {labels.pattern}' if labels.pattern else ''}: click to switch"}},
        hovermode="closest",
        font={"color": INK, "size": 13},
    )
    return figure


def _axes(
    figure: go.Figure, history: Estimates, quantity: str, row: int, column: int, *, vertical: bool = False
) -> None:
    """Name the axis of a quantity, and draw the ceilings across it; plotly draws none across axes without curves."""
    sigma = history.noise(quantity)
    name = plain_symbol(quantity) if sigma is None else f"I(X; T + σZ), σ = {sigma:g}"
    update = figure.update_xaxes if vertical else figure.update_yaxes
    update(title_text=f"{name} ({history.unit})", row=row, col=column)
    values = [v for series in history.series(quantity).values() for v in series.mi.tolist()]
    for limit, ceiling in drawable_ceilings(history.ceilings_of(quantity), values).items():
        draw, at = (figure.add_vline, "x") if vertical else (figure.add_hline, "y")
        draw(
            **{at: ceiling.value},
            row=row,
            col=column,
            line={"color": GREY, "width": 1, "dash": "dash"},
            annotation={"text": f"{limit} = {ceiling.value:.3g}", "font": {"size": 11, "color": INK}},
            annotation_position="bottom left" if vertical else "top left",
        )


def _symbols(look: LayerLook, doubtful: NDArray[np.bool_]) -> list[str]:
    return [_SYMBOLS[look.marker] + ("-open" if doubt else "") for doubt in doubtful]


def _mode(history: Estimates, n_points: int) -> str:
    return "lines+markers" if len(history.layers) * n_points <= _MOST_MARKERS else "lines"


def _trajectory(figure: go.Figure, history: Estimates, place: _Place, look: LayerLook, name: str) -> None:
    x, y = place.x, place.y
    assert x is not None
    epochs, i, j = np.intersect1d(x.epochs, y.epochs, assume_unique=True, return_indices=True)
    some = even_selection(len(epochs), _MOST_POINTS)
    epochs, i, j = epochs[some], i[some], j[some]
    figure.add_trace(
        go.Scatter(
            x=x.mi[i],
            y=y.mi[j],
            customdata=np.column_stack([epochs, x.stderr[i], y.stderr[j]]),
            mode=_mode(history, len(epochs)),
            line={"color": look.color, "width": 1},
            opacity=0.55,
            name=name,
            legendgroup=y.layer,
            showlegend=False,
            marker={
                "symbol": _symbols(look, in_doubt(history, x)[i] | in_doubt(history, y)[j]),
                "size": 7,
                "color": epochs,
                "cmin": 0,
                "cmax": max(*history.epochs, 1),
                "colorscale": "Viridis",
            },
            hovertemplate=(
                f"{y.layer}<br>epoch %{{customdata[0]}}<br>I(X;T) %{{x:.3f}} ± %{{customdata[1]:.3f}}"
                "<br>I(T;Y) %{y:.3f} ± %{customdata[2]:.3f}<extra></extra>"
            ),
        ),
        row=place.row,
        col=place.column,
    )


def _curves(
    figure: go.Figure, history: Estimates, places: list[_Place], looks: dict[str, LayerLook], names: dict[str, str]
) -> None:
    flags = {
        (r["layer"], r["quantity"], r["epoch"]): ", ".join(r["flags"])
        for r in history.to_rows()
        if r["flags"] and r["data"] == history.data[0]
    }
    named: set[str] = set()
    for place in places:
        y, look = place.y, looks[place.y.layer]
        some = even_selection(len(y.epochs), _MOST_POINTS)
        figure.add_trace(
            go.Scatter(
                x=y.epochs[some],
                y=y.mi[some],
                customdata=np.column_stack([y.low, y.high, 2 * y.null_std])[some],
                text=[flags.get((y.layer, y.quantity, epoch), "none") for epoch in y.epochs[some].tolist()],
                mode=_mode(history, len(some)),
                line={"color": look.color, "width": 1.5},
                name=names[y.layer],
                legendgroup=y.layer,
                showlegend=y.layer not in named,
                marker={"symbol": _symbols(look, in_doubt(history, y)[some]), "size": 6},
                hovertemplate=(
                    f"{y.layer}<br>epoch %{{x}}<br>{plain_symbol(y.quantity)} %{{y:.3f}}"
                    "<br>interval %{customdata[0]:.3f} to %{customdata[1]:.3f}"
                    "<br>null ± %{customdata[2]:.3f}<br>flags: %{text}<extra></extra>"
                ),
            ),
            row=place.row,
            col=place.column,
        )
        named.add(y.layer)


def _further_data(
    figure: go.Figure, history: Estimates, quantity: str, row: int, column: int, looks: dict[str, LayerLook]
) -> None:
    """The curves of data sets after the first, broken; they are switched with their layer."""
    for i, data in enumerate(history.data[1:]):
        for layer, y in history.series(quantity, data=data).items():
            some = even_selection(len(y.epochs), _MOST_POINTS)
            figure.add_trace(
                go.Scatter(
                    x=y.epochs[some],
                    y=y.mi[some],
                    customdata=y.stderr[some],
                    mode="lines" if len(some) > 1 else "markers",
                    line={"color": looks[layer].color, "width": 1.2, "dash": _DASHES[i % len(_DASHES)]},
                    name=f"{layer}, {data}",
                    legendgroup=layer,
                    showlegend=False,
                    hovertemplate=(
                        f"{layer}, {data}<br>epoch %{{x}}<br>{plain_symbol(quantity)} %{{y:.3f}} ± %{{customdata:.3f}}"
                        "<extra></extra>"
                    ),
                ),
                row=row,
                col=column,
            )


def _marked(figure: go.Figure, place: _Place, look: LayerLook, name: str) -> None:
    """The point that the slider moves, at the last epoch to begin with."""
    x, y = place.x, place.y
    figure.add_trace(
        go.Scatter(
            x=[y.epochs[-1] if x is None else x.mi[-1]],
            y=[y.mi[-1]],
            mode="markers",
            name=name,
            legendgroup=y.layer,
            showlegend=False,
            hoverinfo="skip",
            marker={
                "symbol": _SYMBOLS[look.marker],
                "size": 13,
                "color": look.color,
                "line": {"color": INK, "width": 1.5},
            },
        ),
        row=place.row,
        col=place.column,
    )


def _slider(figure: go.Figure, history: Estimates, places: list[_Place]) -> None:
    epochs = np.array(history.epochs)
    chosen = epochs[even_selection(len(epochs), _MOST_STEPS)].tolist()
    first = len(figure.data) - len(places)
    points = [(None if place.x is None else _by_epoch(place.x), _by_epoch(place.y)) for place in places]
    figure.frames = [
        go.Frame(
            name=str(epoch),
            traces=list(range(first, first + len(places))),
            data=[
                {"type": "scatter", "x": [epoch if x is None else x.get(epoch)], "y": [y.get(epoch)]} for x, y in points
            ],
        )
        for epoch in chosen
    ]
    at_once = {"mode": "immediate", "frame": {"duration": 0, "redraw": False}, "transition": {"duration": 0}}
    steps = [{"method": "animate", "label": str(e), "args": [[str(e)], at_once]} for e in chosen]
    figure.update_layout(
        sliders=[{"active": len(steps) - 1, "steps": steps, "currentvalue": {"prefix": "epoch "}, "pad": {"t": 45}}]
    )


def _by_epoch(series: Series) -> dict[int, float]:
    return dict(zip(series.epochs.tolist(), series.mi.tolist(), strict=True))
