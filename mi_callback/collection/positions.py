"""What becomes of the positions of a layer, the tokens of a sequence or pixels of a map, before its rows are kept.

Which axis holds features. Behind a convolution, pooling or batch norm it is the one after the samples, (b, d, h, w) or
(b, d, l); behind a linear layer, layer norm, embedding, recurrent or attention layer the last one, (b, l, d). An
activation, dropout or block has that of the last such module that ran before its output and fits its shape. Where none
does, four and more dimensions are read as maps, three as sequences.

One position a sample. With "each" a sample of the estimate is one position of one sequence, drawn anew for each
sequence and the same for all layers and epochs. Neighbouring positions are alike, and often share a target: several of
one sequence would be no independent samples, and the null, which exchanges them freely, would find dependence where
there is none. One of each leaves n independent samples of (T at a random position, Y there).
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Literal, TypeAlias

import numpy as np
import torch
from torch import Tensor, nn

from mi_callback.collection.errors import CollectionError

__all__ = [
    "CHOICES",
    "IGNORED",
    "MASKS",
    "Choice",
    "Draw",
    "FeatureAxis",
    "Grid",
    "Positions",
    "at_position",
    "attention_mask",
    "described",
    "feature_axis_of",
    "grid_of",
    "pooled",
]

Choice: TypeAlias = Literal["flatten", "mean", "first", "last", "each"] | Callable[[Tensor], Tensor]
Positions: TypeAlias = Choice | Mapping[str, Choice]
Grid: TypeAlias = tuple[int, ...]
"""Number of positions along each axis that counts them: (l,) of a sequence, (h, w) of a map."""

CHOICES = ("flatten", "mean", "first", "last", "each")
_DRAW = 0x9051  # purpose of a stream
IGNORED = -100
"""ignore_index of torch's losses: there is no target."""

_CHANNELS_FIRST = (
    nn.modules.conv._ConvNd,
    nn.modules.batchnorm._NormBase,
    nn.GroupNorm,
    nn.LocalResponseNorm,
    nn.Upsample,
    nn.PixelShuffle,
    *(getattr(nn.modules.pooling, name) for name in nn.modules.pooling.__all__),
)
_FEATURES_LAST = (
    nn.Linear,
    nn.LayerNorm,
    nn.RMSNorm,
    nn.Embedding,
    nn.RNNBase,
    nn.MultiheadAttention,
    nn.TransformerEncoderLayer,
    nn.TransformerDecoderLayer,
)
MASKS = {
    "attention_mask": True,
    "padding_mask": False,
    "key_padding_mask": False,
    "src_key_padding_mask": False,
}
"""Names under which a batch or ``forward`` has a mask (b, l), and whether it marks what counts or the padding."""


class FeatureAxis:
    """Follows a forward pass and tells which axis of a value holds features; see the module's rule."""

    def __init__(self) -> None:
        self._last: tuple[int, int, int] | None = None  # axis, number of dimensions, features

    @contextlib.contextmanager
    def attached(self, model: nn.Module) -> Iterator[None]:
        """Watch the modules that decide, for the length of a block."""
        handles = [
            module.register_forward_hook(self._seen)
            for module in model.modules()
            if isinstance(module, _CHANNELS_FIRST + _FEATURES_LAST)
        ]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def _seen(self, module: nn.Module, args: Any, output: Any) -> None:
        value = output[0] if isinstance(output, tuple) and output else output
        if isinstance(value, Tensor) and value.ndim > 2:
            axis = 1 if isinstance(module, _CHANNELS_FIRST) else -1
            self._last = axis, value.ndim, value.shape[axis]

    def of(self, value: Tensor) -> int:
        """The axis of a value of shape (b, ...) with three dimensions or more: 1 or -1."""
        if self._last is not None:
            axis, ndim, features = self._last
            if value.ndim == ndim and value.shape[axis] == features:
                return axis
        return 1 if value.ndim > 3 else -1


def grid_of(shape: Sequence[int], axis: int) -> Grid:
    """Positions of a value of shape (b, ...) whose features lie along an axis."""
    return tuple(shape[2:]) if axis == 1 else tuple(shape[1:-1])


def feature_axis_of(shape: Sequence[int], grids: set[Grid]) -> int | None:
    """How inputs or targets of shape (b, ...) line up with positions.

    Returns:
        0 if there is one value a position, -1 or 1 if the last axis or the one after the samples holds several; None if
        they do not line up with any of the grids.
    """
    rest = tuple(shape[1:])
    for axis, grid in ((0, rest), (-1, rest[:-1]), (1, rest[1:])):
        if grid and grid in grids:
            return axis
    return None


def attention_mask(inputs: Any, keywords: Mapping[str, Any], parameters: Sequence[str]) -> Tensor | None:
    """Which positions count, shape (b, l), if the model is given a mask under a usual name; else None.

    Args:
        inputs: what the model is called with, a dict by name or a tuple in the order of ``parameters``.
        keywords: what it is called with besides, by name.
        parameters: names of the model's parameters.
    """
    named = dict(keywords)
    if isinstance(inputs, Mapping):
        named |= inputs
    elif isinstance(inputs, tuple | list):
        named |= dict(zip(parameters, inputs, strict=False))
    for name, marks_what_counts in MASKS.items():
        mask = named.get(name)
        if isinstance(mask, Tensor) and mask.ndim == 2:
            return (mask != 0) == marks_what_counts
    return None


class Draw:
    """One position for each sample of a batch, the same relative place in every layer, in X and in Y.

    Args:
        size: number of samples b.
        seed: seed of the positions.
        start: number of the batch's first sample in the data set.
        mask: shape (b, l), positions that count; None for all.
        labels: targets by position with their feature axis, as ``feature_axis_of`` gives it; positions at which most of
            them are not the ignored -100 are drawn.
    """

    def __init__(
        self,
        size: int,
        *,
        seed: int,
        start: int,
        mask: Tensor | None = None,
        labels: Sequence[tuple[Tensor, int]] = (),
    ) -> None:
        rng = np.random.default_rng((seed, _DRAW, start))
        self._u = torch.from_numpy(rng.random(size))
        self._places: dict[Grid, Tensor] = {}  # grid to the position of each sample, counted through
        self._must_line_up = bool(labels)
        valid: Tensor | None = None
        grid: Grid = ()
        for values, axis in labels:
            own = tuple(values.shape[1:]) if axis == 0 else grid_of(values.shape, axis)
            known = _known(values, axis)
            if not grid:
                grid, valid = own, known.long()
            elif own == grid:
                valid = valid + known  # type: ignore[operator]
        if valid is not None:
            valid = valid == valid.amax(dim=1, keepdim=True)
        if mask is not None and (valid is None or grid == (mask.shape[1],)):
            grid = (mask.shape[1],)
            both = mask.cpu() if valid is None else valid & mask.cpu()
            valid = both
        if valid is not None:
            self._places[grid] = _chosen(valid, self._u)

    def at(self, grid: Grid) -> Tensor:
        """The position of each sample in a grid, counted through, shape (b,).

        Raises:
            CollectionError: the grid does not line up with that of the targets.
        """
        if grid in self._places:
            return self._places[grid]
        for other, places in list(self._places.items()):
            if (found := _moved(places, other, grid)) is not None:
                self._places[grid] = found
                return found
        if self._must_line_up:
            targets = next(iter(self._places))
            raise CollectionError(
                f"positions='each': expected {_shown(targets)} positions as the targets have, or a multiple or part of "
                f"them, got {_shown(grid)}. Pad the targets with -100 to the layer's positions with batch_fn, or pool "
                "the layer with positions={'<layer>': 'mean'}."
            )
        n = math.prod(grid)
        self._places[grid] = (self._u * n).long().clamp_(max=n - 1)
        return self._places[grid]


def _known(values: Tensor, axis: int) -> Tensor:
    """Whether the target of each position is there, shape (b, positions)."""
    known = torch.isfinite(values) if values.is_floating_point() else values != IGNORED
    if axis != 0:
        known = known.movedim(axis, -1).any(dim=-1)
    return known.reshape(len(known), -1).cpu()


def _chosen(valid: Tensor, u: Tensor) -> Tensor:
    """One of the valid positions of each sample, of all where none is valid, shape (b,)."""
    valid = valid | ~valid.any(dim=1, keepdim=True)
    counts = valid.sum(dim=1)
    which = (u * counts).long().minimum(counts - 1)
    reached = valid.long().cumsum(dim=1) > which[:, None]
    return reached.long().argmax(dim=1)


def _moved(places: Tensor, old: Grid, new: Grid) -> Tensor | None:
    """Places of one grid in another that is coarser or finer by whole factors, or the same counted through."""
    if math.prod(old) == math.prod(new):
        return places
    if len(old) != len(new) or any(max(a, b) % min(a, b) for a, b in zip(old, new, strict=True)):
        return None
    along = torch.unravel_index(places, old)
    moved = torch.zeros_like(places)
    for coordinate, a, b in zip(along, old, new, strict=True):
        moved = moved * b + ((2 * coordinate + 1) * b) // (2 * a)  # the cell in which the old one's middle lies
    return moved


def _shown(grid: Grid) -> str:
    return " x ".join(map(str, grid))


def described(positions: Positions) -> Any:
    """The choice in plain values, for what must be the same in every process: functions by their names."""
    if isinstance(positions, Mapping):
        return {name: described(choice) for name, choice in positions.items()}
    return positions if isinstance(positions, str) else getattr(positions, "__qualname__", type(positions).__name__)


def at_position(value: Tensor, axis: int, places: Tensor) -> Tensor:
    """Values of shape (b, ...) at one position of each sample, shape (b, d).

    Args:
        value: the values.
        axis: their feature axis, 1 or -1; 0 if there is one value a position.
        places: shape (b,), positions counted through.
    """
    rows = _by_position(value, axis)
    places = places.to(rows.device)
    return rows[torch.arange(len(rows), device=rows.device), places]


def _by_position(value: Tensor, axis: int) -> Tensor:
    """Shape (b, positions, d)."""
    if axis == 0:
        return value.reshape(len(value), -1, 1)
    moved = value.movedim(axis, -1)
    return moved.reshape(len(moved), -1, moved.shape[-1])


def pooled(
    value: Tensor, choice: Choice, axis: int, *, mask: Tensor | None = None, draw: Draw | None = None
) -> tuple[Tensor, str | None]:
    """A layer's values as rows of a sample each, and what was done; None if nothing was.

    Args:
        value: shape (b, ...).
        choice: what to do.
        axis: the feature axis, 1 or -1.
        mask: shape (b, l), positions that count.
        draw: the positions drawn, for "each".

    Raises:
        CollectionError: a function that does not give one row a sample.
    """
    if choice == "flatten":
        return value, None
    if callable(choice):
        return _by_function(value, choice)
    if value.ndim < 3:
        return value, None
    grid = grid_of(value.shape, axis)
    if choice == "each":
        assert draw is not None
        return at_position(value, axis, draw.at(grid)), "one position each"
    rows = _by_position(value, axis)
    counts = None
    if mask is not None and grid == (mask.shape[1],):
        counts = mask.to(rows.device)
        counts = counts | ~counts.any(dim=1, keepdim=True)
    if choice == "mean":
        if counts is None:
            return rows.mean(dim=1, dtype=_summed_as(rows)), "mean of positions"
        kept = torch.where(counts[:, :, None], rows, 0).sum(dim=1, dtype=_summed_as(rows))
        return kept / counts.sum(dim=1, keepdim=True), "mean of positions"
    name = f"{choice} position"
    if counts is None:
        return rows[:, 0 if choice == "first" else -1], name
    at = counts.long()
    place = at.argmax(dim=1) if choice == "first" else at.shape[1] - 1 - at.flip(1).argmax(dim=1)
    return rows[torch.arange(len(rows), device=rows.device), place], name


def _by_function(value: Tensor, function: Callable[[Tensor], Tensor]) -> tuple[Tensor, str]:
    name = f"positions by {getattr(function, '__name__', type(function).__name__)}"
    try:
        rows = function(value)
    except Exception as error:
        raise CollectionError(
            f"positions: the function failed on a tensor of shape {tuple(value.shape)}: {type(error).__name__}: "
            f"{str(error)[:200]}. Expected it to give one row a sample."
        ) from error
    if not isinstance(rows, Tensor) or rows.ndim not in (1, 2) or len(rows) != len(value):
        got = f"shape {tuple(rows.shape)}" if isinstance(rows, Tensor) else type(rows).__name__
        raise CollectionError(
            f"positions: expected the function to make a tensor of shape ({len(value)}, d) of one of shape "
            f"{tuple(value.shape)}, got {got}."
        )
    return rows, name


def _summed_as(rows: Tensor) -> torch.dtype:
    return torch.float64 if rows.dtype == torch.float64 else torch.float32
