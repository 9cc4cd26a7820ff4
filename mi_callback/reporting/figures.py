"""The figures by name, and the choice of those that a run logs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mi_callback.reporting.curves import curves
from mi_callback.reporting.plane import information_plane

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from mi_callback.reporting.history import History

__all__ = ["curves", "draw_figures", "information_plane"]


def draw_figures(history: History) -> dict[str, Figure]:
    """Draw what a logger gets: the figures that this history has the quantities for, by tag."""
    if not len(history):
        return {}
    figures = {"mi/curves": curves(history)}
    if {"input", "target"} <= set(history.quantities):
        figures["mi/information_plane"] = information_plane(history)
    return figures
