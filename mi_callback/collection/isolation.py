"""Looking at a model and its data without leaving a trace: random numbers, modes, buffers and data sets."""

from __future__ import annotations

import contextlib
import functools
import io
import pickle
import random
import types
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

__all__ = ["copy_for_reading", "frozen", "random_state_kept", "seeded"]


@contextlib.contextmanager
def random_state_kept() -> Iterator[None]:
    """Put back the state of every global random number generator on leaving, however the block is left.

    Covers torch on the CPU and on all accelerators in use, numpy's legacy generator and Python's.
    """
    python, legacy, cpu = random.getstate(), np.random.get_state(), torch.get_rng_state()  # noqa: NPY002
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else None
    mps = torch.mps.get_rng_state() if torch.backends.mps.is_available() else None
    try:
        yield
    finally:
        random.setstate(python)
        np.random.set_state(legacy)  # noqa: NPY002
        torch.set_rng_state(cpu)
        if cuda is not None:
            torch.cuda.set_rng_state_all(cuda)
        if mps is not None:
            torch.mps.set_rng_state(mps)


@contextlib.contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Run a block from a fixed random state, so that augmentation gives the same samples at every epoch.

    The state is not that of ``manual_seed(seed)``: data made from a small seed would meet its own numbers again in the
    noise of a layer, and share information with it.
    """
    with random_state_kept():
        seed = int(np.random.SeedSequence((seed, 0x5EED)).generate_state(1)[0])
        random.seed(seed)
        np.random.seed(seed % 2**32)  # noqa: NPY002
        torch.manual_seed(seed)
        yield


@contextlib.contextmanager
def frozen(model: nn.Module, *, active_dropout: bool = False) -> Iterator[None]:
    """Evaluate a model in mid-training and put back all that evaluating changes.

    Every module's ``training`` flag is set and restored by itself: ``eval()`` and ``train()`` would thaw frozen batch
    normalisation and call overrides with effects of their own. Buffers that the forward pass writes are restored.
    Compiled models run eagerly, because compiled code does not call hooks.

    Args:
        model: the model.
        active_dropout: leave dropout modules in training mode.
    """
    flags = [(module, module.training) for module in model.modules()]
    buffers = [(buffer, buffer._version, buffer.detach().clone()) for buffer in model.buffers()]
    owned = [(module, dict(module._buffers)) for module in model.modules() if module._buffers]
    with contextlib.ExitStack() as stack:
        stack.enter_context(torch.no_grad())  # not inference_mode: a tensor cached by a module must survive a backward
        stack.enter_context(torch.compiler.set_stance("force_eager"))
        try:
            for module, _ in flags:
                module.training = active_dropout and isinstance(module, nn.modules.dropout._DropoutNd)
            yield
        finally:
            for module, flag in flags:
                module.training = flag
            for module, registered in owned:
                module._buffers.update(registered)  # a forward that rebinds a buffer instead of writing into it
            for buffer, version, before in buffers:
                if buffer._version != version:
                    buffer.copy_(before)


def copy_for_reading(value: Any, seed: int) -> Any:
    """Copy a data set, or whatever else gives samples, so that reading the copy leaves the original as it is.

    Tensors, arrays and modules are shared, so the copy costs no memory to speak of; the objects between them are
    copied. Random number generators in the copy are new ones from ``seed``: reading draws nothing from the
    original's, and draws the same at every epoch.

    Args:
        value: what to copy.
        seed: seed of the generators in the copy.

    Raises:
        Exception: whatever pickling raises on what cannot be copied, such as open files and locks.
    """
    shared: list[Any] = []
    buffer = io.BytesIO()
    _SharingPickler(buffer, shared, seed).dump(value)
    buffer.seek(0)
    return _SharingUnpickler(buffer, shared).load()


_SHARED = (
    Tensor,
    nn.Module,
    types.FunctionType,
    types.BuiltinFunctionType,
    types.ModuleType,
    type,
    str,
    bytes,
    torch.device,
)  # large, or the same in any copy


@functools.cache
def _owns_data(bases: tuple[type, ...]) -> bool:
    """Whether an object of a class is a trainer or a data module, which a data set may know but never reads from."""
    return any(base.__name__ in ("Trainer", "LightningDataModule") for base in bases)


class _SharingPickler(pickle.Pickler):
    """Pickles the structure of an object, its data by reference and its random generators as fresh ones."""

    def __init__(self, file: io.BytesIO, shared: list[Any], seed: int) -> None:
        super().__init__(file, protocol=5)
        self._shared = shared
        self._seeds = iter(range(seed, seed + 2**31))

    def persistent_id(self, obj: Any) -> int | None:
        plain_array = isinstance(obj, np.ndarray) and obj.dtype != object
        if isinstance(obj, _SHARED) or plain_array or _owns_data(type(obj).__mro__):
            self._shared.append(obj)
            return len(self._shared) - 1
        return None

    def reducer_override(self, obj: Any) -> Any:
        if isinstance(obj, torch.Generator):
            return _torch_generator, (next(self._seeds), str(obj.device))
        if isinstance(obj, np.random.Generator):
            return _numpy_generator, (type(obj.bit_generator), next(self._seeds))
        if isinstance(obj, np.random.RandomState):
            return np.random.RandomState, (next(self._seeds) % 2**32,)
        if type(obj) is random.Random:
            return random.Random, (next(self._seeds),)
        return NotImplemented


class _SharingUnpickler(pickle.Unpickler):
    def __init__(self, file: io.BytesIO, shared: list[Any]) -> None:
        super().__init__(file)
        self._shared = shared

    def persistent_load(self, pid: Any) -> Any:
        return self._shared[pid]


def _torch_generator(seed: int, device: str) -> torch.Generator:
    return torch.Generator(device).manual_seed(seed)


def _numpy_generator(bit_generator: Callable[[int], Any], seed: int) -> np.random.Generator:
    return np.random.Generator(bit_generator(seed))
