"""EarlyStopping beside a monitor that does not measure at every epoch: it takes an old value for no improvement."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from mi_callback.monitoring.telling import warn

if TYPE_CHECKING:
    from lightning.pytorch import Trainer

__all__ = ["warn_of_stale_values"]


def warn_of_stale_values(trainer: Trainer, prefix: str, every_n_epochs: int) -> None:
    """Warn about an EarlyStopping whose patience ends before the next value is measured.

    It looks at the monitored value at every epoch, or validation, also where that was not logged anew.

    Args:
        trainer: a trainer whose data are set up.
        prefix: what stands before the monitor's tags, empty or ending in a slash.
        every_n_epochs: epochs from one measurement to the next.
    """
    for callback in trainer.callbacks:  # type: ignore[attr-defined]
        watched, patience = str(getattr(callback, "monitor", "")), getattr(callback, "patience", None)
        # by name: there is one in lightning and one in pytorch_lightning
        is_stopping = any(cls.__name__ == "EarlyStopping" for cls in type(callback).__mro__)
        if not is_stopping or patience is None or not watched.startswith(f"{prefix}mi_"):
            continue
        checks = _checks_a_measurement(trainer, callback, every_n_epochs)
        if checks > 1 and patience < checks:
            warn(
                f"EarlyStopping({watched!r}, patience={patience}) ends training before a second value is there: it "
                f"looks {checks} times for each value that is measured with every_n_epochs={every_n_epochs}, and takes "
                f"one that has not changed for no improvement. Use patience={max(patience, 1) * checks} to wait for "
                f"{max(patience, 1)} measurements without improvement.",
            )


def _checks_a_measurement(trainer: Trainer, stopping: Any, every_n_epochs: int) -> int:
    """How often EarlyStopping looks from one measurement to the next, rounded up; 0 where it never does."""
    if stopping._check_on_train_epoch_end:
        return every_n_epochs
    if not trainer.enable_validation:
        return 0
    batches, every = float(trainer.num_training_batches), float(trainer.val_check_batch or math.inf)
    known = math.isfinite(batches) and math.isfinite(every)
    if trainer.check_val_every_n_epoch is None:  # counts batches through the epochs
        return math.ceil(every_n_epochs * batches / every) if known else 0
    an_epoch = max(int(batches // every), 1) if known else 1
    return math.ceil(every_n_epochs * an_epoch / trainer.check_val_every_n_epoch)
