"""Measure a model by itself, or in a training loop of one's own: no Trainer, and no Lightning."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

from torch import nn

from mi_callback.collection import PlainHost, Processes
from mi_callback.collection.positions import Positions
from mi_callback.monitoring.arguments import Settings, data_sets
from mi_callback.monitoring.core import MonitoringCore, Publisher
from mi_callback.reporting import History

__all__ = ["measure"]


def measure(
    model: nn.Module,
    loader: Any,
    *,
    epoch: int = 0,
    history: History | None = None,
    layers: list[str] | dict[str, str] | str | None = None,
    quantities: tuple[Literal["target", "input"], ...] = ("target", "input"),
    max_samples: int | None = None,
    k: int = 3,
    n_permutations: int = 100,
    space: Literal["auto", "raw", "standard", "scores", "supervised"] = "auto",
    metric: Literal["euclidean", "chebyshev"] = "euclidean",
    unit: Literal["bits", "nats"] = "bits",
    seed: int = 0,
    batch_fn: Callable[[Any], Any] | None = None,
    noise_std: float | list[float] | None = None,
    discrete_target: bool | None = None,
    active_dropout: bool = False,
    on_error: Literal["warn", "raise"] = "warn",
    n_points: int | Literal["auto"] | None = "auto",
    positions: Positions = "flatten",
) -> History:
    """Measure the mutual information of a model's layers with its target and its input, once.

    The model runs once over the data, in evaluation mode and on the device on which it is. Its weights, buffers, modes
    and gradients, the loader and all random number generators are afterwards as they were, so that a training loop goes
    on as if nothing had been measured. A model wrapped for distributed training is measured by each process that calls,
    by itself: call it in one of them.

    Args:
        model: any module, also one that Fabric or accelerate has set up.
        loader: a DataLoader, or another iterable of batches that can be read twice; or a dict of names to them, such as
            ``{"train": ..., "test": ...}``. It is not iterated itself: samples come in the order of its data set. A
            loader without a name is called "data".
        epoch: where to put what is measured. What the history has at this epoch is replaced.
        history: a history to add to; None starts a new one.
        layers: names, globs or labels of layers; None for activation modules, or else blocks; more on this and on all
            that follow in ``MutualInformationMonitor``.
        quantities: "target" for I(T;Y), "input" for I(X;T).
        max_samples: the most samples to measure on, as a fixed random subset.
        k: number of neighbours.
        n_permutations: size of the permutation null; 0 for none.
        space: how activations are scaled before distances are taken; "auto" lets candidates compete.
        metric: "euclidean" or "chebyshev".
        unit: "bits" or "nats".
        seed: seed of permutations, subsets and augmentation.
        batch_fn: batch -> (inputs, targets), where the batch is neither a pair nor a dict of the usual keys.
        noise_std: standard deviation sigma of measurement noise for I(X; T + sigma Z), or several.
        discrete_target: whether Y is discrete; None goes by type and values.
        active_dropout: measure with dropout drawing as in training.
        on_error: whether a layer that cannot be estimated is NaN, with a warning, or an error. That the model cannot
            be run is always an error.
        n_points: number of evaluation points.
        positions: what to do with the tokens or pixels of a layer: "flatten", "mean", "first", "last", "each", a
            function, or a dict from names of layers to one of these.

    Returns:
        The history, with one row a data set, layer and quantity more.

    Raises:
        ValueError: an argument out of its range, a loader of something else than the model takes (CollectionError), or
            a history of another unit or of other layers. The history is then as it was.

    Example:
        >>> import torch
        >>> from mi_callback import measure
        >>> x = torch.randn(100, 2)
        >>> data = torch.utils.data.TensorDataset(x, x[:, :1] + torch.randn(100, 1))
        >>> loader = torch.utils.data.DataLoader(data, batch_size=50)
        >>> history = measure(torch.nn.Linear(2, 1), loader, n_permutations=0, space="scores")
        >>> [(row["layer"], row["quantity"]) for row in history.to_rows()]
        [('output', 'target'), ('output', 'usable'), ('output', 'input')]
    """
    if not isinstance(model, nn.Module):
        raise ValueError(f"model: expected a torch.nn.Module, got {type(model).__name__}.")
    if not (isinstance(epoch, int) and not isinstance(epoch, bool)):
        raise ValueError(f"epoch: expected an int, got {epoch!r}.")
    if history is not None and not isinstance(history, History):
        raise ValueError(f"history: expected a History or None, got {type(history).__name__}. History.load reads one.")
    settings = Settings(
        caller="measure",
        layers=layers,
        quantities=quantities,
        max_samples=max_samples,
        k=k,
        n_permutations=n_permutations,
        space=space,
        metric=metric,
        unit=unit,
        seed=seed,
        batch_fn=batch_fn,
        noise_std=noise_std,
        discrete_target=discrete_target,
        active_dropout=active_dropout,
        positions=positions,
        on_error=on_error,
        n_points=n_points,
    )
    core = MonitoringCore(settings, history=history, keeps_going=False)
    host = PlainHost(model, data_sets(loader, named=(), caller="measure", argument="loader"))
    core.begin(host, Processes(), epoch=epoch, is_new_run=False)
    _check_history(core.history, unit, core.layers)
    core.measure(host, epoch=epoch, step=epoch, publisher=Publisher())
    return core.history


def _check_history(history: History, unit: str, layers: Sequence[str]) -> None:
    """Refuse to put into a history what does not belong there."""
    if not len(history):
        return
    if history.unit != unit:
        raise ValueError(
            f"history: it holds values in {history.unit}, and unit={unit!r} was asked for. Give unit={history.unit!r}, "
            "or start a new history with history=None."
        )
    if set(layers) != set(history.layers):
        raise ValueError(
            f"history: it holds the layers {history.layers}, and measured would be {list(layers)}. Name the same "
            "layers with layers=, start a new history with history=None, or lay those of different networks over one "
            "another with History.merged."
        )
