"""Figures to whatever loggers a trainer has, each by its natural call. No logger's package is imported here."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["log_figures", "log_layout"]

_log = logging.getLogger(__name__)
_TILE_DPI = 110  # TensorBoard's tiles show every n-th pixel of a larger picture: finer lines would be lost


def log_figures(
    loggers: Iterable[Any],
    figures: Mapping[str, Figure],
    step: int,
    fallback_dir: str | Path | None,
    on_failure: Callable[[str, Exception], None] | None = None,
) -> None:
    """Give every figure to every logger; one that fails does not keep the others from theirs.

    Loggers are told apart by the names of their classes and base classes, so that those of ``lightning`` and of
    ``pytorch_lightning``, and subclasses of either, work alike. A logger without figures of its own gets PNG files in
    the folder ``figures`` of its ``log_dir`` or ``save_dir``.

    Args:
        loggers: Lightning loggers, as in ``trainer.loggers``.
        figures: figures by tag, such as "mi/information_plane".
        step: global step at which they are logged.
        fallback_dir: folder for the PNG files of a logger that names none, such as ``trainer.default_root_dir``; None
            leaves such a logger without figures.
        on_failure: called with what failed and why, such as a full disk; None writes a warning to the log.
    """
    for logger in loggers:
        names = [cls.__name__ for cls in type(logger).__mro__]
        if "DummyLogger" in names:  # what fast_dev_run puts in place of a logger: it claims to have every method
            continue
        write = next((_WRITERS[name] for name in names if name in _WRITERS), None)
        for tag, figure in figures.items():
            try:
                if write is not None:
                    write(logger, tag, figure, step)
                else:
                    _save_png(logger, tag, figure, step, fallback_dir)
            except Exception as error:  # whatever a logger raises must not end a training run
                if on_failure is None:
                    _log.warning("%s could not log the figure %r at step %d: %r", names[0], tag, step, error)
                else:
                    on_failure(f"giving {tag} to {names[0]}", error)


def _file_name(tag: str, step: int) -> str:
    """Name of a figure's file: flat, and in the order of steps when sorted by name."""
    return f"{tag.replace('/', '_')}_step_{step:08d}.png"


def _tensorboard(logger: Any, tag: str, figure: Figure, step: int) -> None:
    dpi = figure.get_dpi()
    figure.set_dpi(_TILE_DPI)
    try:
        logger.experiment.add_figure(tag, figure, global_step=step, close=False)
    finally:
        figure.set_dpi(dpi)


def _log_image(logger: Any, tag: str, figure: Figure, step: int) -> None:
    logger.log_image(tag, [figure], step=step)


def _mlflow(logger: Any, tag: str, figure: Figure, step: int) -> None:
    logger.experiment.log_figure(logger.run_id, figure, f"{tag}/step_{step:08d}.png")


def _comet(logger: Any, tag: str, figure: Figure, step: int) -> None:
    logger.experiment.log_figure(figure_name=tag, figure=figure, step=step, overwrite=False)


def _dvclive(logger: Any, tag: str, figure: Figure, step: int) -> None:
    logger.experiment.log_image(_file_name(tag, step), figure)


def _save_png(logger: Any, tag: str, figure: Figure, step: int, fallback_dir: str | Path | None) -> None:
    folders = (getattr(logger, "log_dir", None), getattr(logger, "save_dir", None), fallback_dir)
    folder = next((Path(f) for f in folders if isinstance(f, str | Path)), None)
    if folder is None:
        return
    path = folder / "figures" / _file_name(tag, step)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)


def _tensorboard_reporter(reporter: Any, tag: str, figure: Figure, step: int) -> None:
    reporter.tb_writer.add_figure(tag, figure, global_step=step, close=False)


def _wandb_reporter(reporter: Any, tag: str, figure: Figure, step: int) -> None:
    reporter._wandb.log({tag: reporter._wandb.Image(figure), "train/global_step": step})


def _mlflow_reporter(reporter: Any, tag: str, figure: Figure, step: int) -> None:
    reporter._ml_flow.log_figure(figure, f"{tag}/step_{step:08d}.png")


_WRITERS: dict[str, Callable[[Any, str, Figure, int], None]] = {
    "TensorBoardLogger": _tensorboard,
    "WandbLogger": _log_image,
    "MLFlowLogger": _mlflow,
    "CometLogger": _comet,
    "DVCLiveLogger": _dvclive,
    "SwanLabLogger": _log_image,
    # of transformers' Trainer
    "TensorBoardCallback": _tensorboard_reporter,
    "WandbCallback": _wandb_reporter,
    "MLflowCallback": _mlflow_reporter,
}


def log_layout(loggers: Iterable[Any], tags: Mapping[str, bool]) -> None:
    """Give TensorBoard a layout of custom scalars in which all layers of a quantity share a chart; others need none.

    Args:
        loggers: Lightning loggers, as in ``trainer.loggers``.
        tags: beginning of the tags of each quantity logged, such as "mi_target" or "wide/mi_target_val", to whether a
            p-value is logged with it.
    """
    charts = {tag: ["Multiline", [f"{re.escape(tag)}/.*"]] for tag in tags}
    doubts = {
        f"{tag} p-value": ["Multiline", [f"{re.escape(tag)}_pvalue/.*"]] for tag, has_null in tags.items() if has_null
    }
    for logger in loggers:
        if any(cls.__name__ == "TensorBoardLogger" for cls in type(logger).__mro__):
            try:
                logger.experiment.add_custom_scalars({"mutual information": charts, "significance": doubts})
            except Exception as error:  # whatever a logger raises must not end a training run
                _log.warning("%s could not log the layout of scalars: %r", type(logger).__name__, error)
