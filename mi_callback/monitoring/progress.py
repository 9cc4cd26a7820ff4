"""A progress bar for what takes seconds, where the trainer shows one."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lightning.pytorch import Trainer

__all__ = ["Progress", "no_progress", "progress_bar"]

Progress = Callable[[str], contextlib.AbstractContextManager[Callable[[int, int | None], None]]]
"""From what goes on to what shows how far it is, see ``progress_bar``."""

_PATIENCE = 2.0  # seconds before a bar appears: what is over by then needs none; by hand


@contextlib.contextmanager
def no_progress(description: str) -> Iterator[Callable[[int, int | None], None]]:
    """Show nothing."""
    yield lambda done, total: None


@contextlib.contextmanager
def progress_bar(trainer: Trainer, description: str) -> Iterator[Callable[[int, int | None], None]]:
    """Show how far something is, in the manner of the trainer's own bar, and nothing where that is off.

    Args:
        trainer: the trainer.
        description: what goes on.

    Yields:
        To be called with how many are done and how many there are, if that is known.
    """
    shown: Any = trainer.progress_bar_callback
    names = {cls.__name__ for cls in type(shown).__mro__}
    make = next((maker for name, maker in _MAKERS.items() if name in names), None)
    if make is None or not shown.is_enabled:
        yield lambda done, total: None
        return
    bar = _Late(lambda total: make(shown, description, total))
    try:
        yield bar.update
    finally:
        bar.close()


class _Late:
    """A bar that is made when the wait gets long. A bar that fails is given up: it is only a bar."""

    def __init__(self, make: Callable[[int | None], tuple[Callable[[int], Any], Callable[[], Any]]]) -> None:
        self._make = make
        self._began = time.monotonic()
        self._move: Callable[[int], Any] | None = None
        self._end: Callable[[], Any] | None = None

    def update(self, done: int, total: int | None) -> None:
        if time.monotonic() - self._began < _PATIENCE:
            return
        with contextlib.suppress(Exception):
            if self._move is None:
                self._move, self._end = self._make(total)
            self._move(done)

    def close(self) -> None:
        if self._end is not None:
            with contextlib.suppress(Exception):
                self._end()


def _tqdm(shown: Any, description: str, total: int | None) -> tuple[Callable[[int], Any], Callable[[], Any]]:
    from tqdm.auto import tqdm

    bar = tqdm(total=total, desc=description, leave=False, dynamic_ncols=True)
    return lambda done: bar.update(done - bar.n), bar.close


def _rich(shown: Any, description: str, total: int | None) -> tuple[Callable[[int], Any], Callable[[], Any]]:
    task = shown.progress.add_task(description, total=total)

    def move(done: int) -> None:
        shown.progress.update(task, completed=done)
        shown.refresh()

    return move, lambda: shown.progress.remove_task(task)


_MAKERS = {"TQDMProgressBar": _tqdm, "RichProgressBar": _rich}
