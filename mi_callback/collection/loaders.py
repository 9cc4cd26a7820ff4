"""The data again: fresh sequential loaders beside those of training, which are never iterated."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import BatchSampler, DataLoader, Dataset, IterableDataset, Subset, TensorDataset, default_collate

from mi_callback.collection.errors import CollectionError
from mi_callback.collection.isolation import copy_for_reading
from mi_callback.collection.samples import Share, drawable, length_of, limited, n_batches_left, parse_limit, subset

__all__ = ["Source", "check_loader", "fresh_source", "side_by_side"]


@dataclass(frozen=True, slots=True)
class Source:
    """The batches of one sweep.

    Attributes:
        batches: iterable of batches, in the same order at every sweep; as in training when there are several loaders.
        n_samples: number of samples it gives if that is known, else the most that may be taken from it, else None.
        positions: shape (n_samples,), where its samples stand among those of all processes; None for one process.
    """

    batches: Iterable[Any]
    n_samples: int | None
    positions: NDArray[np.int64] | None = None


def fresh_source(loader: Any, share: Share, limit: int | float = 1.0) -> Source:
    """Build a fresh sequential loader over what a loader reads, which is never iterated itself.

    The samples are those that the loader can draw: one that samples a subset gives the subset, a weighted or shuffling
    one the full set, in the order of the data set and without dropping the last batch. A limit on batches leaves the
    first samples of a loader that does not shuffle, a fixed random subset of one that does.

    Args:
        loader: a ``DataLoader``, or another iterable of batches that can be read twice.
        share: which part of its samples to take.
        limit: batches to take, as a number or as a share of them all.

    Raises:
        CollectionError: there is no sample, no end to them, or no way to read them twice.
    """
    return _fresh(loader, limit, share)


def check_loader(name: str, loader: Any) -> None:
    """Refuse what is no loader of batches.

    Args:
        name: what it is called in the error.
        loader: what should be a ``DataLoader``, or another iterable of batches that can be read twice.

    Raises:
        CollectionError: it is a data set, whose items are samples, a batch, or nothing that can be read.
    """
    is_samples = isinstance(loader, Dataset) and not isinstance(loader, IterableDataset)
    if is_samples or isinstance(loader, Tensor | np.ndarray | str | bytes) or not hasattr(loader, "__iter__"):
        raise CollectionError(
            f"{name}: expected a DataLoader, or another iterable of batches that can be read twice, got "
            f"{type(loader).__name__}. Give torch.utils.data.DataLoader(dataset, batch_size=256)."
        )


def side_by_side(combined: Any, share: Share, limit: int | float = 1.0) -> Source:
    """The same for several loaders that give one batch together, as Lightning combines them.

    Args:
        combined: a new ``CombinedLoader`` of them, whose loaders are replaced.
        share: which part of their samples to take.
        limit: batches to take of each, as a number or as a share of them all.

    Raises:
        CollectionError: as for one loader.
    """
    sources = [fresh_source(loader, share, limit) for loader in combined.flattened]
    if not sources:
        raise CollectionError(f"{share.loader}: expected at least one loader, got an empty collection.")
    combined.flattened = [source.batches for source in sources]
    known = [source.n_samples for source in sources if source.n_samples is not None]
    n_samples = min(known) if known else None
    positions = sources[0].positions
    return Source(_Batches(combined), n_samples, positions if positions is None else positions[:n_samples])


class _Batches:
    """A combined loader without the indices that it adds to each batch."""

    def __init__(self, combined: Any) -> None:
        self._combined = combined

    def __iter__(self) -> Iterator[Any]:
        for batch, _, _ in iter(self._combined):
            yield batch


def _fresh(loader: Any, limit: int | float, share: Share) -> Source:
    """A fresh loader for one of the trainer's."""
    whole = isinstance(loader, DataLoader) and not isinstance(loader.dataset, IterableDataset)
    if share.world_size > 1 and not (whole and _batch_size(loader)):
        raise CollectionError(
            f"{share.loader}: {type(getattr(loader, 'dataset', loader)).__name__} cannot be shared out over "
            f"{share.world_size} processes, because its samples have no numbers. Use a data set with __getitem__ and "
            "__len__, or a single process."
        )
    if not isinstance(loader, DataLoader):
        return _fresh_iterable(loader, limit, share)
    if isinstance(loader.dataset, IterableDataset):
        n_samples = _stream_length(loader, limit, share, length_of(loader.dataset))
        batches = _rebuild(loader, share.seed, batch_size=loader.batch_size)
        return Source(_Head(batches, limit), n_samples)
    sampler = loader.batch_sampler if loader.batch_sampler is not None else loader.sampler
    batch_size = _batch_size(loader)
    n_total = length_of(loader.dataset) or 0
    if n_total == 0:
        raise CollectionError(f"{share.loader}: expected at least one sample, got an empty data set.")
    if loader.batch_sampler is None and batch_size is None:  # every item of the data set is a batch
        indices = limited(drawable(sampler, n_total), n_batches_left(loader, limit), sampler, share)
        return Source(_rebuild(loader, share.seed, batch_size=None, sampler=indices), share.max_samples)
    assert batch_size is not None
    indices = drawable(sampler, n_total)
    n_batches = n_batches_left(loader, limit)
    if n_batches is not None:
        indices = limited(indices, n_batches * batch_size * share.world_size, sampler, share)
    indices = subset(indices, share)
    positions = np.arange(len(indices))
    positions = positions[positions // batch_size % share.world_size == share.rank]
    indices = indices[positions]
    if (indexed := _indexed(loader, indices, batch_size)) is not None:
        batches = indexed
    elif loader.batch_sampler is None:  # the data set is asked for a whole batch at once
        batches = _rebuild(loader, share.seed, batch_size=None, sampler=BatchSampler(indices, batch_size, False))
    else:
        batches = _rebuild(loader, share.seed, batch_size=batch_size, sampler=indices)
    return Source(batches, len(indices), positions if share.world_size > 1 else None)


def _indexed(loader: DataLoader[Any], rows: NDArray[np.int64], batch_size: int) -> DataLoader[Any] | None:
    """A loader that indexes whole batches in this process, if plain tensors are all there is to ``loader``.

    It gives the batches that collating would, sooner.
    """
    dataset: Any = loader.dataset
    while type(dataset) is Subset:
        dataset, rows = dataset.dataset, np.asarray(dataset.indices, dtype=np.int64)[rows]
    if type(dataset) is not TensorDataset or loader.collate_fn is not default_collate:
        return None
    if not all(type(tensor) is torch.Tensor for tensor in dataset.tensors):
        return None
    return DataLoader(
        dataset,
        batch_size=None,
        sampler=torch.from_numpy(rows).split(batch_size),  # type: ignore[no-untyped-call]
        pin_memory=loader.pin_memory and torch.cuda.is_available(),
        generator=torch.Generator(),
    )


def _batch_size(loader: Any) -> int | None:
    """Samples in a batch; None where the data set gives whole batches, 64 where a batch sampler has no size."""
    sampler = loader.batch_sampler if loader.batch_sampler is not None else loader.sampler
    size = loader.batch_size or getattr(sampler, "batch_size", None)
    return 64 if size is None and loader.batch_sampler is not None else size


def _rebuild(loader: DataLoader[Any], seed: int, *, batch_size: int | None, sampler: Any = None) -> DataLoader[Any]:
    """A loader like ``loader``, with its own random generator, over the given samples in the given order."""
    workers = loader.num_workers
    dataset, collate_fn = loader.dataset, loader.collate_fn
    if not workers:  # workers read copies anyhow
        dataset, collate_fn = _readable((dataset, collate_fn), seed)
    return DataLoader(
        dataset,
        batch_size=batch_size,
        sampler=sampler,
        collate_fn=collate_fn,
        num_workers=workers,
        pin_memory=loader.pin_memory and torch.cuda.is_available(),
        timeout=loader.timeout,
        worker_init_fn=loader.worker_init_fn,
        multiprocessing_context=loader.multiprocessing_context,
        prefetch_factor=loader.prefetch_factor if workers else None,
        generator=torch.Generator().manual_seed(seed),
    )


def _readable(value: Any, seed: int) -> Any:
    """A copy to read from; the thing itself where it cannot be copied."""
    try:
        return copy_for_reading(value, seed)
    except Exception as error:
        warnings.warn(
            f"The data could not be copied for measuring ({error!r}) and are read in place. If reading them "
            "changes their state, as with random numbers of their own, training is disturbed: use a loader with "
            "num_workers=1 or more.",
            RuntimeWarning,
            stacklevel=2,
        )
        return value


def _fresh_iterable(loader: Any, limit: int | float, share: Share) -> Source:
    """Batches from an iterable that is no DataLoader."""
    if iter(loader) is loader:
        raise CollectionError(
            f"{share.loader}: expected a loader that can be read twice, got {type(loader).__name__}, an iterator "
            "that training uses up. Wrap the data in a Dataset and a DataLoader."
        )
    n_batches = length_of(loader)
    if n_batches == 0:
        raise CollectionError(f"{share.loader}: expected at least one batch, got an empty loader.")
    if n_batches is None:
        _stream_length(loader, limit, share, None)
    batches = loader if isinstance(loader, Sequence) else _readable(loader, share.seed)
    return Source(_Head(batches, limit if n_batches is None else parse_limit(limit, n_batches)), share.max_samples)


class _Head:
    """The first batches of an iterable."""

    def __init__(self, batches: Iterable[Any], limit: int | float | None) -> None:
        self._batches = batches
        self._limit = limit if isinstance(limit, int) and not isinstance(limit, bool) else math.inf

    def __iter__(self) -> Iterator[Any]:
        if self._limit <= 0:
            return
        for i, batch in enumerate(self._batches, start=1):
            yield batch
            if i >= self._limit:
                return


def _stream_length(loader: Any, limit: int | float, share: Share, length: int | None) -> int | None:
    """The most samples to take from a stream, None if only its batches are limited; refuses one without an end."""
    if length is None and share.max_samples is None and not isinstance(limit, int):
        raise CollectionError(
            f"{share.loader}: {type(getattr(loader, 'dataset', loader)).__name__} has no length, so a sweep over it "
            "may never end. Set max_samples, or a limit on batches such as Trainer(limit_train_batches=<int>)."
        )
    if share.max_samples is None:
        return length
    return share.max_samples if length is None else min(length, share.max_samples)
