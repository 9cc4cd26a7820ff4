"""The callback for Hugging Face's Trainer, over the same monitoring core as that for Lightning's."""

from __future__ import annotations

import inspect
import math
import weakref
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch.distributed as dist
import transformers
from transformers.integrations.integration_utils import INTEGRATION_TO_CALLBACK
from typing_extensions import override

from mi_callback.collection import CollectionError, PlainHost, Processes, random_state_kept
from mi_callback.collection.positions import Positions
from mi_callback.monitoring.arguments import Settings, data_sets
from mi_callback.monitoring.core import MonitoringCore, Publisher
from mi_callback.monitoring.telling import warn
from mi_callback.reporting import History

__all__ = ["MutualInformationCallback"]


class MutualInformationCallback(transformers.TrainerCallback):
    """Measures the mutual information of a network's layers with its target and its input while Trainer trains.

    What is measured, and under which tags, is told by ``MutualInformationMonitor``, whose arguments these are. Values
    go where ``report_to`` of the training arguments says, and into ``trainer.state.log_history``; Trainer's reporters
    put "train/" before their names. Figures go to TensorBoard, Weights & Biases and MLflow, and for any other into the
    folder ``figures`` of the output directory. Training is the same, to the last bit, as without the callback.

    The history is written into every checkpoint folder as ``mi_history.json``, and training that resumes from there
    goes on with it.

    Args:
        layers: names, globs or labels of layers; None for activation modules of torch, or else blocks.
        quantities: "target" for I(T;Y), "input" for I(X;T).
        every_n_epochs: measure at epochs 0, n, 2n, ...
        max_samples: the most samples to measure on, as a fixed random subset; None for all.
        k: number of neighbours.
        n_permutations: size of the permutation null; 0 for none.
        space: how activations are scaled before distances are taken; "auto" lets candidates compete.
        metric: "euclidean" or "chebyshev".
        unit: "bits" or "nats".
        seed: seed of permutations, subsets and augmentation.
        batch_fn: batch -> (inputs, targets). Not needed for the usual keys: "labels" are the targets, and the model
            gets all others that ``forward`` takes. A third value is what X is in I(X;T), such as the embedding of
            token ids.
        noise_std: standard deviation sigma of measurement noise for I(X; T + sigma Z), or several.
        discrete_target: whether Y is discrete; None goes by type and values.
        active_dropout: measure with dropout drawing as in training.
        on_error: "warn" keeps training when measuring fails; "raise" lets the failure end training.
        n_points: number of evaluation points.
        budget: largest share of the time between two measurements that measuring may take; None for no limit.
        data: "train"; "val" for the Trainer's ``eval_dataset``, several of which are called ``val_<key>``; both; a
            DataLoader, or a dict of names to loaders.
        positions: what to do with the tokens or pixels of a layer: "flatten", "mean", "first", "last", "each", a
            function, or a dict from names of layers to one of these.
        name: stands before all tags, where a Trainer has several of these callbacks.

    Attributes:
        history: everything measured so far.

    Raises:
        ValueError: an argument out of its range, at once; an unknown layer, a batch that is not understood, or data
            that are not there (CollectionError), before the first training step.

    Example:
        >>> from mi_callback.integrations.transformers import MutualInformationCallback
        >>> callback = MutualInformationCallback(every_n_epochs=2)  # Trainer(..., callbacks=[callback])
        >>> callback.history.to_rows()
        []
    """

    def __init__(
        self,
        layers: list[str] | dict[str, str] | str | None = None,
        quantities: tuple[Literal["target", "input"], ...] = ("target", "input"),
        every_n_epochs: int = 1,
        max_samples: int | None = None,
        k: int = 3,
        n_permutations: int = 100,
        space: Literal["auto", "raw", "standard", "scores", "supervised"] = "auto",
        metric: Literal["euclidean", "chebyshev"] = "euclidean",
        unit: Literal["bits", "nats"] = "bits",
        seed: int = 0,
        batch_fn: Callable[[Any], Any] | None = None,
        noise_std: float | list[float] | None = None,
        discrete_target: bool | None = None,
        active_dropout: bool = False,
        on_error: Literal["warn", "raise"] = "warn",
        n_points: int | Literal["auto"] | None = "auto",
        budget: float | None = None,
        data: Any = "train",
        positions: Positions = "flatten",
        name: str | None = None,
    ) -> None:
        settings = Settings(
            caller=type(self).__name__,
            layers=layers,
            quantities=quantities,
            every_n_epochs=every_n_epochs,
            max_samples=max_samples,
            k=k,
            n_permutations=n_permutations,
            space=space,
            metric=metric,
            unit=unit,
            seed=seed,
            batch_fn=batch_fn,
            noise_std=noise_std,
            discrete_target=discrete_target,
            active_dropout=active_dropout,
            positions=positions,
            on_error=on_error,
            n_points=n_points,
            budget=budget,
            name=name,
        )
        self._core = MonitoringCore(settings)
        self._data = data_sets(data, caller=settings.caller)
        self._trainer: Callable[[], transformers.Trainer | None] = lambda: None

    @property
    def history(self) -> History:
        """Everything measured so far."""
        return self._core.history

    @override
    def on_train_begin(
        self,
        args: transformers.TrainingArguments,
        state: transformers.TrainerState,
        control: transformers.TrainerControl,
        **others: Any,
    ) -> None:
        """Try one batch before the first step."""
        trainer = _calling_trainer()
        _refuse_split_models(trainer)
        self._trainer = weakref.ref(trainer)
        is_resumed = state.global_step > 0 and self._resume(args, state.global_step)
        self._core.begin(
            self._host(others), _join(args), epoch=_epoch(state), is_new_run=not is_resumed and state.global_step == 0
        )

    @override
    def on_epoch_end(
        self,
        args: transformers.TrainingArguments,
        state: transformers.TrainerState,
        control: transformers.TrainerControl,
        **others: Any,
    ) -> None:
        """Measure, and give what was found to the Trainer's reporters."""
        epoch = _epoch(state)
        if epoch % self._core.settings.every_n_epochs:
            return
        publisher = Publisher(
            draw=partial(self._draw, args, state), log=partial(self._log, args, state, control, others.get("model"))
        )
        self._core.measure(self._host(others), epoch=epoch, step=state.global_step, publisher=publisher)
        self._core.resume_training()

    @override
    def on_log(
        self,
        args: transformers.TrainingArguments,
        state: transformers.TrainerState,
        control: transformers.TrainerControl,
        logs: Mapping[str, Any] | None = None,
        **others: Any,
    ) -> None:
        """Keep the losses, to be drawn beside the curves; the mean over training, at its end, is not one of them."""
        for key, value in (logs or {}).items():
            if key == "loss" or (key.startswith("eval_") and key.endswith("loss")):
                self.history.set_metric(key, _epoch(state), float(value))

    @override
    def on_save(
        self,
        args: transformers.TrainingArguments,
        state: transformers.TrainerState,
        control: transformers.TrainerControl,
        **others: Any,
    ) -> None:
        """Put the history beside what Trainer has saved."""
        folder = _checkpoint(args, state.global_step)
        if state.is_world_process_zero and folder.is_dir():
            self.history.save(folder / self._file)

    @override
    def on_train_end(
        self,
        args: transformers.TrainingArguments,
        state: transformers.TrainerState,
        control: transformers.TrainerControl,
        **others: Any,
    ) -> None:
        """Let go of what training needed."""
        self._core.end()

    @property
    def _file(self) -> str:
        name = self._core.settings.name
        return "mi_history.json" if name is None else f"mi_history_{name}.json"

    def _resume(self, args: transformers.TrainingArguments, step: int) -> bool:
        """Take over the history of the checkpoint that training resumes from, if it has one."""
        given = args.resume_from_checkpoint
        folders = [Path(given)] if isinstance(given, str) and Path(given).is_dir() else []
        for folder in (*folders, _checkpoint(args, step)):
            if (folder / self._file).exists():
                self._core.history.load_state_dict(History.load(folder / self._file).state_dict())
                return True
        warn(
            f"There is no {self._file} in the checkpoint that training resumes from: the history of mutual information "
            "begins here."
        )
        return False

    def _host(self, others: Mapping[str, Any]) -> PlainHost:
        """The model, and the loaders as Trainer has them now."""
        loaders: dict[str, Any] = {}
        for name, origin in self._data.items():
            if not isinstance(origin, str):
                loaders[name] = origin
            elif origin == "train":
                loaders[name] = others["train_dataloader"]
            else:
                loaders |= {name + suffix: loader for suffix, loader in self._evaluation_loaders().items()}
        return PlainHost(others["model"], loaders)

    def _evaluation_loaders(self) -> dict[str, Any]:
        """Loaders of the Trainer's evaluation data, by what stands behind the name of the data set."""
        trainer = self._trainer()
        if trainer is None or trainer.eval_dataset is None:
            raise CollectionError(
                "data: 'val' was asked for, and this Trainer has no eval_dataset. Give it one, or give a loader: "
                "data={'val': DataLoader(...)}."
            )
        with random_state_kept():
            if isinstance(trainer.eval_dataset, dict):
                return {f"_{key}": trainer.get_eval_dataloader(key) for key in trainer.eval_dataset}
            return {"": trainer.get_eval_dataloader()}

    def _reporters(self) -> list[Any]:
        """Those of the Trainer's callbacks that ``report_to`` has put there."""
        trainer = self._trainer()
        kinds = tuple(INTEGRATION_TO_CALLBACK.values())
        return [] if trainer is None else [one for one in trainer.callback_handler.callbacks if isinstance(one, kinds)]

    def _log(
        self,
        args: transformers.TrainingArguments,
        state: transformers.TrainerState,
        control: transformers.TrainerControl,
        model: Any,
        values: Mapping[str, float],
    ) -> None:
        """As ``Trainer.log`` does, but past the callbacks that print: there are too many values for a line."""
        state.log_history.append({**values, "epoch": state.epoch, "step": state.global_step})
        for reporter in self._reporters():
            try:
                reporter.on_log(args, state, control, model=model, logs=dict(values))
            except Exception as error:  # whatever a reporter raises must not end a training run
                warn(f"{type(reporter).__name__} could not log mutual information: {error!r}", RuntimeWarning)

    def _draw(
        self, args: transformers.TrainingArguments, state: transformers.TrainerState, history: History
    ) -> Sequence[tuple[str, Exception]]:
        """Give the figures to the reporters, on the first process."""
        failures: list[tuple[str, Exception]] = []
        reporters = self._reporters() if state.is_world_process_zero else []
        if reporters:
            try:
                from mi_callback.reporting.figures import draw_figures
                from mi_callback.reporting.loggers import log_figures

                figures = {self._core.prefix + tag: figure for tag, figure in draw_figures(history).items()}
                log_figures(
                    reporters, figures, state.global_step, args.output_dir, lambda *failed: failures.append(failed)
                )
            except Exception as error:
                failures.append(("drawing figures", error))
        return failures


def _calling_trainer() -> transformers.Trainer:
    """The Trainer that has called the callback, found among the callers.

    Trainer hands its callbacks everything but itself and each other. Writers of our own would be further runs beside
    those of ``report_to``, and a second event file in the same folder stops TensorBoard from reading the first.

    Raises:
        CollectionError: somebody else has called.
    """
    frame = inspect.currentframe()
    while frame is not None:
        caller = frame.f_locals.get("self")
        if isinstance(caller, transformers.Trainer):
            return caller
        frame = frame.f_back
    raise CollectionError(
        "MutualInformationCallback: expected to be called by a transformers.Trainer. In another loop use "
        "mi_callback.measure."
    )


def _refuse_split_models(trainer: transformers.Trainer) -> None:
    for is_split, what in (("is_deepspeed_enabled", "DeepSpeed"), ("is_fsdp_enabled", "FSDP")):
        if getattr(trainer, is_split, False):
            raise CollectionError(
                f"Trainer: {what} keeps a part of the model on each device, and layers are measured on whole models. "
                "Train without it, or measure checkpoints with mi_callback.measure in one process."
            )


def _join(args: transformers.TrainingArguments) -> Processes:
    """The processes of a Trainer; a collective call when there are several."""
    if args.world_size == 1:
        return Processes()
    return Processes(args.process_index, args.world_size, dist.new_group(backend="gloo"))


def _epoch(state: transformers.TrainerState) -> int:
    """The number of the epoch that is running or has just ended; Trainer counts in fractions of those done."""
    return max(math.ceil((state.epoch or 0.0) - 1e-6) - 1, 0)


def _checkpoint(args: transformers.TrainingArguments, step: int) -> Path:
    return Path(args.output_dir or ".") / f"checkpoint-{step}"
