"""Mutual information of a network's layers with its input and target, measured while it trains."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mi_callback.callback import MutualInformationMonitor
    from mi_callback.estimation import MutualInformation, mutual_information
    from mi_callback.reporting import History
    from mi_callback.standalone import measure

__all__ = ["History", "MutualInformation", "MutualInformationMonitor", "measure", "mutual_information"]
__version__ = "0.1.0"

_HOMES = {
    "History": "mi_callback.reporting",
    "MutualInformation": "mi_callback.estimation",
    "MutualInformationMonitor": "mi_callback.callback",
    "measure": "mi_callback.standalone",
    "mutual_information": "mi_callback.estimation",
}


def __getattr__(name: str) -> object:
    if name in _HOMES:  # on first use: numba and faiss take a second to load, and estimating needs no Lightning
        value = globals()[name] = getattr(importlib.import_module(_HOMES[name]), name)
        return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
