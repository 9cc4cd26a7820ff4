"""The figures by name, and the choice of those that a run logs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mi_callback.reporting.depth import depth_profile, heat_map
from mi_callback.reporting.epochs import curves
from mi_callback.reporting.palette import MOST_NAMED
from mi_callback.reporting.plane import information_plane
from mi_callback.reporting.runs import overlay

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from mi_callback.reporting.history import History

__all__ = ["curves", "depth_profile", "draw_figures", "heat_map", "information_plane", "overlay", "plot"]


def plot(history: History, kind: str, ax: Axes | None) -> Figure | list[Artist]:
    """Draw the figure of that kind, see ``History.plot``."""
    if kind == "curves":
        return curves(history, ax=ax)
    if kind == "plane":
        return information_plane(history, ax=ax)
    if kind == "heat_map":
        return heat_map(history, ax=ax)
    if kind == "profile":
        return depth_profile(history, ax=ax)
    raise ValueError(f"kind: expected 'curves', 'plane', 'heat_map' or 'profile', got {kind!r}.")


def draw_figures(history: History) -> dict[str, Figure]:
    """Draw what a logger gets, by tag: the figures that this history has the quantities for.

    Args:
        history: estimates of a run.

    Returns:
        "mi/curves"; "mi/information_plane" if both of its quantities were measured; "mi/noise_sweep" if
        I(X; T + sigma Z) was measured with several sigma; for more than seven layers "mi/heat_map_<quantity>" for each
        quantity of the curves. Nothing for an empty history.
    """
    if not len(history):
        return {}
    sweep = [quantity for quantity in history.quantities if quantity.startswith("input_noise_")]
    shown = [quantity for quantity in history.quantities if quantity not in sweep]
    figures = {"mi/curves": curves(history, quantities=shown)}
    if sweep:
        figures["mi/noise_sweep"] = curves(history, quantities=["input", *sweep])
    if {"input", "target"} <= set(history.quantities):
        figures["mi/information_plane"] = information_plane(history)
    if len(history.layers) > MOST_NAMED:
        figures |= {f"mi/heat_map_{quantity}": heat_map(history, quantity=quantity) for quantity in shown}
    return figures
