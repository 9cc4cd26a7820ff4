"""The list of figures: how ``History.plot`` calls each, and under which tags a run logs it.

A new figure is a file of its own, with a function from estimates to a figure, and a line in ``FIGURES``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mi_callback.quantities import quantity
from mi_callback.reporting.figures.curves import curves
from mi_callback.reporting.figures.depth_profile import depth_profile
from mi_callback.reporting.figures.gap import gap
from mi_callback.reporting.figures.heat_map import heat_map
from mi_callback.reporting.figures.information_plane import information_plane
from mi_callback.reporting.figures.overlay import overlay
from mi_callback.reporting.figures.style import MOST_NAMED
from mi_callback.reporting.series import Estimates, noise_sweep, shown_quantities, targets_of

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["FIGURES", "Kind", "draw_figures", "plot"]


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of figure.

    Attributes:
        draw: the function that draws it, with the options ``ax`` and those of its own.
        logged: from a history that is not empty to the tags under which this kind is logged, with the options of each;
            none if the history lacks what it shows.
    """

    draw: Callable[..., Any]
    logged: Callable[[Estimates], dict[str, dict[str, Any]]]


def _curves(history: Estimates) -> dict[str, dict[str, Any]]:
    sweep = noise_sweep(history)
    tags: dict[str, dict[str, Any]] = {"mi/curves": {"quantities": _shown(history)}}
    return tags | ({"mi/noise_sweep": {"quantities": ["input", *sweep], "losses": False}} if sweep else {})


def _plane(history: Estimates) -> dict[str, dict[str, Any]]:
    shown = _shown(history)
    if "input" not in shown:
        return {}
    names = [name for name in targets_of(history) if name in shown]
    return {"_".join(filter(None, ("mi/information_plane", quantity(name).task))): {"target": name} for name in names}


def _profile(history: Estimates) -> dict[str, dict[str, Any]]:
    return {"mi/depth": {"quantities": _shown(history)}} if len(history.layers) > 1 else {}


def _gap(history: Estimates) -> dict[str, dict[str, Any]]:
    return {"mi/gap": {"quantities": _shown(history)}} if len(history.data) > 1 else {}


def _heat_map(history: Estimates) -> dict[str, dict[str, Any]]:
    deep = len(history.layers) > MOST_NAMED
    return {f"mi/heat_map_{name}": {"quantity": name} for name in _shown(history) if deep}


def _shown(history: Estimates) -> list[str]:
    sweep = noise_sweep(history)
    return [name for name in shown_quantities(history) if name not in sweep]


def _runs(history: Estimates, *, quantity: str = "target", ax: Axes | None = None) -> Figure | list[Artist]:
    """All runs of a history over one another, by their groups."""
    groups = history.groups()
    return overlay(groups, quantity=quantity) if ax is None else overlay(groups, quantity=quantity, ax=ax)


FIGURES = {
    "curves": Kind(curves, _curves),
    "plane": Kind(information_plane, _plane),
    "profile": Kind(depth_profile, _profile),
    "heat_map": Kind(heat_map, _heat_map),
    "gap": Kind(gap, _gap),
    "runs": Kind(_runs, lambda history: {}),  # a second fit is another run, and no seed of the first
}


def plot(history: Estimates, kind: str, ax: Axes | None) -> Figure | list[Artist]:
    """Draw the figure of that kind, see ``History.plot``."""
    if kind not in FIGURES:
        raise ValueError(f"kind: expected one of {list(FIGURES)}, got {kind!r}.")
    drawn: Figure | list[Artist] = FIGURES[kind].draw(history, ax=ax)
    return drawn


def draw_figures(history: Estimates) -> dict[str, Figure]:
    """Draw what a logger gets, by tag: the figures that this history has the quantities for.

    Args:
        history: estimates of a run.

    Returns:
        "mi/curves"; "mi/information_plane" if both of its quantities were measured, of several tasks one each,
        "mi/information_plane_<task>"; "mi/depth" if there are several layers; "mi/gap" if there are several data sets;
        "mi/noise_sweep" if I(X; T + sigma Z) was measured with several sigma; for more than seven layers
        "mi/heat_map_<quantity>" for each quantity of the curves. Of more than four tasks the first four are drawn.
        Nothing for an empty history.
    """
    if not len(history):
        return {}
    return {
        tag: kind.draw(history, **options) for kind in FIGURES.values() for tag, options in kind.logged(history).items()
    }
