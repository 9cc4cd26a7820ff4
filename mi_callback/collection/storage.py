"""Where collected arrays live: in memory up to a limit, beyond it in a temporary file that is mapped into memory.

The file has no name, so that nothing is left behind however the process ends; what it needs of the disk is claimed
before anything is written, so that a full disk is an error here and not a crash later.
"""

from __future__ import annotations

import logging
import os
import tempfile
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mi_callback.collection.errors import CollectionError

__all__ = ["Rows", "Storage", "default_limit"]

_SHARE = (
    0.5  # of the memory that is free; by hand: estimates need copies of a few layers, and training goes on beside them
)
_FALLBACK = 4 * 2**30  # bytes, where the system does not say what is free; by hand

_logger = logging.getLogger("mi_callback")


def default_limit() -> int:
    """Bytes of arrays to hold in memory: half of what is free."""
    try:
        with open("/proc/meminfo") as lines:
            free = next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))
    except (OSError, StopIteration, ValueError):
        try:
            free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        except (AttributeError, OSError, ValueError):
            return _FALLBACK
    return int(_SHARE * free)


class Storage:
    """Makes the arrays of one sweep.

    Args:
        limit: bytes to hold in memory; None takes half of what is free.
        directory: where temporary files are made; None for the system's place, which TMPDIR sets.
    """

    def __init__(self, limit: int | None = None, directory: str | None = None) -> None:
        self.limit = default_limit() if limit is None else limit
        self._directory = directory
        self._held = 0
        self._announced = False

    def empty(self, shape: tuple[int, int], dtype: np.dtype[Any]) -> NDArray[Any]:
        """An array with nothing in it yet; on disk if those before have used the memory up.

        Raises:
            CollectionError: the disk has no room for it.
        """
        size = shape[0] * shape[1] * dtype.itemsize
        if size == 0 or self._held + size <= self.limit:
            self._held += size
            return np.empty(shape, dtype)
        directory = self._directory or tempfile.gettempdir()
        try:
            with tempfile.TemporaryFile(dir=directory, prefix="mi_callback_") as file:
                if hasattr(os, "posix_fallocate"):
                    os.posix_fallocate(file.fileno(), 0, size)
                mapped = np.memmap(file, dtype=dtype, mode="w+", shape=shape)
        except OSError as error:
            raise CollectionError(
                f"collected activations: expected room for {size / 2**20:,.0f} MiB in {directory!r}, where arrays go "
                f"beyond the {self.limit / 2**20:,.0f} MiB held in memory, got: {error}. Set max_samples, name fewer "
                "layers, or point TMPDIR to a larger disk."
            ) from error
        if not self._announced:
            self._announced = True
            _logger.info(
                "Collected activations take more than %d MiB; from there on they are kept in a temporary file in %s.",
                self.limit // 2**20,
                directory,
            )
        return mapped


class Rows:
    """An (n, d) array that is filled from the top, batch by batch.

    Args:
        storage: makes the array.
        capacity: number of rows to come; None if it is not known.
        advice: what to do where the width of rows varies.
    """

    def __init__(self, storage: Storage, capacity: int | None, advice: str = "Pad all batches to one length.") -> None:
        self._storage = storage
        self._capacity = capacity
        self._advice = advice
        self._array: NDArray[Any] | None = None
        self._tensor: Tensor | None = None  # the same memory, as torch sees it

    def write(self, start: int, rows: Tensor | NDArray[Any]) -> None:
        """Copy ``rows`` of shape (b, d) to row ``start`` and on; on a device, this is the move to the host."""
        stop = start + rows.shape[0]
        if self._array is None:
            self._array = self._storage.empty((max(self._capacity or 0, stop), rows.shape[1]), _kept_as(rows))
        array = self._array
        if rows.shape[1] != array.shape[1]:
            raise CollectionError(
                f"the width varies: expected {array.shape[1]} values a sample as in the batches before, got "
                f"{rows.shape[1]}. {self._advice}"
            )
        if stop > len(array):  # the length was not known: grow by half, so that copying stays linear
            more = max(stop - len(array), len(array) // 2)
            larger = self._storage.empty((len(array) + more, array.shape[1]), array.dtype)
            larger[: len(array)] = array
            array = self._array = larger
            self._tensor = None
        if isinstance(rows, Tensor):
            if self._tensor is None:
                self._tensor = torch.from_numpy(array)
            self._tensor[start:stop].copy_(rows)
        else:
            if rows.dtype.kind in "US" and rows.dtype.itemsize > array.dtype.itemsize:
                array = self._array = array.astype(rows.dtype)  # longer strings than so far
            array[start:stop] = rows

    def finish(self, n: int) -> NDArray[Any] | None:
        """The first ``n`` rows; None if nothing was written."""
        return None if self._array is None else self._array[:n]


def _kept_as(rows: Tensor | NDArray[Any]) -> np.dtype[Any]:
    """The type in which rows are kept: as they are where numpy has it, half precisions as float32."""
    if isinstance(rows, np.ndarray):
        return rows.dtype
    if rows.dtype == torch.float64:
        return np.dtype(np.float64)
    if rows.is_floating_point():
        return np.dtype(np.float32)
    if rows.dtype == torch.uint8:  # pixels or labels: their values show which
        return np.dtype(np.uint8)
    return np.dtype(np.bool_ if rows.dtype == torch.bool else np.int64)
