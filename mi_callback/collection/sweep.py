"""One frozen pass over a data set: inputs, targets and every layer from the same pass, row by row aligned."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
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
    first_view,
    holds_integers,
    parameter_names,
    rows_of,
    split_batch,
    tasks_of,
)
from mi_callback.collection.errors import CollectionError
from mi_callback.collection.host import Host
from mi_callback.collection.isolation import seeded
from mi_callback.collection.layers import Layer
from mi_callback.collection.positions import (
    IGNORED,
    MASKS,
    Draw,
    Grid,
    at_position,
    attention_mask,
    feature_axis_of,
    grid_of,
)
from mi_callback.collection.recorder import Recorder
from mi_callback.collection.reduction import WIDTH_LIMIT, Reducer
from mi_callback.collection.samples import Share
from mi_callback.collection.storage import Rows, Storage

__all__ = ["Collected", "sweep"]

_ADVICE_ON_X = (
    "Pad all batches to one length, give what X is as a third value of batch_fn: batch -> (inputs, targets, X), or use "
    "quantities=('target',)."
)
_REPEATED = (
    "takes targets that repeat the inputs at the same positions. If they are shifted in the loss, as causal language "
    "models do, shift them for measuring, too: batch_fn=lambda batch: (inputs, next tokens and -100 at the end)"
)
_ADVICE_ON_Y = "Measure them token by token with positions='each', pad all batches to one length, or use batch_fn."


@dataclass(frozen=True, slots=True, eq=False)
class Collected:
    """What one sweep saw. Row i of every array belongs to the same sample.

    Attributes:
        inputs: shape (n, p), X as the model got it, but reduced as layers are if it is too wide to keep; None if it
            was not asked for.
        targets: task to its Y, shape (n, q); of a single task the name is "". Empty if it was not asked for or the
            batches have none.
        layers: label to activations T, each of shape (n, d), in the model's order.
        failures: label to the error of a layer that could not be collected.
        n_samples: number of samples n.
        positions: shape (n,), where the samples stand among those of all processes; None for one process.
        reductions: label to what was done to a layer that is too wide to keep.
        left_out: keys of dict batches that neither the model nor the measurement uses.
        inputs_reduction: what was done to X if it is too wide to keep; None if nothing was.
        inputs_are_ids: whether X holds integers of a model that looks integers up, as token ids in an embedding.
        shared: labels of layers that every process has, and that they estimate together.
        inputs_failure: why X could not be collected.
        target_failures: task to why its Y could not be.
        pooled: labels of the layers of whose positions something was made.
        at_positions: labels of those of them that are one position of each sample.
        inputs_at_positions: whether X is that of the same position.
        guesses: what was guessed of the batches.
    """

    inputs: NDArray[Any] | None
    targets: dict[str, NDArray[Any]]
    layers: dict[str, NDArray[Any]]
    failures: dict[str, Exception]
    n_samples: int
    positions: NDArray[np.int64] | None = None
    reductions: dict[str, str] = field(default_factory=dict)
    left_out: tuple[str, ...] = ()
    inputs_reduction: str | None = None
    inputs_are_ids: bool = False
    shared: frozenset[str] = frozenset()
    inputs_failure: Exception | None = None
    target_failures: dict[str, Exception] = field(default_factory=dict)
    pooled: frozenset[str] = frozenset()
    at_positions: frozenset[str] = frozenset()
    inputs_at_positions: bool = False
    guesses: tuple[str, ...] = ()


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
        looks_up = any(isinstance(module, nn.Embedding | nn.EmbeddingBag) for module in model.modules())
        kept = _Data(storage, source.n_samples, with_targets=with_targets, looks_up=looks_up)
        recorder = Recorder(layers, storage, source.n_samples)
        n = 0
        left_out: dict[str, None] = {}
        guesses: dict[str, None] = {}
        views: bool | None = None  # whether the first of several views is the input
        places: _Places | None = None
        # Samples may be other than items, such as nodes of graphs: only max_samples ends a sweep before its loader.
        most = source.n_samples if world_size > 1 else max_samples
        with recorder.attached(model):
            for i, batch in enumerate(source.batches, start=1):
                split = split_batch(host.as_in_training(batch), batch_fn, model)
                left_out.update(dict.fromkeys(split.left_out))
                if split.size:
                    if views is None:
                        views = batch_fn is None and _needs_first_view(host, split, recorder)
                    if views:
                        split = first_view(split) or split
                    guesses.update(dict.fromkeys([split.guess] if split.guess else []))
                    if recorder.draws and places is None:
                        places = _Places.found(host, split, recorder)
                        if places.repeats_inputs(split):
                            guesses[_REPEATED] = None
                    size = split.size if most is None else min(split.size, most - n)
                    first = n if source.positions is None else int(source.positions[n])
                    mask = _mask(model, split)
                    draw = None if places is None else places.draw(split, mask, seed=seed, start=first)
                    recorder.start(n, split.size, size, mask=mask, draw=draw)
                    _forward(host, split, recorder)
                    split = at_full_precision(split, batch, batch_fn, model)
                    kept.take(split, n, size, places, draw)
                    n += size
                if on_batch is not None:
                    on_batch(n, source.n_samples)
                if n == most or i == max_batches:
                    break
    if n == 0:
        raise CollectionError(f"{share.loader}: expected at least one sample, the loader gave none.")
    arrays, failures = recorder.finish(n)
    positions = None if source.positions is None else source.positions[:n]
    return Collected(
        kept.inputs.finish(n),
        {task: array for task, part in kept.targets.items() if (array := part.finish(n)) is not None},
        arrays,
        failures,
        n,
        positions,
        recorder.reductions,
        tuple(left_out),
        kept.inputs_reduction,
        kept.are_ids,
        inputs_failure=kept.inputs.failure,
        target_failures={task: part.failure for task, part in kept.targets.items() if part.failure is not None},
        pooled=frozenset(recorder.pooled),
        at_positions=frozenset(recorder.at_positions),
        inputs_at_positions=places is not None and places.inputs is not None,
        guesses=tuple(guesses),
    )


class _Data:
    """X and the Y of each task, batch by batch.

    Attributes:
        inputs: X.
        targets: task to its Y.
        are_ids: whether X holds integers of a model that looks integers up.
        inputs_reduction: what was done to X if it is too wide to keep.
    """

    def __init__(self, storage: Storage, capacity: int | None, *, with_targets: bool, looks_up: bool) -> None:
        self._storage, self._capacity = storage, capacity
        self._with_targets, self._looks_up = with_targets, looks_up
        self._reduce = Reducer()
        self.inputs = _Part("inputs", storage, capacity, _ADVICE_ON_X)
        self.targets: dict[str, _Part] = {}
        self.are_ids = False
        self.inputs_reduction: str | None = None

    def take(self, split: Split, start: int, size: int, places: _Places | None, draw: Draw | None) -> None:
        """Write the first ``size`` samples of a batch to row ``start`` and on, at the positions drawn if any are."""
        looked_at = split.measured if split.key is None else split.inputs
        self.are_ids = self.are_ids or (self._looks_up and holds_integers(looked_at))
        measured, tasks = split.measured, tasks_of(split.targets) if self._with_targets else {}
        if places is not None and draw is not None:
            measured, tasks = places.taken(measured, tasks, draw)
        if measured is not None and self.inputs.failure is None:
            rows = _rows("inputs", measured, split.size)[:size]
            if not self.are_ids:  # ids are names: a sum of them means nothing
                rows, self.inputs_reduction = _reduced(rows, self._reduce)
            self.inputs.write(start, rows)
        for task, value in tasks.items():
            name = f"targets of task {task!r}" if task else "targets"
            if task not in self.targets:
                self.targets[task] = _Part(name, self._storage, self._capacity, _ADVICE_ON_Y, since=start)
            if self.targets[task].failure is None:
                self.targets[task].write(start, _rows(name, value, split.size)[:size])
        for part in (self.inputs, *self.targets.values()):
            part.check(start + size)


class _Part:
    """X, or Y of a task, which fails by itself where batches do not fit together."""

    def __init__(self, name: str, storage: Storage, capacity: int | None, advice: str, *, since: int = 0) -> None:
        self._name = name
        self._rows = Rows(storage, capacity, advice)
        self._stop = 0
        self.failure: Exception | None = None
        if since:  # earlier batches had none
            self._fail(f"expected them in every batch, got none for the first {since} samples. Use batch_fn.")

    def write(self, start: int, rows: Tensor | NDArray[Any]) -> None:
        try:
            self._rows.write(start, rows)
        except CollectionError as error:
            self._fail(str(error))
        self._stop = start + len(rows)

    def check(self, stop: int) -> None:
        """See that a batch had it."""
        if self.failure is None and self._stop and self._stop != stop:
            self._fail(f"expected them in every batch, got none for samples {self._stop} to {stop}. Use batch_fn.")

    def finish(self, n: int) -> NDArray[Any] | None:
        return None if self.failure is not None else self._rows.finish(n)

    def _fail(self, why: str) -> None:
        self.failure = CollectionError(f"{self._name}: {why}")


@dataclass(frozen=True, slots=True, eq=False)
class _Places:
    """How X and Y line up with the positions of which one is measured of each sample.

    Attributes:
        targets: task to the feature axis of its Y, see ``feature_axis_of``; only tasks that line up.
        inputs: which part of the inputs is X, and its feature axis; None if none lines up.
    """

    targets: dict[str, int]
    inputs: tuple[int, int] | None

    @classmethod
    def found(cls, host: Host, split: Split, recorder: Recorder) -> _Places:
        """Run the model over a first batch to see the layers' positions."""
        with recorder.looking() as grids:
            _forward(host, split, recorder)
        if (mask := _mask(host.model, split)) is not None:
            grids.add(tuple(mask.shape[1:]))
        axes = {task: _axis_of(value, grids) for task, value in tasks_of(split.targets).items()}
        parts = [(i, _axis_of(part, grids)) for i, part in enumerate(_tensors(split.measured))]
        return cls(
            {task: axis for task, axis in axes.items() if axis is not None},
            next(((i, axis) for i, axis in parts if axis is not None), None),
        )

    def repeats_inputs(self, split: Split) -> bool:
        """Whether the targets are the inputs, as those of causal language models are, which are to be shifted."""
        if self.inputs is None or self.inputs[1] != 0:
            return False
        x = _tensors(split.measured)[self.inputs[0]]
        values = [value for task, value in tasks_of(split.targets).items() if self.targets.get(task) == 0]
        return any(bool(((value == x) | (value == IGNORED)).all()) for value in values)

    def draw(self, split: Split, mask: Tensor | None, *, seed: int, start: int) -> Draw:
        """The positions of a batch."""
        tasks = tasks_of(split.targets)
        labels = [(tasks[task], axis) for task, axis in self.targets.items() if task in tasks]
        return Draw(split.size, seed=seed, start=start, mask=mask, labels=labels)

    def taken(self, measured: Any, tasks: dict[str, Any], draw: Draw) -> tuple[Any, dict[str, Any]]:
        """X and Y at the positions drawn, where they line up."""
        if self.inputs is not None:
            part, axis = self.inputs
            value = _tensors(measured)[part]
            measured = at_position(value, axis, draw.at(_grid(value, axis)))
        taken = {
            task: at_position(value, self.targets[task], draw.at(_grid(value, self.targets[task])))
            if task in self.targets
            else value
            for task, value in tasks.items()
        }
        return measured, taken


def _grid(value: Tensor, axis: int) -> Grid:
    return tuple(value.shape[1:]) if axis == 0 else grid_of(value.shape, axis)


def _axis_of(value: Any, grids: set[Grid]) -> int | None:
    return feature_axis_of(value.shape, grids) if isinstance(value, Tensor) else None


def _tensors(value: Any) -> list[Tensor]:
    """The tensors of X, without a mask."""
    if isinstance(value, Mapping):
        value = [part for key, part in value.items() if key not in MASKS]
    if isinstance(value, tuple | list):
        return [part for part in value if isinstance(part, Tensor)]
    return [value] if isinstance(value, Tensor) else []


def _mask(model: nn.Module, split: Split) -> Tensor | None:
    return attention_mask(split.inputs, split.keywords, parameter_names(model))


def _needs_first_view(host: Host, split: Split, recorder: Recorder) -> bool:
    """Whether the inputs are several views that the model cannot take together."""
    if first_view(split) is None or len(parameter_names(host.model)) > 1:
        return False
    try:
        with recorder.looking():
            _forward(host, split, recorder)
    except (CollectionError, AttributeError):  # what a tuple has no use for
        return True
    return False


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
