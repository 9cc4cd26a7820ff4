"""Forward hooks that write a layer's values straight into the arrays that a sweep returns."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from numpy.typing import NDArray
from torch import Tensor, nn

from mi_callback.collection.batches import check_rows, describe, first_tensor, rows_of
from mi_callback.collection.errors import CollectionError
from mi_callback.collection.layers import Layer
from mi_callback.collection.positions import Draw, FeatureAxis, Grid, grid_of, pooled
from mi_callback.collection.reduction import Reducer
from mi_callback.collection.storage import Rows, Storage

__all__ = ["Recorder"]

_ADVICE = "Where lengths vary choose positions='mean', 'first', 'last' or 'each', or pad all batches to one length."
_MAX_CALLS = 16  # by hand: a module that fires more often in one forward pass is the cell of a loop, not a layer


class Recorder:
    """Collects the values of layers over the batches of one sweep.

    A module that fires several times in a forward pass gives one layer a call. A layer that cannot be collected
    fails by itself; the others go on. Layers wider than ``WIDTH_LIMIT`` are reduced batch by batch.

    Attributes:
        reductions: label to what was done, for the layers that were reduced or of whose positions something was made.
        pooled: labels of the layers of whose positions something was made: they do not bound what a later layer knows.
        at_positions: labels of those of them that are one position of each sample.
    """

    def __init__(self, layers: Sequence[Layer], storage: Storage, capacity: int | None) -> None:
        self._layers = layers
        self._storage = storage
        self._capacity = capacity
        self._rows: dict[int, list[Rows]] = {}
        self._errors: dict[int, Exception] = {}
        self._calls: dict[int, int] = {}
        self._reduce = Reducer()
        self._axis = FeatureAxis()
        self._mask: Tensor | None = None
        self._draw: Draw | None = None
        self._grids: set[Grid] | None = None
        self.reductions: dict[str, str] = {}
        self.pooled: set[str] = set()
        self.at_positions: set[str] = set()
        self._start = self._batch = self._keep = 0

    @property
    def draws(self) -> bool:
        """Whether any layer is measured at one position of each sample."""
        return any(layer.positions == "each" for layer in self._layers)

    @contextlib.contextmanager
    def attached(self, model: nn.Module) -> Iterator[None]:
        """Hook the modules of a model for the length of a block."""
        with contextlib.ExitStack() as stack:
            if any(layer.positions != "flatten" for layer in self._layers):
                stack.enter_context(self._axis.attached(model))  # first, so that it knows of a layer before its hook
            for i, layer in enumerate(self._layers):
                if layer.module is not None:
                    stack.callback(layer.module.register_forward_hook(self._hook(i)).remove)
            yield

    @contextlib.contextmanager
    def looking(self) -> Iterator[set[Grid]]:
        """For the length of a block, keep nothing but the grids of the layers to be measured at one position."""
        self._grids = set()
        try:
            yield self._grids
        finally:
            self._grids = None

    def start(self, start: int, batch: int, keep: int, *, mask: Tensor | None = None, draw: Draw | None = None) -> None:
        """Announce a batch.

        Args:
            start: its first row.
            batch: its size b.
            keep: how many of its samples to keep.
            mask: shape (b, l), positions that count; None for all.
            draw: the positions drawn, where a layer is measured at one.
        """
        self._check_calls()
        self._start, self._batch, self._keep = start, batch, keep
        self._mask, self._draw = mask, draw
        self._calls = dict.fromkeys(range(len(self._layers)), 0)

    def output(self, value: Any) -> None:
        """Take the model's own output."""
        for i, layer in enumerate(self._layers):
            if layer.module is None:
                self._take(i, value, 0)

    def finish(self, n: int) -> tuple[dict[str, NDArray[Any]], dict[str, Exception]]:
        """Arrays by label, and the errors of layers that have none."""
        self._check_calls()
        met = {layer.request for i, layer in enumerate(self._layers) if self._rows.get(i)}
        arrays: dict[str, NDArray[Any]] = {}
        failures: dict[str, Exception] = {}
        for i, layer in enumerate(self._layers):
            rows = self._rows.get(i, [])
            if i in self._errors:
                if layer.module is not None or layer.request is not None or rows:
                    failures[layer.label] = self._errors[i]
            elif rows:
                for call, part in enumerate(rows, start=1):
                    label = layer.label if len(rows) == 1 else f"{layer.label}.call{call}"
                    arrays[label] = part.finish(n)  # type: ignore[assignment]
                    if layer.label in self.reductions:
                        self.reductions[label] = self.reductions[layer.label]
                    for labels in (self.pooled, self.at_positions):
                        if layer.label in labels:
                            labels.add(label)
            elif layer.request not in met:
                failures[layer.label] = CollectionError(
                    f"layers: {layer.request!r} never fired in {n} samples: forward(x) does not call it. Choose a "
                    "layer that the model's forward pass runs through, or say how to call the model with batch_fn."
                )
        return arrays, failures

    def _hook(self, i: int) -> Callable[[nn.Module, Any, Any], None]:
        batch_dim = 1 if getattr(self._layers[i].module, "batch_first", True) is False else 0

        def hook(module: nn.Module, args: Any, output: Any) -> None:
            self._take(i, output, batch_dim)

        return hook

    def _take(self, i: int, value: Any, batch_dim: int) -> None:
        """Write a value at once, before an in-place operation further on overwrites it."""
        layer = self._layers[i]
        if self._grids is not None:
            tensor = first_tensor(value)
            if layer.positions == "each" and tensor is not None and tensor.ndim > 2:
                tensor = tensor.swapaxes(0, batch_dim)
                self._grids.add(grid_of(tensor.shape, self._axis.of(tensor)))
            return
        if i in self._errors:
            return
        call = self._calls[i]
        self._calls[i] += 1
        try:
            if call >= _MAX_CALLS:
                raise CollectionError(
                    f"fired more than {_MAX_CALLS} times in one forward pass. Measure the module around the loop."
                )
            tensor = first_tensor(value)
            if tensor is None:
                raise CollectionError(f"expected a tensor in its output, got {describe(value)}.")
            batch_dim = batch_dim if tensor.ndim > 2 else 0
            done: list[str | None] = []
            if layer.positions != "flatten":
                check_rows(tensor, self._batch, batch_dim)
                tensor, batch_dim = tensor.detach().swapaxes(0, batch_dim), 0
                axis = self._axis.of(tensor) if tensor.ndim > 2 else -1
                tensor, name = pooled(tensor, layer.positions, axis, mask=self._mask, draw=self._draw)
                done.append(name)
                if name is not None:
                    self.pooled.add(layer.label)
                    if layer.positions == "each":
                        self.at_positions.add(layer.label)
            rows = rows_of(tensor, self._batch, batch_dim=batch_dim)[: self._keep]
            if isinstance(rows, Tensor):
                rows, reduction = self._reduce(rows)
                done.append(reduction)
            if any(done):
                self.reductions[layer.label] = ", ".join(filter(None, done))
            parts = self._rows.setdefault(i, [])
            if call == len(parts):
                if self._start:
                    raise CollectionError("fired more often than in the batches before.")
                parts.append(Rows(self._storage, self._capacity, _ADVICE))
            parts[call].write(self._start, rows)
        except (CollectionError, MemoryError) as error:
            self._errors[i] = error
            self._rows.pop(i, None)  # what it held is of no use any more

    def _check_calls(self) -> None:
        """See that every layer fired as often in the last batch as in the first."""
        for i, calls in self._calls.items():
            expected = len(self._rows.get(i, []))
            if i not in self._errors and calls != expected:
                self._rows.pop(i, None)
                self._errors[i] = CollectionError(f"fired {calls} times in a batch and {expected} times in the first.")
