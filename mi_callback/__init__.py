"""Mutual information of a network's layers with its input and target, measured while it trains."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mi_callback.estimation import MutualInformation, mutual_information

if TYPE_CHECKING:
    from mi_callback.callback import MutualInformationMonitor

__all__ = ["MutualInformation", "MutualInformationMonitor", "mutual_information"]
__version__ = "0.1.0"


def __getattr__(name: str) -> object:
    if name == "MutualInformationMonitor":  # imported on first use, so that estimating never pulls in Lightning
        from mi_callback.callback import MutualInformationMonitor

        return MutualInformationMonitor
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
