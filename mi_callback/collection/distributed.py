"""Several processes measure as one: who has which samples and layers, and what they exchange.

Rank r of W takes batches r, r + W, ... of those that a single process would read, so that no sample is read twice and
none is added. Each layer's parts are brought together on one rank, which estimates it. Layers that are left over when
every rank has as many, and are measured at evaluation points, are brought together on all of them, which share out the
points: a single wide layer keeps all ranks busy. Every exchange is made by every rank, whatever has failed on it: a
rank that skipped one would leave the others waiting.
"""

from __future__ import annotations

import math
import pickle
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import torch
import torch.distributed as dist
from numpy.typing import NDArray

from mi_callback.collection.errors import CollectionError
from mi_callback.collection.host import SPLIT_STRATEGIES
from mi_callback.collection.sweep import Collected

if TYPE_CHECKING:
    from lightning.pytorch import Trainer

__all__ = ["Processes", "Together", "check_strategy", "gather", "join"]

_T = TypeVar("_T")

_WHOLE = {"DDPStrategy", "SingleDeviceStrategy"}


@dataclass(frozen=True, slots=True)
class Processes:
    """The processes that measure together.

    Attributes:
        rank: this one.
        size: how many there are.
        group: their process group, on the CPU whatever the devices are; None for a single process.
    """

    rank: int = 0
    size: int = 1
    group: Any = None

    def share(self, value: _T) -> list[_T]:
        """The values of all ranks, in order of rank, on every rank."""
        if self.size == 1:
            return [value]
        values: list[Any] = [None] * self.size
        dist.all_gather_object(values, value, group=self.group)
        return values

    def agree(self, error: Exception | None) -> Exception | None:
        """The error of the lowest rank that has one, on every rank, so that all do the same about it."""
        return next((e for e in self.share(_portable(error)) if e is not None), None)

    def close(self) -> None:
        """Destroy the group, without a word to the others: they may be gone, and the group with them."""
        if self.group is not None and dist.is_initialized():
            dist.destroy_process_group(self.group)


class Together:
    """The processes while they make the same estimates together: what one computes, all have.

    An estimate that fails on one of them cannot be finished by the others. They learn it from the next exchange, where
    one has gone on: those behind give up the estimate, those ahead make the exchange again.

    Args:
        processes: all ranks.
    """

    def __init__(self, processes: Processes) -> None:
        self._processes = processes
        self._estimate = self._step = 0.0

    @property
    def rank(self) -> int:
        """This one."""
        return self._processes.rank

    @property
    def size(self) -> int:
        """How many there are."""
        return self._processes.size

    def begin(self) -> None:
        """Begin the next estimate; every rank calls it for each, whatever became of the one before."""
        self._estimate, self._step = self._estimate + 1, 0

    def share(self, value: _T) -> list[_T]:
        """The values of all ranks, in order of rank, on every rank.

        Raises:
            CollectionError: another rank has given up this estimate.
        """
        self._step += 1
        while True:
            found = self._processes.share((self._estimate, self._step, value))
            if min(estimate for estimate, _, _ in found) < self._estimate:
                continue
            if len({(estimate, step) for estimate, step, _ in found}) > 1:
                raise CollectionError("another process could not finish the estimate that was shared with it.")
            return [one for _, _, one in found]

    def finish(self) -> None:
        """Wait until all ranks have finished; every one of them must call."""
        self._estimate = math.inf
        self._step = 0
        self.share(None)


def check_strategy(trainer: Trainer) -> None:
    """Refuse strategies that keep a part of the model on each device.

    Raises:
        CollectionError: the strategy is one of them, or an unknown one of several processes.
    """
    names = {cls.__name__ for cls in type(trainer.strategy).__mro__}
    if names & SPLIT_STRATEGIES or (trainer.world_size > 1 and not names & _WHOLE):
        raise CollectionError(
            f"Trainer(strategy=...): {type(trainer.strategy).__name__} is not supported, because layers are measured "
            "on whole models. Use strategy='ddp' or a single device, or measure checkpoints in a run of one device."
        )


def join(trainer: Trainer) -> Processes:
    """The processes of a trainer, to be closed in the end; a collective call when there are several."""
    if trainer.world_size == 1:
        return Processes()
    return Processes(trainer.global_rank, trainer.world_size, dist.new_group(backend="gloo"))


def gather(
    local: Collected | None,
    error: Exception | None,
    processes: Processes,
    at_points: Callable[[int], bool] = lambda n_samples: False,
) -> Collected:
    """Bring together what the ranks have collected.

    Args:
        local: this rank's part; None if it failed.
        error: why it failed.
        processes: all ranks; every one of them must call.
        at_points: whether so many samples are estimated at evaluation points, which ranks can share out.

    Returns:
        All samples in the order of a single process. X and Y are there on every rank, a layer on one of them only or,
        if it is ``shared``, on all, and the failures of layers on rank 0 only.

    Raises:
        Exception: on every rank, the error of one that failed.
    """
    if processes.size == 1:
        if local is None:
            raise error or CollectionError("nothing was collected.")
        return local
    if (failed := processes.agree(error)) is not None:
        raise failed
    assert local is not None
    heads = processes.share(_Head.of(local))
    positions = [head.positions for head in heads]
    n_samples = sum(len(rows) for rows in positions)
    if not np.array_equal(np.sort(np.concatenate(positions)), np.arange(n_samples)):
        raise CollectionError(
            f"data: expected the processes to share out the same samples, got {n_samples} that do not fit "
            "together. Every process must see the same data set."
        )
    failures = {label: error for head in reversed(heads) for label, error in head.failures.items()}
    layers: dict[str, NDArray[Any]] = {}
    n_owned = len(heads[0].layers)
    if at_points(n_samples):
        n_owned -= n_owned % processes.size
    for i, label in enumerate(heads[0].layers):
        owner = i % processes.size
        kinds = {head.layers.get(label) for head in heads}
        if label in failures or len(kinds) > 1:
            failures.setdefault(label, CollectionError(f"expected the same layer on all processes, got {kinds}."))
            continue
        if i < n_owned:
            whole = _bring_together(local.layers[label], positions, processes, owner)
        else:
            whole = _everywhere(local.layers[label], positions, processes)
        if whole is not None:
            layers[label] = whole
    # what one process could not collect the others leave out, too
    inputs_failure = next((head.inputs_failure for head in heads if head.inputs_failure is not None), None)
    target_failures = {task: error for head in reversed(heads) for task, error in head.target_failures.items()}
    tasks = dict.fromkeys(task for head in heads for task in head.tasks if task not in target_failures)
    return Collected(
        None if inputs_failure is not None else _everywhere(local.inputs, positions, processes),
        {
            task: whole
            for task in tasks
            if (whole := _everywhere(local.targets.get(task), positions, processes)) is not None
        },
        layers,
        failures if processes.rank == 0 else {},
        n_samples,
        reductions=local.reductions,
        left_out=local.left_out,
        inputs_reduction=local.inputs_reduction,
        inputs_are_ids=local.inputs_are_ids,
        shared=frozenset(list(heads[0].layers)[n_owned:]) & layers.keys(),
        inputs_failure=inputs_failure,
        target_failures=target_failures,
        pooled=local.pooled,
        at_positions=local.at_positions,
        inputs_at_positions=local.inputs_at_positions,
        guesses=local.guesses,
    )


@dataclass(frozen=True, slots=True, eq=False)
class _Head:
    """What a rank has, in short: which samples, the width and type of each layer, and which targets."""

    positions: NDArray[np.int64]
    layers: dict[str, tuple[int, str]]
    failures: dict[str, Exception]
    tasks: tuple[str, ...]
    inputs_failure: Exception | None
    target_failures: dict[str, Exception]

    @classmethod
    def of(cls, local: Collected) -> _Head:
        assert local.positions is not None
        layers = {label: (values.shape[1], values.dtype.str) for label, values in local.layers.items()}
        failures = {label: _portable(error) for label, error in local.failures.items()}
        return cls(
            local.positions,
            layers,
            {k: e for k, e in failures.items() if e is not None},
            tuple(local.targets),
            _portable(local.inputs_failure),
            {task: CollectionError(str(error)) for task, error in local.target_failures.items()},
        )


_Positions = Sequence[NDArray[np.int64]]  # of each rank


def _everywhere(part: NDArray[Any] | None, positions: _Positions, processes: Processes) -> NDArray[Any] | None:
    """X or Y of all ranks on every rank."""
    kinds = set(processes.share(None if part is None else (part.shape[1:], part.dtype.kind)))
    if len(kinds) > 1:
        raise CollectionError(f"batch: expected the same kind of inputs and targets on all processes, got {kinds}.")
    if part is None:
        return None
    if part.dtype.kind in "US":  # as long as its longest string, which differs between ranks
        return _arrange(processes.share(part), positions)
    wholes = [_bring_together(part, positions, processes, rank) for rank in range(processes.size)]
    return wholes[processes.rank]


def _bring_together(part: NDArray[Any], positions: _Positions, processes: Processes, owner: int) -> NDArray[Any] | None:
    """The rows of all ranks in their places, on the rank ``owner``; None on the others. Bytes are moved as they are."""
    sizes = [len(rows) for rows in positions]
    row_bytes = part.dtype.itemsize * part.shape[1]
    padded = np.zeros((max(sizes), row_bytes), dtype=np.uint8)
    padded[: len(part)] = np.ascontiguousarray(part).view(np.uint8).reshape(len(part), row_bytes)
    is_owner = processes.rank == owner
    parts = [torch.empty(max(sizes), row_bytes, dtype=torch.uint8) for _ in sizes] if is_owner else None
    destination = dist.get_global_rank(processes.group, owner)
    dist.gather(torch.from_numpy(padded), parts, dst=destination, group=processes.group)
    if parts is None:
        return None
    return _arrange([one.numpy()[:size].view(part.dtype) for one, size in zip(parts, sizes, strict=True)], positions)


def _arrange(parts: Sequence[NDArray[Any]], positions: _Positions) -> NDArray[Any]:
    """Every rank's rows where they stand among all."""
    whole = np.empty((sum(map(len, parts)), parts[0].shape[1]), dtype=np.result_type(*parts))
    for part, rows in zip(parts, positions, strict=True):
        whole[rows] = part
    return whole


def _portable(error: Exception | None) -> Exception | None:
    """An error that can be sent to another process; one that cannot goes as its text."""
    if error is None:
        return None
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        return CollectionError(f"{type(error).__name__}: {error}")
    return error
