"""Which samples of a data set training can draw, and which of those a sweep takes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import SequentialSampler, SubsetRandomSampler, WeightedRandomSampler

__all__ = ["Share", "drawable", "length_of", "limited", "n_batches_left", "parse_limit", "subset"]

_SUBSET = 0x5B5  # a stream of its own: data made from the same small seed must not decide which of them are taken


@dataclass(frozen=True, slots=True)
class Share:
    """Which part of a loader's samples to take.

    Attributes:
        max_samples: the most samples, as a fixed random subset; None for all.
        seed: seed of the subset and of the loader's workers.
        rank: this process among those that share the samples out.
        world_size: number of those processes; each takes every ``world_size``-th batch of the batches that a single
            process reads, so that every batch is the same and the model's values are, to the last bit.
        loader: what the loader is called in errors.
    """

    max_samples: int | None
    seed: int
    rank: int = 0
    world_size: int = 1
    loader: str = "train_dataloader"


def drawable(sampler: Any, n: int) -> NDArray[np.int64]:
    """Indices of the samples that a sampler can draw from a data set of ``n``, ascending."""
    sampler = _innermost(sampler)
    if isinstance(sampler, WeightedRandomSampler):
        return np.flatnonzero(np.asarray(sampler.weights) > 0)
    if isinstance(sampler, SubsetRandomSampler) or isinstance(getattr(sampler, "indices", None), Sequence):
        return np.unique(np.asarray(sampler.indices, dtype=np.int64))
    return np.arange(n)


def _innermost(sampler: Any) -> Any:
    """The sampler inside batch samplers and the wrappers that Lightning adds for distributed training."""
    for _ in range(8):
        inner = getattr(sampler, "sampler", None)
        if inner is None and type(sampler).__name__ == "DistributedSamplerWrapper":
            inner = getattr(sampler.dataset, "_sampler", None)
        if inner is None:
            break
        sampler = inner
    return sampler


def n_batches_left(loader: Any, limit: int | float) -> int | None:
    """Number of batches that the trainer's limit leaves of a loader; None where it leaves all."""
    length = length_of(loader)
    if length is None:
        return limit if isinstance(limit, int) else None
    n_batches = parse_limit(limit, length)
    return None if n_batches >= length else n_batches


def parse_limit(limit: int | float, length: int) -> int:
    """A limit on batches as Lightning reads it: an int counts, a float is a share."""
    return min(limit, length) if isinstance(limit, int) else int(limit * length)


def limited(indices: NDArray[np.int64], n: int | None, sampler: Any, share: Share) -> NDArray[np.int64]:
    """``n`` of the indices: the first if training reads in order, a fixed random subset if it shuffles."""
    if n is None or n >= len(indices):
        return indices
    innermost = _innermost(sampler)
    if isinstance(innermost, SequentialSampler) or getattr(innermost, "shuffle", None) is False:
        return indices[:n]
    return subset(indices, Share(n, share.seed))


def subset(indices: NDArray[np.int64], share: Share) -> NDArray[np.int64]:
    """A fixed random subset of at most ``max_samples`` indices, ascending."""
    if share.max_samples is None or share.max_samples >= len(indices):
        return indices
    chosen = np.random.default_rng((share.seed, _SUBSET)).choice(len(indices), share.max_samples, replace=False)
    return indices[np.sort(chosen)]


def length_of(value: Any) -> int | None:
    """Length of a loader or data set; None if it has none."""
    try:
        return len(value)
    except (TypeError, NotImplementedError):
        return None
