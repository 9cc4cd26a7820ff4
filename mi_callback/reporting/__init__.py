"""Records in, curves and figures out: the history of a run, its figures, and the way into loggers."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from mi_callback.reporting.history import History
from mi_callback.reporting.loggers import log_figures, log_layout
from mi_callback.reporting.report import write_report
from mi_callback.reporting.series import Ceiling, Series
from mi_callback.reporting.table import summary

if TYPE_CHECKING:
    from mi_callback.reporting.figures import (
        curves,
        depth_profile,
        draw_figures,
        gap,
        heat_map,
        information_plane,
        overlay,
    )

__all__ = [
    "Ceiling",
    "History",
    "Series",
    "curves",
    "depth_profile",
    "draw_figures",
    "gap",
    "heat_map",
    "information_plane",
    "log_figures",
    "log_layout",
    "overlay",
    "summary",
    "write_report",
]


def __getattr__(name: str) -> object:
    if not name.startswith("_"):  # on first use, so that a history can be kept and read without matplotlib
        figures = importlib.import_module("mi_callback.reporting.figures")
        if name in figures.__all__:
            return getattr(figures, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
