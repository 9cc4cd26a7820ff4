"""What a batch holds: inputs and targets out of it, inputs into the model, a layer's rows out of its output.

What is X and what is Y, where no ``batch_fn`` says so. A tensor is X. Of a dict, keys with usual names are X and Y. Of
a tuple or list, as many leading parts as ``forward`` requires are X and the one that is left is Y: two parts are (X, Y)
for a ``forward`` of one argument and two inputs for one of two. In ((a, b), Y) a ``forward`` that cannot take the pair
gets the first view, a, which then is X. What might as well be meant otherwise, a second part that looks like another
view among it, is told once. Y that is a dict or tuple is several tasks.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from mi_callback.collection.errors import CollectionError

__all__ = [
    "BatchFn",
    "Split",
    "at_full_precision",
    "call_model",
    "check_rows",
    "describe",
    "first_tensor",
    "first_view",
    "holds_integers",
    "parameter_names",
    "rows_of",
    "split_batch",
    "tasks_of",
]

BatchFn = Callable[[Any], Sequence[Any]]

_INPUT_KEYS = (
    *("x", "input", "inputs", "image", "images", "img", "features", "data"),
    *("pixel_values", "input_ids", "inputs_embeds", "input_values", "input_features"),  # of Hugging Face's models
)
_TARGET_KEYS = ("y", "target", "targets", "label", "labels", "class")
_OUTPUT_KEYS = ("logits", "output", "last_hidden_state", "prediction", "y_hat")


@dataclass(frozen=True, slots=True)
class Split:
    """A batch taken apart.

    Attributes:
        inputs: what the model is called with.
        measured: what X is in I(X;T); all that the model is called with and that has a row a sample, but not the
            targets in a whole batch, unless ``batch_fn`` gave a third value. None if there is no X.
        targets: Y, or None if the batch has none.
        size: number of samples.
        key: the name of the inputs in a dict batch; None for any other batch.
        keywords: what else of a dict batch the model is called with, by name.
        left_out: keys of a dict that are neither inputs nor targets, and that ``forward`` does not take.
        guess: what was guessed of the batch, to be told; empty if its form says it.
    """

    inputs: Any
    measured: Any
    targets: Any
    size: int
    key: str | None = None
    keywords: Mapping[str, Any] = field(default_factory=dict)
    left_out: tuple[str, ...] = ()
    guess: str = ""


def split_batch(batch: Any, batch_fn: BatchFn | None, model: nn.Module | None = None) -> Split:
    """Take inputs and targets out of a batch.

    Args:
        batch: a batch as the model gets it.
        batch_fn: the user's way to do it, batch -> (inputs, targets) or (inputs, targets, measured inputs), of which
            the last is None if there is no X. Without it the module's rule holds.
        model: what will be called. Of a dict it gets every further key that its ``forward`` takes, such as a mask, but
            not the targets: a model that gets its labels returns its loss. None for a model that takes inputs alone.

    Raises:
        CollectionError: the batch is not understood, or its parts have different lengths.
    """
    key: str | None = None
    keywords: dict[str, Any] = {}
    left_out: tuple[str, ...] = ()
    guess = ""
    if batch_fn is not None:
        try:
            parts = batch_fn(batch)
        except Exception as error:
            raise CollectionError(
                f"batch_fn: {type(error).__name__}: {str(error)[:200]}. It was called with {describe(batch)}; expected "
                "it to return (inputs, targets)."
            ) from error
        if not isinstance(parts, tuple | list) or len(parts) not in (2, 3):
            raise CollectionError(
                f"batch_fn: expected it to return (inputs, targets) or (inputs, targets, measured inputs), "
                f"got {describe(parts)}. Return None as the targets if there are none."
            )
        inputs, targets = parts[0], parts[1]
        if len(parts) == 3:
            measured = parts[2]
            size = _size_of_samples(measured, targets, inputs)
        else:
            size = _size(inputs, "inputs")
            measured = _of_samples(_without_labels(inputs, targets), size)
    else:
        inputs, targets, key, others, guess = _understand(batch, model)
        takes = _takes(model)
        keywords = {name: value for name, value in others.items() if takes(name)}
        left_out = tuple(str(name) for name in others if name not in keywords)
        size = _size(inputs, "inputs")
        further = tuple(value for value in keywords.values() if _is_of_samples(value, size))
        measured = (inputs, *further) if further else inputs
    for name, part in (("measured inputs", measured), ("targets", targets)):
        if part is not None and (length := _size(part, name)) != size:
            raise CollectionError(
                f"batch: expected {name} as long as the inputs, got {length} and {size} in {describe(batch)}. "
                "Use batch_fn to pick what belongs together."
            )
    return Split(inputs, measured, targets, size, key, keywords, left_out, guess)


def at_full_precision(split: Split, batch: Any, batch_fn: BatchFn | None, model: nn.Module | None = None) -> Split:
    """X and Y as the data set gave them, where a half precision of the trainer has only rounded them.

    Rounding a continuous Y to eight bits makes ties that were never in the data. The model still gets what it gets in
    training.

    Args:
        split: the batch as the model gets it.
        batch: the batch as the loader gave it.
        batch_fn: the user's way to take a batch apart.
        model: what is called with it.
    """
    if not (_has_half(split.measured) or _has_half(split.targets)):
        return split
    try:
        given = split_batch(batch, batch_fn, model)
    except Exception:  # a batch_fn that needs the batch on the device, say: the rounded values will do
        return split
    return replace(split, measured=_finer(split.measured, given.measured), targets=_finer(split.targets, given.targets))


def call_model(model: nn.Module, split: Split) -> Any:
    """Call a model the way its ``forward`` takes these inputs.

    Of a dict batch, inputs and keywords go by their names; inputs whose key is no parameter go to the first parameter
    that the keywords leave. Inputs that are a tuple or list are spread over the positional parameters if ``forward``
    has more than one, a dict over the keyword parameters if ``forward`` has all of its keys; anything else is passed
    as it is.
    """
    inputs = split.inputs
    if isinstance(inputs, Tensor) and not split.keywords and split.key is None:
        return model(inputs)
    parameters = list(inspect.signature(model.forward).parameters.values())
    named = [p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
    if split.key is not None:
        by_position = any(p.kind in (p.POSITIONAL_ONLY, p.VAR_POSITIONAL) for p in parameters)
        left = [name for name in named if name not in split.keywords]
        if split.key in named or not (by_position or left):
            return model(**{split.key: inputs}, **split.keywords)
        if by_position:
            return model(inputs, **split.keywords)
        return model(**{left[0]: inputs}, **split.keywords) if split.keywords else model(inputs)
    if isinstance(inputs, Mapping):
        if any(p.kind is p.VAR_KEYWORD for p in parameters) or set(named).issuperset(inputs):
            return model(**inputs)
    elif isinstance(inputs, tuple | list):
        positional = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
        if len(positional) > 1 or any(p.kind is p.VAR_POSITIONAL for p in parameters):
            return model(*inputs)
    return model(inputs)


def _without_labels(inputs: Any, targets: Any) -> Any:
    """What X is where ``forward`` gets a whole batch: all of it but the labels, which would make I(X;Y) all of H(Y).

    Goes by name as well as by identity, since the targets of an autoencoder are its inputs.
    """
    if targets is None or not isinstance(inputs, Mapping):
        return inputs
    kept = {
        key: _without_labels(part, targets)
        for key, part in inputs.items()
        if part is not targets or key not in _TARGET_KEYS
    }
    return kept or inputs


def _takes(model: nn.Module | None) -> Callable[[Any], bool]:
    """Which keys of a dict batch the model's ``forward`` takes by name; all of them if it has ``**kwargs``."""
    if model is None:
        return lambda key: False
    parameters = inspect.signature(model.forward).parameters.values()
    named = {p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)}
    takes_all = any(p.kind is p.VAR_KEYWORD for p in parameters)
    return lambda key: isinstance(key, str) and (takes_all or key in named)


def parameter_names(model: nn.Module) -> list[str]:
    """Names of the parameters of ``forward`` that take arguments by position."""
    return [p.name for p in _positional(model)]


def _positional(model: nn.Module | None) -> list[inspect.Parameter]:
    if model is None:
        return []
    parameters = inspect.signature(model.forward).parameters.values()
    return [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]


def first_view(split: Split) -> Split | None:
    """The batch with the first of several views as its inputs; None if the inputs are not views.

    Views are a tuple or list of several tensors of one shape and type.
    """
    views = split.inputs
    if split.key is not None or not isinstance(views, tuple | list) or len(views) < 2 or not _alike(*views):
        return None
    guess = (
        f"takes the first of {len(views)} tensors of one shape as the input X, since forward takes one; "
        "batch_fn=lambda batch: (inputs, targets) says otherwise"
    )
    measured = views[0] if split.measured is views else split.measured
    return replace(split, inputs=views[0], measured=measured, guess=guess)


def tasks_of(targets: Any) -> dict[str, Any]:
    """The targets of each task by name; of a single task the name is empty.

    A dict has its keys as names, a named tuple its fields, a tuple or list of tensors their numbers.
    """
    if isinstance(targets, Mapping):
        named = {str(key): part for key, part in targets.items()}
    elif isinstance(targets, tuple | list) and not _is_list_of_values(targets):
        names = getattr(targets, "_fields", None) or range(len(targets))
        named = {str(name): part for name, part in zip(names, targets, strict=True)}
    else:
        return {} if targets is None else {"": targets}
    named = {re.sub(r"[^\w.-]", "_", name): part for name, part in named.items() if part is not None}  # part of tags
    return {"": next(iter(named.values()))} if len(named) == 1 else named


def first_tensor(value: Any) -> Tensor | None:
    """The tensor that a module's output stands for; None if there is none.

    Of a tuple it is the first, which is the output of a recurrent or attention layer; of a dict the one under a usual
    key, else the first.
    """
    if isinstance(value, Tensor):
        return value
    if isinstance(value, Mapping):
        usual = [value[key] for key in _OUTPUT_KEYS if isinstance(value.get(key), Tensor)]
        value = usual or list(value.values())
    if isinstance(value, tuple | list):
        return next((found for part in value if (found := first_tensor(part)) is not None), None)
    return None


def rows_of(value: Any, size: int, *, batch_dim: int = 0) -> Tensor | np.ndarray:
    """Flatten a value to one row a sample.

    Args:
        value: a tensor, an array, a nest of them (joined along the features), or a list of numbers or strings.
        size: the number of samples expected.
        batch_dim: the dimension that counts samples.

    Returns:
        Shape (size, d).

    Raises:
        CollectionError: ``value`` has no dimension of ``size`` samples there.
    """
    if not isinstance(value, Tensor):
        value = _joined(value, size)
    check_rows(value, size, batch_dim)
    if isinstance(value, Tensor):
        value = value.detach()
        if value.is_complex():
            value = torch.view_as_real(value)
        if value.is_sparse or value.is_nested:
            raise CollectionError(f"expected a dense tensor, got {value.layout}. Measure a layer with dense values.")
    rows: Tensor | np.ndarray = (value if batch_dim == 0 else value.swapaxes(0, batch_dim)).reshape(size, -1)
    return rows


def check_rows(value: Tensor | np.ndarray, size: int, batch_dim: int = 0) -> None:
    """Refuse a value without ``size`` samples along a dimension."""
    if value.ndim <= batch_dim or value.shape[batch_dim] != size:
        raise CollectionError(
            f"expected the batch's {size} samples along dimension {batch_dim}, got shape {tuple(value.shape)}. "
            "Measure a layer that keeps one row a sample, such as one after pooling."
        )


def _joined(value: Any, size: int) -> Any:
    """A nest of arrays as one array of rows, a list of numbers or strings as an array."""
    if isinstance(value, Mapping):
        value = list(value.values())
    if isinstance(value, tuple | list):
        if _is_list_of_values(value):
            if missing := sum(part is None for part in value):
                raise CollectionError(
                    f"expected a value for every sample, got None for {missing} of {size} in a batch. Leave such "
                    "samples out of the data set, or give them a label of their own with batch_fn."
                )
            value = np.asarray(value)
        else:
            parts = [torch.as_tensor(rows_of(part, size)) for part in value if part is not None]
            if not parts:
                raise CollectionError(
                    f"expected one row a sample, got {describe(value)}. Use batch_fn to give tensors."
                )
            value = parts[0] if len(parts) == 1 else torch.cat(_of_one_type(parts), dim=1)
    if not isinstance(value, Tensor | np.ndarray):
        raise CollectionError(f"expected one row a sample, got {describe(value)}. Use batch_fn to give tensors.")
    return value


def _of_one_type(parts: list[Tensor]) -> list[Tensor]:
    """Rows that can be joined: integers stay integers, which token ids beside their mask are, all else is float."""
    if any(part.is_floating_point() for part in parts):
        return [part.float() if part.dtype != torch.float64 else part for part in parts]
    return [part.long() for part in parts]


def _is_list_of_values(value: Any) -> bool:
    """Whether a list holds one plain value a sample, or none where it is missing."""
    plain = str | int | float | np.generic | None
    return bool(value) and any(part is not None for part in value) and all(isinstance(p, plain) for p in value)


def holds_integers(value: Any) -> bool:
    """Whether any part of a value is integers of a kind that can number the rows of an embedding."""
    if isinstance(value, Mapping):
        value = list(value.values())
    if isinstance(value, tuple | list):
        return any(map(holds_integers, value))
    return isinstance(value, Tensor | np.ndarray) and str(value.dtype).removeprefix("torch.") in ("int32", "int64")


def describe(value: Any, depth: int = 2) -> str:
    """What a value is, for messages: types, keys and shapes."""
    if isinstance(value, Tensor | np.ndarray):
        return f"{type(value).__name__} of shape {tuple(value.shape)}"
    if isinstance(value, Mapping) and depth:
        return "{" + ", ".join(f"{key!r}: {describe(part, depth - 1)}" for key, part in value.items()) + "}"
    if isinstance(value, tuple | list) and depth:
        shown = ", ".join(describe(part, depth - 1) for part in value[:6]) + (", ..." if len(value) > 6 else "")
        return f"{type(value).__name__} ({shown})"
    return type(value).__name__


def _understand(batch: Any, model: nn.Module | None) -> tuple[Any, Any, str | None, dict[Any, Any], str]:
    """Inputs and targets of a batch in one of the usual forms, and what was guessed.

    Of a dict also the inputs' key and all that is left.
    """
    if isinstance(batch, Tensor):
        return batch, None, None, {}, ""
    if isinstance(batch, Mapping):
        inputs = [key for key in _INPUT_KEYS if key in batch]
        targets = [key for key in _TARGET_KEYS if key in batch]
        if len(inputs) == 1 and len(targets) <= 1:
            others = {key: batch[key] for key in batch if key not in (*inputs, *targets)}
            return batch[inputs[0]], batch[targets[0]] if targets else None, inputs[0], others, ""
    elif isinstance(batch, tuple | list) and len(batch) == 1 and isinstance(batch[0], Tensor):
        return batch[0], None, None, {}, ""
    elif isinstance(batch, tuple | list) and len(batch) > 1 and _length(batch[0]) is not None:
        n_required = sum(p.default is p.empty for p in _positional(model))
        if 1 < n_required == len(batch):
            guess = (
                f"takes all {len(batch)} parts of the batch as inputs, since forward requires as many, and no target"
            )
            return tuple(batch), None, None, {}, f"{guess}; batch_fn=lambda batch: (inputs, targets) says otherwise"
        if 1 < n_required == len(batch) - 1:
            guess = f"takes the first {n_required} parts of the batch as inputs, since forward requires as many, "
            guess += "and the last as the target; batch_fn=lambda batch: (inputs, targets) says otherwise"
            return tuple(batch[:-1]), batch[-1], None, {}, guess
        if len(batch) == 2:
            return batch[0], batch[1], None, {}, _maybe_views(*batch)
    example, more = "batch[0], batch[1]", ""
    if isinstance(batch, Mapping):
        example = "batch['a'], batch['b']"
        if len(batch) > 2:
            more = "; if forward takes more than one key, such as a mask, the inputs are a dict of them"
    raise CollectionError(
        f"batch: say which part is what with batch_fn=lambda batch: ({example}), inputs first, then targets{more}; got "
        f"{describe(batch)}. Understood without it are a tensor, (inputs, targets), and a dict with one of "
        f"{', '.join(_INPUT_KEYS)} and one of {', '.join(_TARGET_KEYS)}."
    )


def _maybe_views(first: Any, second: Any) -> str:
    """What to tell of a pair that might be two views of one input, as contrastive learning has them."""
    if not _alike(first, second) or first.ndim < 2 or first[0].numel() == 1 or torch.equal(first, second):
        return ""
    if bool(((second == 0) | (second == 1)).all()):  # codes of classes
        return ""
    return (
        f"takes the second of two tensors of shape {tuple(first.shape)} as the target Y; if it is another view of the "
        "input, as in contrastive learning, say batch_fn=lambda batch: (batch[0], None)"
    )


def _alike(*values: Any) -> bool:
    """Whether all are floating-point tensors of one shape."""
    return all(isinstance(v, Tensor) and v.is_floating_point() for v in values) and len({v.shape for v in values}) == 1


def _of_samples(inputs: Any, size: int) -> Any:
    """Those parts of the inputs that have a row a sample, and so are X: not the edges of a graph."""
    if isinstance(inputs, Mapping):
        kept = {key: part for key, part in inputs.items() if _length(part) == size}
        return kept or inputs
    if isinstance(inputs, tuple | list) and not _is_list_of_values(inputs):
        return tuple(part for part in inputs if _length(part) == size)
    return inputs


def _size_of_samples(measured: Any, targets: Any, inputs: Any) -> int:
    """Number of samples where X is told apart from the inputs, which may count something else, such as nodes."""
    name, value = next(
        (one for one in (("measured inputs", measured), ("targets", targets)) if one[1] is not None), ("inputs", inputs)
    )
    return _size(value, name)


def _is_of_samples(value: Any, size: int) -> bool:
    """Whether a further argument has one row of numbers a sample, and so is a part of X."""
    return isinstance(value, Tensor | np.ndarray) and value.ndim > 0 and value.shape[0] == size


def _has_half(value: Any) -> bool:
    if isinstance(value, Mapping):
        value = tuple(value.values())
    if isinstance(value, tuple | list):
        return any(map(_has_half, value))
    return isinstance(value, Tensor) and value.dtype in (torch.float16, torch.bfloat16)


def _finer(seen: Any, given: Any) -> Any:
    """``given`` if ``seen`` is the same, rounded; else what hooks have made of it."""
    if isinstance(seen, Mapping) and isinstance(given, Mapping) and seen.keys() == given.keys():
        return {key: _finer(part, given[key]) for key, part in seen.items()}
    if isinstance(seen, tuple | list) and isinstance(given, tuple | list) and len(seen) == len(given):
        return tuple(map(_finer, seen, given))
    if isinstance(seen, Tensor) and _has_half(seen) and isinstance(given, Tensor) and given.is_floating_point():
        same = given.shape == seen.shape and torch.equal(given.to(seen.dtype), seen.to(given.device))
        return given if same else seen
    return seen


def _size(value: Any, name: str) -> int:
    length = _length(value)
    if length is None:
        raise CollectionError(
            f"batch: expected {name} with one row a sample, got {describe(value)}. Use batch_fn to give "
            "(inputs, targets) as tensors."
        )
    return length


def _length(value: Any) -> int | None:
    """Number of samples in a value: the first dimension of the first array in it."""
    if isinstance(value, Tensor | np.ndarray):
        return int(value.shape[0]) if value.ndim else None
    if isinstance(value, Mapping):
        value = list(value.values())
    if isinstance(value, tuple | list):
        if _is_list_of_values(value):
            return len(value)
        return next((length for part in value if (length := _length(part)) is not None), None)
    return None
