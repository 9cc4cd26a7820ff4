"""Warnings and remarks, told by the first process alone and without needing Lightning."""

from __future__ import annotations

import logging
import os
import sys
import warnings
from typing import Any

import torch.distributed as dist

__all__ = ["info", "warn"]

_log = logging.getLogger("mi_callback")
# Where launchers put a process's number before it joins a group, in the order in which Lightning asks them.
_RANKS = ("RANK", "LOCAL_RANK", "SLURM_PROCID", "JSM_NAMESPACE_RANK")


def warn(message: str, category: type[Warning] = UserWarning) -> None:
    """Warn, on the first process."""
    if (lightning := _lightning()) is not None:
        lightning.rank_zero_warn(message, category=category, stacklevel=5)
    elif _is_first():
        warnings.warn(message, category, stacklevel=3)


def info(message: str) -> None:
    """Say something that is no warning, on the first process: to Lightning's log where it is in use, which shows."""
    if (lightning := _lightning()) is not None:
        lightning.rank_zero_info(message)
    elif _is_first():
        _log.info(message)


def _lightning() -> Any:
    """Lightning's way to tell, which knows the processes that it has started; None where Lightning is not in use."""
    return sys.modules.get("lightning.pytorch.utilities.rank_zero")


def _is_first() -> bool:
    if dist.is_available() and dist.is_initialized():
        return dist.get_rank() == 0
    return next((os.environ[name] for name in _RANKS if name in os.environ), "0") == "0"
