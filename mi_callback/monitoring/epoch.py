"""One epoch's measurement of one data set from the sweep to the estimates, on one process or several."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from mi_callback.collection import (
    Collected,
    CollectionError,
    Host,
    Layer,
    Processes,
    Together,
    gather,
    select_layers,
    sweep,
)
from mi_callback.estimation.ceilings import Ceilings
from mi_callback.estimation.layer_estimator import AT_POINTS, Measured
from mi_callback.monitoring.cost import Cost
from mi_callback.monitoring.faults import Faults
from mi_callback.monitoring.measuring import Measurer, has_metric, noisy_layers
from mi_callback.monitoring.progress import Progress
from mi_callback.monitoring.telling import info, warn

__all__ = ["EpochMeasurer", "Measurement"]


@dataclass(frozen=True, slots=True)
class Measurement:
    """What was measured of one data set at the end of one epoch, the same on every process.

    Attributes:
        data: name of the data set.
        results: one entry a layer and quantity; NaN where measuring failed.
        ceilings: name to value and standard error; empty if they could not be measured.
        n_samples: number of samples.
    """

    data: str
    results: tuple[Measured, ...]
    ceilings: dict[str, tuple[float, float]]
    n_samples: int

    @property
    def n_points(self) -> tuple[int, ...]:
        """Evaluation points of each estimate that is taken at points, whose cost grows with them."""
        estimates = (result.estimate for result in self.results)
        return tuple(e.n_points for e in estimates if e.n_points is not None and e.estimator in AT_POINTS)


class EpochMeasurer:
    """Sweeps and estimates one data set at the end of an epoch.

    Args:
        data: name of the data set.
        measurer: estimates what a sweep has collected.
        faults: where failures go.
        cost: where times go.
        layers: what to measure, as the user wrote it.
        positions: what becomes of the positions of layers, as the user wrote it.
        batch_fn: batch -> (inputs, targets).
        max_samples: the most samples to take.
        seed: seed of subsets and augmentation.
        active_dropout: leave dropout drawing as it does in training.
        keeps_going: whether training must go on where the model cannot be run over the data.
    """

    def __init__(
        self,
        data: str,
        measurer: Measurer,
        faults: Faults,
        cost: Cost,
        *,
        layers: Any,
        positions: Any,
        batch_fn: Callable[[Any], Any] | None,
        max_samples: int | None,
        seed: int,
        active_dropout: bool,
        keeps_going: bool = True,
    ) -> None:
        self.data = data
        self._of = "the training set" if data == "train" else f"the data {data!r}"
        self._measurer = measurer
        self._faults = faults
        self._cost = cost
        self._layers = layers
        self._positions = positions
        self._batch_fn = batch_fn
        self._max_samples = max_samples
        self._seed = seed
        self._active_dropout = active_dropout
        self._keeps_going = keeps_going
        self._chosen: Sequence[Layer] = ()
        self._stochastic: frozenset[str] = frozenset()
        self._keys: tuple[tuple[str, str], ...] = ()  # logged at every epoch: one that fails logs NaN
        self._processes = Processes()

    @property
    def layers(self) -> tuple[str, ...]:
        """Names of the layers, known once training has begun."""
        return tuple(dict.fromkeys(layer for layer, _ in self._keys))

    @property
    def quantities(self) -> tuple[str, ...]:
        """Names of what is measured of each layer, known once training has begun."""
        return tuple(dict.fromkeys(quantity for _, quantity in self._keys))

    def begin(self, host: Host, processes: Processes) -> Collected | None:
        """Find the layers and try one batch, so that what cannot work is an error before hours are spent.

        Args:
            host: the model and its surroundings.
            processes: those that measure together; every one of them must call.

        Returns:
            The first batch; None if it failed in a way that may pass, and is tried again at the end of the epoch.

        Raises:
            CollectionError: an unknown layer, one that does not fire, or a batch that is not understood; whatever goes
                wrong with a batch that is not one of training, which nothing else has tried.
        """
        self._processes = processes
        first: Collected | None
        first, error = self._attempt(lambda: self._first_batch(host))
        error = processes.agree(error if error is None else self._explained(error))
        if error is not None and (isinstance(error, CollectionError) or not self._keeps_going):
            raise error
        self._stochastic = processes.share(self._stochastic)[0]
        if error is not None:  # it may pass: tried again at the end of the epoch
            self._keys = ()  # on every process, so that all log the same
            self._faults.add("running the model over a first batch", error)
            return None
        return first

    def _explained(self, error: Exception) -> Exception:
        """The error that a first batch met, which in a data set of the user's own says what to look at."""
        is_tried = self.data == "train" and self._keeps_going  # by training itself, sooner or later
        if is_tried or isinstance(error, CollectionError | torch.OutOfMemoryError):
            return error
        failed = CollectionError(
            f"data {self.data!r}: the model could not be run over a first batch: {type(error).__name__}: "
            f"{' '.join(str(error).split()):.300}. Give a loader of the batches that the model "
            "takes, or pick inputs and targets out of a batch with batch_fn."
        )
        failed.__cause__ = error
        return failed

    def end(self) -> None:
        """Let go of the processes of a training run."""
        self._processes = Processes()

    def measure(self, host: Host, *, most_points: int | None = None, progress: Progress) -> Measurement:
        """Sweep and estimate; every process must call.

        Args:
            host: the model and its surroundings.
            most_points: the most evaluation points to take, the same on every process; None for no limit.
            progress: shows how far it is.

        Raises:
            Exception: the first failure, on every process, if the faults are not to be passed over.
        """
        found: list[Measured] = []
        ceilings: dict[str, tuple[float, float]] = {}
        n_samples = 0
        self._measurer.limit_points(most_points)
        try:
            with self._cost.part("sweep"):
                collected = self._collect(host, progress)
        except Exception as error:  # the same on all processes
            if not self._keeps_going:
                raise
            self._faults.add(f"running the model over {self._of}", error)
        else:
            n_samples = collected.n_samples
            with self._cost.part("estimate"):
                found, ceilings = self._estimate(collected, progress)
        results = {(result.layer, result.quantity): result for result in found}
        self._keys = self._keys or tuple(results)
        for layer, quantity in self._keys:
            missing = Measured(layer, quantity, self._measurer.estimator.failed(n_samples))
            results.setdefault((layer, quantity), missing)
        for result in found:
            if result.error is not None:
                self._faults.add("estimating", result.error, result.layer)
        return Measurement(self.data, tuple(results.values()), ceilings, n_samples)

    def announce_choices(self, first: Collected, *, measures: bool = True) -> None:
        """Say what was chosen for the user.

        Args:
            first: the first batch.
            measures: whether anything will be measured; a trial run of a few batches measures nothing.
        """
        requests = [self._layers] if isinstance(self._layers, str) else self._layers
        chosen = requests is None or any(character in request for request in requests for character in "*?[")
        if not measures:
            info(f"fast_dev_run measures no mutual information; it would be measured at {_listed(first.layers)}.")
        elif chosen:
            info(f"Mutual information is measured at {_listed(first.layers)}. layers=[...] names others.")
        if first.at_positions:
            info(
                f"Mutual information at {_listed(sorted(first.at_positions))} is that of one position of each sample, "
                "drawn at random and the same at every epoch: positions of one sample are not independent. The number "
                "of samples is that of sequences or maps."
            )
        for guess in first.guesses:
            warn(f"Mutual information {guess}.")
        if first.left_out:
            warn(
                f"The keys {', '.join(map(repr, first.left_out))} of the batch are left out: forward has no parameters "
                "of these names. If the model needs them, give all its inputs with batch_fn=lambda batch: "
                "(inputs, targets)."
            )
        if "input" in self._measurer.quantities and first.inputs is not None and not has_metric(first):
            warn(
                f"I(X;T) is not measured, unless all of {self._of} turns out to be countable: the inputs are "
                "texts, or integers that an embedding looks up, as token ids are, and have no distances. Give the "
                "embedding as a third value of batch_fn: batch -> (inputs, targets, embedding).",
            )

    def _announce_kinds(self, known: Collection[str]) -> None:
        """Say once a run what X and Y are taken for from now on, where their type alone does not say so."""
        for notice, is_guess in self._measurer.notices.items():
            if notice not in known:
                (warn if is_guess else info)(f"Mutual information {notice}")
        for name, kind in self._measurer.kinds.items():
            if kind.is_plain or name in known:
                continue
            other = "a third value of batch_fn" if name == "inputs" else f"discrete_target={not kind.discrete}"
            announce = warn if kind.is_guess else info
            announce(f"Mutual information takes the {name} as {kind}. {other} says otherwise.")

    def _first_batch(self, host: Host) -> Collected:
        """Collect a first batch and learn from it what can be measured."""
        self._chosen = select_layers(host.model, self._layers, self._positions)
        first = self._sweep(host, max_batches=1)
        quantities = self._measurer.prepare(first, is_first_batch=True)
        for label, failure in first.failures.items():
            raise CollectionError(f"layer {label!r}: {failure}") from failure
        if "input" in self._measurer.quantities:  # the same batch under other random numbers: which layers draw noise?
            again = self._sweep(host, max_batches=1, noise_seed=self._seed + 1)
            self._stochastic = noisy_layers(first, again)
        self._keys = tuple((layer, quantity) for layer in first.layers for quantity in quantities)
        return first

    def _collect(self, host: Host, progress: Progress) -> Collected:
        """The sweep of all processes, with X and Y taken over."""
        with progress("Mutual information, sweep") as advance:
            local, error = self._attempt(lambda: self._sweep(host, on_batch=advance))
        collected = gather(local, error, self._processes, self._measurer.estimator.at_points)
        del local  # its arrays live on in what was gathered, or not at all
        known = {*self._measurer.kinds, *self._measurer.notices}
        names, error = self._attempt(lambda: self._measurer.prepare(collected))
        if (failed := self._processes.agree(error)) is not None:
            raise failed
        self._announce_kinds(known)
        if self._keys and names is not None:  # what are tasks is decided by all samples, not by a first batch
            layers = dict.fromkeys(layer for layer, _ in self._keys)
            self._keys = tuple((layer, name) for layer in layers for name in names)
        return replace(collected, inputs=None, targets={})  # the measurer has what is new in them

    def _sweep(
        self,
        host: Host,
        *,
        max_batches: int | None = None,
        noise_seed: int | None = None,
        on_batch: Callable[[int, int | None], None] | None = None,
    ) -> Collected:
        return sweep(
            host,
            self._chosen,
            data=self.data,
            batch_fn=self._batch_fn,
            max_samples=self._max_samples,
            seed=self._seed,
            with_targets=self._measurer.needs_targets,
            max_batches=max_batches,
            noise_seed=noise_seed,
            active_dropout=self._active_dropout,
            on_batch=on_batch,
            rank=self._processes.rank,
            world_size=self._processes.size,
        )

    def _estimate(
        self, collected: Collected, progress: Progress
    ) -> tuple[list[Measured], dict[str, tuple[float, float]]]:
        """Estimate this process's layers and put all processes' together, in the order of the layers."""
        mine, error = self._attempt(lambda: self._my_estimates(collected, progress))
        ceilings: dict[str, Ceilings] | None = None
        ceiling_error: Exception | None = None
        if self._processes.rank == 0:
            ceilings, ceiling_error = self._attempt(self._measurer.ceilings)
            ceiling_error = ceiling_error or self._measurer.ceiling_error
        errors = (self._processes.agree(error), self._processes.agree(ceiling_error))
        for doing, failed in zip(("estimating", "estimating the limits"), errors, strict=True):
            if failed is not None:
                self._faults.add(doing, failed)
        order = {
            label: i
            for i, label in enumerate(
                dict.fromkeys(
                    label for labels in _transposed(self._processes.share(list(collected.layers))) for label in labels
                )
            )
        }
        found = [result for part in self._processes.share(mine or []) for result in part]
        found.sort(key=lambda result: order.get(result.layer, len(order)))
        return self._measurer.audit(found, list(order), self._processes.share(ceilings)[0])

    def _my_estimates(self, collected: Collected, progress: Progress) -> list[Measured]:
        """Estimates of this process's layers; of those that all have, rank 0 keeps them."""
        n_total = len(collected.layers) * len(self._measurer.quantities)
        together = Together(self._processes)
        with progress("Mutual information, estimates") as advance:
            done = iter(range(n_total))

            def starts(layer: str, quantity: str) -> None:
                advance(next(done, n_total), n_total)
                is_shared = layer in collected.shared
                if is_shared:
                    together.begin()
                self._measurer.share_points(together if is_shared else None)

            try:
                found = list(self._measurer.measure(collected, starts, stochastic=self._stochastic))
            finally:
                self._measurer.share_points(None)
                if collected.shared:
                    together.finish()
        return [one for one in found if self._processes.rank == 0 or one.layer not in collected.shared]

    @staticmethod
    def _attempt(task: Callable[[], Any]) -> tuple[Any, Exception | None]:
        """A task's result or its error: what one process meets, the others must hear of before they go on."""
        try:
            return task(), None
        except Exception as error:
            return None, error


def _listed(layers: Iterable[str]) -> str:
    """Names of layers for a line of text."""
    names = list(layers)
    return ", ".join(names[:20]) + (f" and {len(names) - 20} more" if len(names) > 20 else "")


def _transposed(parts: Sequence[Sequence[str]]) -> list[list[str]]:
    """Labels in the order of the model, from the ranks that take turns in owning them."""
    longest = max(len(part) for part in parts)
    return [[part[i] for part in parts if i < len(part)] for i in range(longest)]
