"""Figures of a history, one file each, on a common look and common annotations; ``catalogue`` lists them."""

from mi_callback.reporting.figures.catalogue import draw_figures
from mi_callback.reporting.figures.curves import curves
from mi_callback.reporting.figures.depth_profile import depth_profile
from mi_callback.reporting.figures.gap import gap
from mi_callback.reporting.figures.heat_map import heat_map
from mi_callback.reporting.figures.information_plane import information_plane
from mi_callback.reporting.figures.overlay import overlay

__all__ = ["curves", "depth_profile", "draw_figures", "gap", "heat_map", "information_plane", "overlay"]
