"""The figure of the HTML report, in plotly: plane and curves side by side, one slider over epochs for both."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import plotly.graph_objects as go
from numpy.typing import NDArray
from plotly.subplots import make_subplots

from mi_callback.reporting.marks import hollow
from mi_callback.reporting.palette import GREY, INK, LayerLook, layer_looks, plain_symbol
from mi_callback.reporting.series import Series, even_selection, within_reach

if TYPE_CHECKING:
    from mi_callback.reporting.history import History

__all__ = ["interactive_figure"]

_MOST_POINTS = 300  # of a curve; a browser is slow with more, and the selection is even
_MOST_STEPS = 150  # of the slider
_SYMBOLS = {"o": "circle", "s": "square", "^": "triangle-up", "D": "diamond", "v": "triangle-down", "P": "cross",
            "X": "x"}


def interactive_figure(history: History) -> go.Figure:
    """Draw information plane and curves with a slider over epochs.

    Args:
        history: estimates of a run.

    Returns:
        A plotly figure. Each layer is one group of its legend; the frames move the marked points.
    """
    panels = [q for q in history.quantities if not q.startswith("input_noise_")]
    has_plane = {"input", "target"} <= set(history.quantities)
    column = 2 if has_plane else 1  # of the curves; the plane has the whole height of the first
    specs: list[list[Any]] = [[None, {}] if has_plane else [{}] for _ in panels]
    if has_plane:
        specs[0][0] = {"rowspan": len(panels)}
    figure = make_subplots(
        len(panels), column, specs=specs, shared_xaxes="columns", vertical_spacing=0.07, horizontal_spacing=0.1
    )
    looks = layer_looks(history.layers)
    flags = {(r["layer"], r["quantity"], r["epoch"]): ", ".join(r["flags"]) for r in history.to_rows() if r["flags"]}
    moving: list[tuple[Any, ...]] = []  # what the slider moves: x series or None for the epoch itself, y series
    if has_plane:
        inputs, targets = history.series("input"), history.series("target")
        for layer in (name for name in inputs if name in targets):
            _trajectory(figure, history, inputs[layer], targets[layer], looks[layer])
        _ceilings(figure, history, "input", 1, 1, vertical=True)
        _ceilings(figure, history, "target", 1, 1, vertical=False)
        figure.update_xaxes(title_text=_label(history, "input"), row=1, col=1)
        figure.update_yaxes(title_text=_label(history, "target"), row=1, col=1)
    named: set[str] = set()
    for row, quantity in enumerate(panels, start=1):
        for layer, series in history.series(quantity).items():
            _curve(figure, history, series, looks[layer], flags, row, column, named=layer not in named)
            named.add(layer)
        _ceilings(figure, history, quantity, row, column, vertical=False)
        figure.update_yaxes(title_text=_label(history, quantity), row=row, col=column)
    figure.update_xaxes(title_text="epoch", row=len(panels), col=column)
    if has_plane:
        for layer in (name for name in inputs if name in targets):
            _marked(figure, inputs[layer], targets[layer], looks[layer], 1, 1)
            moving.append((inputs[layer], targets[layer]))
    for row, quantity in enumerate(panels, start=1):
        for layer, series in history.series(quantity).items():
            _marked(figure, None, series, looks[layer], row, column)
            moving.append((None, series))
    _slider(figure, history, moving)
    figure.update_layout(
        template="plotly_white", height=max(560, 230 * len(panels) + 160), margin={"l": 60, "r": 20, "t": 30, "b": 20},
        legend={"title": {"text": "layers: click to switch"}}, hovermode="closest", font={"color": INK, "size": 13},
    )
    return figure


def _label(history: History, quantity: str) -> str:
    sigma = history.noise(quantity)
    name = plain_symbol(quantity) if sigma is None else f"I(X; T + σZ), σ = {sigma}"
    return f"{name} ({history.unit})"


def _symbols(history: History, series: Series, look: LayerLook, some: NDArray[np.intp]) -> list[str]:
    name = _SYMBOLS[look.marker]
    return [f"{name}-open" if marked else name for marked in hollow(history, series)[some]]


def _trajectory(figure: go.Figure, history: History, x: Series, y: Series, look: LayerLook) -> None:
    epochs, i, j = np.intersect1d(x.epochs, y.epochs, assume_unique=True, return_indices=True)
    some = even_selection(len(epochs), _MOST_POINTS)
    epochs, i, j = epochs[some], i[some], j[some]
    doubtful = hollow(history, x)[i] | hollow(history, y)[j]
    name = _SYMBOLS[look.marker]
    last = max(history.epochs)
    figure.add_trace(
        go.Scatter(
            x=x.mi[i], y=y.mi[j], customdata=np.column_stack([epochs, x.stderr[i], y.stderr[j]]),
            mode="lines+markers" if len(history.layers) * len(epochs) <= 2000 else "lines",
            line={"color": look.color, "width": 1}, opacity=0.55, legendgroup=y.layer, showlegend=False, name=y.layer,
            marker={
                "symbol": [f"{name}-open" if d else name for d in doubtful], "size": 7, "color": epochs, "cmin": 0,
                "cmax": max(last, 1), "colorscale": "Viridis",
            },
            hovertemplate=(
                f"{y.layer}<br>epoch %{{customdata[0]}}<br>I(X;T) %{{x:.3f}} ± %{{customdata[1]:.3f}}"
                "<br>I(T;Y) %{y:.3f} ± %{customdata[2]:.3f}<extra></extra>"
            ),
        ),
        row=1, col=1,
    )


def _curve(
    figure: go.Figure, history: History, series: Series, look: LayerLook, flags: dict[tuple[str, str, int], str],
    row: int, column: int, *, named: bool,
) -> None:
    some = even_selection(len(series.epochs), _MOST_POINTS)
    words = [flags.get((series.layer, series.quantity, int(e)), "none") for e in series.epochs[some]]
    figure.add_trace(
        go.Scatter(
            x=series.epochs[some], y=series.mi[some], text=words, name=series.layer, legendgroup=series.layer,
            showlegend=named, mode="lines+markers" if len(history.layers) * len(some) <= 2000 else "lines",
            customdata=np.column_stack([series.stderr, 2 * series.null_std])[some],
            line={"color": look.color, "width": 1.5},
            marker={"symbol": _symbols(history, series, look, some), "size": 6},
            hovertemplate=(
                f"{series.layer}<br>epoch %{{x}}<br>{plain_symbol(series.quantity)} %{{y:.3f}} ± "
                "%{customdata[0]:.3f}<br>null ± %{customdata[1]:.3f}<br>flags: %{text}<extra></extra>"
            ),
        ),
        row=row, col=column,
    )


def _marked(figure: go.Figure, x: Series | None, y: Series, look: LayerLook, row: int, column: int) -> None:
    figure.add_trace(
        go.Scatter(
            x=[y.epochs[-1] if x is None else x.mi[-1]], y=[y.mi[-1]], mode="markers", legendgroup=y.layer,
            showlegend=False, hoverinfo="skip", name=y.layer,
            marker={
                "symbol": _SYMBOLS[look.marker], "size": 13, "color": look.color, "line": {"color": INK, "width": 1.5},
            },
        ),
        row=row, col=column,
    )


def _ceilings(figure: go.Figure, history: History, quantity: str, row: int, column: int, *, vertical: bool) -> None:
    values = [v for series in history.series(quantity).values() for v in series.mi.tolist()]
    for name, ceiling in within_reach(history.ceilings_of(quantity), values).items():
        draw, at = (figure.add_vline, "x") if vertical else (figure.add_hline, "y")
        draw(
            **{at: ceiling.value}, row=row, col=column, line={"color": GREY, "width": 1, "dash": "dash"},
            annotation={"text": f"{name} = {ceiling.value:.3g}", "font": {"size": 11, "color": INK}},
            annotation_position="top left" if not vertical else "bottom left",
        )


def _slider(figure: go.Figure, history: History, moving: list[tuple[Any, ...]]) -> None:
    epochs = np.array(history.epochs)
    chosen = epochs[even_selection(len(epochs), _MOST_STEPS)].tolist()
    first = len(figure.data) - len(moving)
    places = [
        (None if x is None else dict(zip(x.epochs.tolist(), x.mi.tolist(), strict=True)),
         dict(zip(y.epochs.tolist(), y.mi.tolist(), strict=True)))
        for x, y in moving
    ]
    figure.frames = [
        go.Frame(
            name=str(epoch), traces=list(range(first, first + len(moving))),
            data=[
                {"type": "scatter", "x": [epoch if x is None else x.get(epoch)], "y": [y.get(epoch)]} for x, y in places
            ],
        )
        for epoch in chosen
    ]
    at_once = {"mode": "immediate", "frame": {"duration": 0, "redraw": False}, "transition": {"duration": 0}}
    steps = [{"method": "animate", "label": str(e), "args": [[str(e)], at_once]} for e in chosen]
    figure.update_layout(
        sliders=[{"active": len(steps) - 1, "steps": steps, "currentvalue": {"prefix": "epoch "}, "pad": {"t": 45}}]
    )
