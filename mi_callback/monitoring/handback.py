"""From processes that Lightning has spawned or forked back to the monitor of the process that started them.

Their callbacks are copies, and Lightning takes back weights and metrics only. The first process of a machine leaves its
monitor's state in a file of the temporary folder; the monitor it was copied from takes it from there.
"""

from __future__ import annotations

import os
import tempfile
import uuid
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from mi_callback.monitoring.telling import warn

if TYPE_CHECKING:
    from lightning.pytorch import Trainer

__all__ = ["Handback"]


class Handback:
    """A place that a monitor and its copies in processes started for training both know, and nobody else."""

    def __init__(self) -> None:
        self._renew()

    def _renew(self) -> None:
        self._owner = os.getpid()
        self._name = f"mi_callback_{uuid.uuid4().hex}.pt"
        weakref.finalize(self, _discard, self._name, self._owner)

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        if self._owner == os.getpid():  # a copy in the same process is a monitor of its own
            self._renew()

    def leave(self, trainer: Trainer, state: Callable[[], dict[str, Any]]) -> None:
        """Leave the state, if this is a process that was started for training; the first one of a machine does."""
        # by name: there is one in lightning and one in pytorch_lightning
        launchers = {cls.__name__ for cls in type(trainer.strategy.launcher).__mro__}
        if self._owner == os.getpid() or "_MultiProcessingLauncher" not in launchers or trainer.local_rank != 0:
            return
        try:
            path = _place(self._name)
            unfinished = path.with_suffix(".tmp")
            torch.save(state(), unfinished)
            os.replace(unfinished, path)
        except OSError as error:
            warn(
                f"The history could not be handed back to the process that started training ({error}), where it stays "
                "as it was. It is in checkpoints; make room in the temporary folder, or name another by TMPDIR.",
                category=RuntimeWarning,
            )

    def take(self) -> dict[str, Any] | None:
        """What was left for this monitor and not taken yet, or None; always None for a copy in another process."""
        return self.look() if self._owner == os.getpid() else None

    def look(self) -> dict[str, Any] | None:
        """The same for copies too, who leave it in its place: to be asked before training, not after."""
        try:
            path = _place(self._name)
            if not path.exists():
                return None
            state: dict[str, Any] = torch.load(path, weights_only=True)
            if self._owner == os.getpid():
                path.unlink()
        except OSError:
            return None
        return state


def _place(name: str) -> Path:
    return Path(tempfile.gettempdir()) / name


def _discard(name: str, owner: int) -> None:
    """Remove what was left and never taken."""
    if os.getpid() == owner:
        _place(name).unlink(missing_ok=True)
