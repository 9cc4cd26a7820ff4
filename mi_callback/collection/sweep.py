"""One frozen pass over a data set: inputs, targets and every layer from the same pass, row by row aligned."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from mi_callback.collection.batches import (
    BatchFn,
    Split,
    at_full_precision,
    call_model,
    describe,
    holds_integers,
    rows_of,
    split_batch,
)
from mi_callback.collection.errors import CollectionError
from mi_callback.collection.host import Host
from mi_callback.collection.isolation import seeded
from mi_callback.collection.layers import Layer
from mi_callback.collection.recorder import Recorder
from mi_callback.collection.reduction import WIDTH_LIMIT, Reducer
from mi_callback.collection.samples import Share
from mi_callback.collection.storage import Rows, Storage

__all__ = ["Collected", "sweep"]


@dataclass(frozen=True, slots=True, eq=False)
class Collected:
    """What one sweep saw. Row i of every array belongs to the same sample.

    Attributes:
        inputs: shape (n, p), X as the model got it, but reduced as layers are if it is too wide to keep; None if it
            was not asked for.
        targets: shape (n, q), Y, None if it was not asked for or the batches have none.
        layers: label to activations T, each of shape (n, d), in the model's order.
        failures: label to the error of a layer that could not be collected.
        n_samples: number of samples n.
        positions: shape (n,), where the samples stand among those of all processes; None for one process.
        reductions: label to what was done to a layer that is too wide to keep.
        left_out: keys of dict batches that neither the model nor the measurement uses.
        inputs_reduction: what was done to X if it is too wide to keep; None if nothing was.
        inputs_are_ids: whether X holds integers of a model that looks integers up, as token ids in an embedding.
    """

    inputs: NDArray[Any] | None
    targets: NDArray[Any] | None
    layers: dict[str, NDArray[Any]]
    failures: dict[str, Exception]
    n_samples: int
    positions: NDArray[np.int64] | None = None
    reductions: dict[str, str] = field(default_factory=dict)
    left_out: tuple[str, ...] = ()
    inputs_reduction: str | None = None
    inputs_are_ids: bool = False


def sweep(
    host: Host,
    layers: Sequence[Layer],
    *,
    data: str = "train",
    batch_fn: BatchFn | None = None,
    max_samples: int | None = None,
    seed: int = 0,
    with_targets: bool = True,
    max_batches: int | None = None,
    noise_seed: int | None = None,
    active_dropout: bool = False,
    on_batch: Callable[[int, int | None], None] | None = None,
    rank: int = 0,
    world_size: int = 1,
) -> Collected:
    """Run the model over a data set without changing it, its data or its surroundings, and collect.

    Batches go the way they go in training: precision, transfer hooks, device. The model is called under the precision
    that it trains with, in evaluation mode. Rows are written straight into the arrays that are returned.

    Args:
        host: the model and its surroundings.
        layers: what to collect.
        data: name of the data set.
        batch_fn: batch -> (inputs, targets) or (inputs, targets, measured inputs).
        max_samples: the most samples to take, as a fixed random subset.
        seed: seed of the subset and of random augmentation, which is the same at every sweep.
        with_targets: whether to collect Y.
        max_batches: stop after so many batches.
        noise_seed: seed of what the model and random augmentation draw, if not ``seed``.
        active_dropout: leave dropout drawing as it does in training.
        on_batch: called after every batch with the number of samples so far and the number expected, if known.
        rank: this process among those that share the samples out.
        world_size: number of those processes.

    Returns:
        Aligned arrays.

    Raises:
        CollectionError: nothing to read, or a batch that is not understood.
    """
    drawn = (seed if noise_seed is None else noise_seed) + rank
    share = Share(max_samples, seed, rank, world_size, "train_dataloader" if data == "train" else f"data {data!r}")
    model = host.model
    with host.frozen(active_dropout=active_dropout), seeded(drawn):
        source = host.source(data, share)
        storage = Storage()
        inputs, targets = Rows(storage, source.n_samples), Rows(storage, source.n_samples)
        looks_up = any(isinstance(module, nn.Embedding | nn.EmbeddingBag) for module in model.modules())
        recorder = Recorder(layers, storage, source.n_samples)
        n = 0
        left_out: dict[str, None] = {}
        are_ids = False
        reduce, inputs_reduction = Reducer(), None
        with recorder.attached():
            for i, batch in enumerate(source.batches, start=1):
                split = split_batch(host.as_in_training(batch), batch_fn, model)
                left_out.update(dict.fromkeys(split.left_out))
                if split.size:
                    size = split.size if source.n_samples is None else min(split.size, source.n_samples - n)
                    recorder.start(n, split.size, size)
                    _forward(host, split, recorder)
                    split = at_full_precision(split, batch, batch_fn, model)
                    looked_at = split.measured if split.key is None else split.inputs
                    are_ids = are_ids or (looks_up and holds_integers(looked_at))
                    rows = _rows("inputs", split.measured, split.size)[:size]
                    if not are_ids:  # ids are names: a sum of them means nothing
                        rows, inputs_reduction = _reduced(rows, reduce)
                    inputs.write(n, rows)
                    if with_targets and split.targets is not None:
                        targets.write(n, _rows("targets", split.targets, split.size)[:size])
                    n += size
                if on_batch is not None:
                    on_batch(n, source.n_samples)
                if n == source.n_samples or i == max_batches:
                    break
    if n == 0:
        raise CollectionError(f"{share.loader}: expected at least one sample, the loader gave none.")
    arrays, failures = recorder.finish(n)
    positions = None if source.positions is None else source.positions[:n]
    return Collected(
        inputs.finish(n),
        targets.finish(n),
        arrays,
        failures,
        n,
        positions,
        recorder.reductions,
        tuple(left_out),
        inputs_reduction,
        are_ids,
    )


def _rows(name: str, value: Any, size: int) -> Any:
    """Rows of X or Y; an error says of which."""
    try:
        return rows_of(value, size)
    except CollectionError as error:
        raise CollectionError(f"{name}: {error}") from error


def _reduced(rows: Tensor | NDArray[Any], reduce: Reducer) -> tuple[Tensor | NDArray[Any], str | None]:
    """Rows of X as they are to be kept, and what was done to them; texts stay as they are."""
    if not isinstance(rows, Tensor):
        if rows.dtype.kind not in "biuf" or rows.shape[1] <= WIDTH_LIMIT:
            return rows, None
        rows = torch.from_numpy(rows.astype(np.float32))
    return reduce(rows)


def _forward(host: Host, split: Split, recorder: Recorder) -> None:
    """Call the model itself, not a strategy's wrapper, whose forward is the training step."""
    model = host.model
    with host.forward_context():
        try:
            output = call_model(model, split)
        except TypeError as error:  # also what a tensor answers to batch["x"]
            given: Any = {split.key: split.inputs, **split.keywords} if split.keywords else split.inputs
            whole = "" if split.key is None else "One that takes the whole batch: (batch, batch['y']). "
            raise CollectionError(
                "batch: give what forward takes with batch_fn=lambda batch: (inputs, targets); a tuple of inputs is "
                f"spread over forward's parameters, a dict is passed by their names. {whole}"
                f"{type(model).__name__}.forward could not be called with {describe(given)}: "
                f"{str(error).splitlines()[0]:.200}"
            ) from error
        except NotImplementedError as error:
            if 'required "forward" function' not in str(error):
                raise
            raise CollectionError(
                f"{type(model).__name__} defines no forward, so there is nothing to run apart from its training "
                "step. Define forward(x), and call self(x) in the step."
            ) from error
    recorder.output(output)
