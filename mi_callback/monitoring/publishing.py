"""To where users look: scalars through the module, figures and layouts to the loggers."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from mi_callback.estimation.layer_estimator import Measured
from mi_callback.quantities import QUANTITIES, quantity
from mi_callback.reporting.history import History

if TYPE_CHECKING:
    from lightning.pytorch import LightningModule, Trainer

__all__ = ["draw", "lay_out", "layer_dimensions", "log_scalars", "logged_step", "losses", "scalars", "tag_of"]


def logged_step(trainer: Trainer) -> int:
    """The step at which Lightning writes what is logged at the end of an epoch."""
    return max(trainer.fit_loop.epoch_loop._batches_that_stepped - 1, 0)


def tag_of(name: str, data: str) -> str:
    """Beginning of a quantity's tags; of all data but training data it ends in their name."""
    return quantity(name).tag if data == "train" else f"{quantity(name).tag}_{data}"


def scalars(results: Sequence[Measured], data: str = "train") -> dict[str, float]:
    """What is logged of one data set, by tag."""
    values: dict[str, float] = {}
    for result in results:
        estimate, tag = result.estimate, tag_of(result.quantity, data)
        low, high = estimate.interval
        parts = {"": estimate.mi, "_low": low, "_high": high, "_raw": estimate.raw, "_stderr": estimate.stderr}
        if estimate.p_value is not None:
            parts |= {"_null_std": estimate.null_std, "_pvalue": estimate.p_value}
        values |= {f"{tag}{suffix}/{result.layer}": value for suffix, value in parts.items()}
    dimension = tag_of("dimension", data)
    return values | {f"{dimension}/{layer}": value for layer, value in layer_dimensions(results).items()}


def log_scalars(trainer: Trainer, pl_module: LightningModule, values: Mapping[str, float]) -> None:
    """Log through the module, the one way that EarlyStopping and ModelCheckpoint can see."""
    if trainer.barebones:
        return
    several = trainer.world_size > 1  # all have the same values: the largest is the value, and a mean might round
    for name, value in values.items():
        pl_module.log(
            name,
            float(value),
            on_step=False,
            on_epoch=True,
            batch_size=1,
            sync_dist=several,
            reduce_fx="max" if several else "mean",
        )


def layer_dimensions(results: Sequence[Measured]) -> dict[str, float]:
    """Intrinsic dimension of each layer: a property of the layer, whichever of its estimates it was read off."""
    dimensions: dict[str, float] = {}
    # in one order: read off another quantity it differs where rare classes are left out
    for name, one in QUANTITIES.items():
        for result in results if one.has_dimension else ():
            if name in (result.quantity, quantity(result.quantity).base) and not math.isfinite(
                dimensions.get(result.layer, math.nan)
            ):
                dimensions[result.layer] = result.estimate.intrinsic_dim
    return dimensions


def draw(trainer: Trainer, history: History, step: int, prefix: str = "") -> list[tuple[str, Exception]]:
    """Give the figures to the loggers, from the first process; every process must call. Tags begin with prefix.

    Returns:
        What failed, and why.
    """
    directory = trainer.log_dir or trainer.default_root_dir  # asking for log_dir is a collective
    failures: list[tuple[str, Exception]] = []
    if trainer.is_global_zero and trainer.loggers:
        try:
            from mi_callback.reporting.figures import draw_figures
            from mi_callback.reporting.loggers import log_figures

            figures = {prefix + tag: figure for tag, figure in draw_figures(history).items()}
            log_figures(trainer.loggers, figures, step, directory, lambda what, why: failures.append((what, why)))
        except Exception as error:
            failures.append(("drawing figures", error))
    return failures


def lay_out(trainer: Trainer, tags: Mapping[str, bool]) -> None:
    """Show loggers that can use it which scalars belong in one chart, see ``log_layout``."""
    if trainer.is_global_zero:
        from mi_callback.reporting.loggers import log_layout

        log_layout(trainer.loggers, tags)


def losses(trainer: Trainer) -> dict[str, float]:
    """The losses that training and validation have logged, by name."""
    metrics = {name: float(value) for name, value in trainer.callback_metrics.items() if "loss" in name.lower()}
    return {
        name: value
        for name, value in metrics.items()
        if not name.endswith("_step") and name.removesuffix("_epoch") not in metrics.keys() - {name}
    }
