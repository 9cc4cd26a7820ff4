"""What a sweep asks of whoever runs the model: how batches come to it, under what precision, and from where."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from mi_callback.collection.errors import CollectionError
from mi_callback.collection.isolation import frozen
from mi_callback.collection.loaders import Source, fresh_source
from mi_callback.collection.samples import Share

__all__ = ["SPLIT_STRATEGIES", "Host", "PlainHost", "check_is_here"]

SPLIT_STRATEGIES = frozenset({"FSDPStrategy", "DeepSpeedStrategy", "ModelParallelStrategy", "XLAFSDPStrategy"})
"""Strategies of Lightning and Fabric that keep a part of the model on each device."""

_WRAPPERS = frozenset({"DistributedDataParallel", "DataParallel"})  # their forward may wait for other processes
_SPLIT = frozenset({"FullyShardedDataParallel", "FSDPModule", "DeepSpeedEngine"})


class Host(Protocol):
    """The surroundings of a model: a trainer, or none.

    Attributes:
        model: the model itself, in no wrapper of distributed training.
    """

    @property
    def model(self) -> nn.Module:
        """The model."""

    @property
    def data(self) -> tuple[str, ...]:
        """Names of the data sets, in the order in which they are measured."""

    def source(self, data: str, share: Share) -> Source:
        """The batches of one of the data sets, read anew."""

    def frozen(self, *, active_dropout: bool) -> contextlib.AbstractContextManager[None]:
        """Evaluate the model in a block, and put back all that this changes."""

    def as_in_training(self, batch: Any) -> Any:
        """A batch as the model gets it, on its device."""

    def forward_context(self) -> contextlib.AbstractContextManager[Any]:
        """Run the model under the precision that it trains with."""


class PlainHost:
    """A model that no trainer of Lightning runs, on the device on which it is.

    Wrappers of distributed training are taken off, so that a single process may measure while others wait. A model that
    Fabric has set up runs under Fabric's precision.

    Args:
        model: the model.
        loaders: name of a data set to its loader.

    Raises:
        CollectionError: the model is on no device, or split over several.
    """

    def __init__(self, model: nn.Module, loaders: Mapping[str, Any]) -> None:
        self._fabric: Any = None
        inner: Any = model
        while True:
            names = {cls.__name__ for cls in type(inner).__mro__}
            if names & _SPLIT:
                raise CollectionError(
                    f"model: {type(inner).__name__} keeps a part of the model on each device, and layers are measured "
                    "on whole models. Measure a checkpoint of the whole model in one process."
                )
            if "_FabricModule" in names:
                self._fabric = inner._strategy
                _refuse_split(self._fabric)
            elif not names & _WRAPPERS:
                break
            inner = inner.module
        check_is_here(inner)
        self.model: nn.Module = inner
        self._loaders = dict(loaders)

    @property
    def data(self) -> tuple[str, ...]:
        """Names of the loaders."""
        return tuple(self._loaders)

    def source(self, data: str, share: Share) -> Source:
        """The batches of one of the loaders."""
        return fresh_source(self._loaders[data], share)

    def frozen(self, *, active_dropout: bool) -> contextlib.AbstractContextManager[None]:
        """Evaluate the model in a block."""
        return frozen(self.model, active_dropout=active_dropout)

    def as_in_training(self, batch: Any) -> Any:
        """A batch on the device of the model."""
        if self._fabric is not None:
            return self._fabric.batch_to_device(self._fabric.precision.convert_input(batch))
        first = next(_tensors(self.model), None)
        return batch if first is None else _moved(batch, first.device)

    def forward_context(self) -> contextlib.AbstractContextManager[Any]:
        """Fabric's precision, if it has set up the model."""
        return contextlib.nullcontext() if self._fabric is None else self._fabric.precision.forward_context()


def check_is_here(model: nn.Module) -> None:
    """Refuse a model without values.

    Raises:
        CollectionError: a parameter or buffer is on the meta device.
    """
    gone = [name for name, value in (*model.named_parameters(), *model.named_buffers()) if value.is_meta]
    if gone:
        raise CollectionError(
            f"model: expected values on a device, got {', '.join(gone[:3])}{' and more' if len(gone) > 3 else ''} on "
            "the meta device, which has shapes only. Load the weights before measuring: model.to_empty(device='cpu'), "
            "then model.load_state_dict(...)."
        )


def _refuse_split(strategy: Any) -> None:
    if {cls.__name__ for cls in type(strategy).__mro__} & SPLIT_STRATEGIES:
        raise CollectionError(
            f"model: {type(strategy).__name__} keeps a part of the model on each device, and layers are measured on "
            "whole models. Use strategy='ddp' or a single device, or measure checkpoints in one process."
        )


def _tensors(model: nn.Module) -> Iterator[Tensor]:
    yield from model.parameters()
    yield from model.buffers()


def _moved(value: Any, device: torch.device) -> Any:
    """A batch with all its tensors on a device; batches with a way of their own to move take that."""
    if isinstance(value, Tensor) or (hasattr(value, "to") and callable(value.to)):
        return value.to(device)
    if isinstance(value, Mapping):
        return {key: _moved(part, device) for key, part in value.items()}
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*(_moved(part, device) for part in value))
    if isinstance(value, Sequence) and not isinstance(value, str | bytes):
        moved = [_moved(part, device) for part in value]
        return tuple(moved) if isinstance(value, tuple) else moved
    return value
