"""A model in a Lightning trainer that is fitting: its loaders, its precision, and what must not be seen to happen."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from mi_callback.collection.errors import CollectionError
from mi_callback.collection.host import check_is_here
from mi_callback.collection.isolation import frozen, random_state_kept
from mi_callback.collection.loaders import Source, fresh_source, side_by_side
from mi_callback.collection.samples import Share

if TYPE_CHECKING:
    from lightning.pytorch import LightningModule, Trainer

__all__ = ["LightningHost"]


class LightningHost:
    """A trainer and its model, see ``Host``. Batches go the way they go in training.

    Args:
        trainer: the trainer, fitting.
        pl_module: the model.
        data: name of a data set to where it comes from: "train", "val", or a loader. None for training data. Several
            validation loaders are a data set each, with their number or key behind the name.

    Raises:
        CollectionError: validation data are asked for and there are none, or the model is on no device.
    """

    def __init__(self, trainer: Trainer, pl_module: LightningModule, data: Mapping[str, Any] | None = None) -> None:
        check_is_here(pl_module)
        self.model = pl_module
        self._trainer = trainer
        self._sources: dict[str, tuple[str, Any]] = {}  # to what kind of loader it is, and the loader
        for name, origin in (data or {"train": "train"}).items():
            if origin == "val" and isinstance(origin, str):
                for suffix, loader in self._validation_loaders().items():
                    self._sources[name + suffix] = ("val", loader)
            elif isinstance(origin, str):
                self._sources[name] = ("train", None)
            else:
                self._sources[name] = ("given", origin)

    @property
    def data(self) -> tuple[str, ...]:
        """Names of the data sets, those of several validation loaders apart."""
        return tuple(self._sources)

    def source(self, data: str, share: Share) -> Source:
        """The batches of one of the data sets, within the trainer's limits on its own."""
        if data not in self._sources:
            raise CollectionError(f"data: {data!r} has gone; the trainer now has {list(self._sources)}.")
        from lightning.pytorch.utilities import CombinedLoader

        trainer, (kind, loader) = self._trainer, self._sources[data]
        if kind == "given":
            return fresh_source(loader, share)
        if kind == "val":
            if isinstance(loader, CombinedLoader):
                return side_by_side(CombinedLoader(loader.iterables, loader._mode), share, trainer.limit_val_batches)
            return fresh_source(loader, share, trainer.limit_val_batches)
        if trainer.train_dataloader is None:
            raise CollectionError(f"{share.loader}: the trainer has no training loader to measure on.")
        return side_by_side(CombinedLoader(trainer.train_dataloader, "min_size"), share, trainer.limit_train_batches)

    def _validation_loaders(self) -> dict[str, Any]:
        """The trainer's validation loaders, by what stands behind the name of the data set: nothing for a single one.

        Those that Lightning has built, where it has; it builds them when it first validates. Before that the module or
        data module is asked for its own, once at every measurement: a loader that we let Lightning keep would spare it
        the question, and so change what is drawn from random numbers.
        """
        from lightning.pytorch.utilities import CombinedLoader

        trainer = self._trainer
        if not trainer.enable_validation:
            raise CollectionError(
                "data: 'val' was asked for, and this trainer does not validate. Define val_dataloader and "
                "validation_step, leave limit_val_batches above 0, or give a loader: data={'val': DataLoader(...)}."
            )
        loop = trainer.fit_loop.epoch_loop.val_loop
        combined = loop._combined_loader
        if combined is None:
            with random_state_kept():
                loaders = loop._data_source.dataloader()
            combined = loaders if isinstance(loaders, CombinedLoader) else CombinedLoader(loaders, "sequential")
        if combined._mode != "sequential":  # its loaders give one batch together
            return {"": combined}
        loaders = combined.iterables
        if isinstance(loaders, Mapping) and len(loaders) == len(combined.flattened):
            return {f"_{key}": loader for key, loader in loaders.items()}
        flat = list(combined.flattened)
        if not flat:
            raise CollectionError("val_dataloader: expected at least one loader, got an empty collection.")
        return {"": flat[0]} if len(flat) == 1 else {f"_{i}": loader for i, loader in enumerate(flat)}

    @contextlib.contextmanager
    def frozen(self, *, active_dropout: bool) -> Iterator[None]:
        """Evaluate the model in a block.

        The trainer's stage says "validating" meanwhile, so that training-time augmentation on the device stays off, and
        is restored. What ``forward`` logs is dropped: it would count into the means of the training metrics.

        Args:
            active_dropout: leave dropout modules in training mode.
        """
        trainer, module = self._trainer, self.model
        stage, hook = trainer.state.stage, module._current_fx_name
        with _muted(module), frozen(module, active_dropout=active_dropout):
            try:
                trainer.state.stage = type(stage).VALIDATING if stage is not None else None
                yield
            finally:
                trainer.state.stage = stage
                module._current_fx_name = hook  # a transfer hook that raises leaves its own name there

    def as_in_training(self, batch: Any) -> Any:
        """A batch through the trainer's precision and the hooks of module and data module to the device."""
        trainer = self._trainer
        batch = trainer.precision_plugin.convert_input(batch)
        batch = self.model._on_before_batch_transfer(batch, dataloader_idx=0)
        return trainer.strategy.batch_to_device(batch, dataloader_idx=0)

    def forward_context(self) -> contextlib.AbstractContextManager[Any]:
        """The trainer's precision."""
        return self._trainer.precision_plugin.forward_context()


@contextlib.contextmanager
def _muted(pl_module: LightningModule) -> Iterator[None]:
    """Drop what ``forward`` logs."""
    names = ("log", "log_dict")
    own = {name: pl_module.__dict__[name] for name in names if name in pl_module.__dict__}
    try:
        for name in names:
            pl_module.__dict__[name] = _ignore
        yield
    finally:
        for name in names:
            pl_module.__dict__.pop(name, None)
        pl_module.__dict__.update(own)


def _ignore(*_: object, **__: object) -> None:
    """Takes the place of ``log`` while a model is only looked at."""
