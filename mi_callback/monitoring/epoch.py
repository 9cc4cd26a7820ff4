"""One epoch's measurement from the sweep to the estimates, on one process or several."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from lightning.pytorch.utilities import rank_zero_info, rank_zero_warn

from mi_callback.collection import (
    Collected,
    CollectionError,
    Layer,
    Processes,
    gather,
    join,
    select_layers,
    sweep,
)
from mi_callback.estimation.ceilings import Ceilings
from mi_callback.estimation.layer_estimator import AT_POINTS, Measured
from mi_callback.monitoring.cost import Cost
from mi_callback.monitoring.faults import Faults
from mi_callback.monitoring.measuring import Measurer, has_metric, noisy_layers
from mi_callback.monitoring.progress import progress_bar

if TYPE_CHECKING:
    from lightning.pytorch import LightningModule, Trainer

__all__ = ["EpochMeasurer", "Measurement"]


@dataclass(frozen=True, slots=True)
class Measurement:
    """What was measured at the end of one epoch, the same on every process.

    Attributes:
        results: one entry a layer and quantity; NaN where measuring failed.
        ceilings: name to value and standard error; empty if they could not be measured.
        n_samples: number of samples.
    """

    results: tuple[Measured, ...]
    ceilings: dict[str, tuple[float, float]]
    n_samples: int

    @property
    def n_points(self) -> tuple[int, ...]:
        """Evaluation points of each estimate that is taken at points, whose cost grows with them."""
        estimates = (result.estimate for result in self.results)
        return tuple(e.n_points for e in estimates if e.n_points is not None and e.estimator in AT_POINTS)


class EpochMeasurer:
    """Sweeps and estimates at the end of an epoch.

    Args:
        measurer: estimates what a sweep has collected.
        faults: where failures go.
        cost: where times go.
        layers: what to measure, as the user wrote it.
        positions: what becomes of the positions of layers, as the user wrote it.
        batch_fn: batch -> (inputs, targets).
        max_samples: the most samples to take.
        seed: seed of subsets and augmentation.
        active_dropout: leave dropout drawing as it does in training.
    """

    def __init__(
        self,
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
    ) -> None:
        self._measurer = measurer
        self._faults = faults
        self._cost = cost
        self._layers = layers
        self._positions = positions
        self._batch_fn = batch_fn
        self._max_samples = max_samples
        self._seed = seed
        self._active_dropout = active_dropout
        self._chosen: Sequence[Layer] = ()
        self._stochastic: frozenset[str] = frozenset()
        self._keys: tuple[tuple[str, str], ...] = ()  # logged at every epoch: one that fails logs NaN
        self._announced: set[str] = set()
        self.processes = Processes()

    @property
    def quantities(self) -> tuple[str, ...]:
        """Names of what is measured of each layer, known once training has begun."""
        return tuple(dict.fromkeys(quantity for _, quantity in self._keys))

    def begin(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Find the layers and try one batch, so that what cannot work is an error before hours are spent.

        Raises:
            CollectionError: an unknown layer, one that does not fire, or a batch that is not understood.
        """
        self._announced.clear()
        self.processes = join(trainer)
        first, error = self._attempt(lambda: self._first_batch(trainer, pl_module))
        error = self.processes.agree(error)
        if isinstance(error, CollectionError):
            raise error
        self._stochastic = self.processes.share(self._stochastic)[0]
        if error is not None:  # it may pass: tried again at the end of the epoch
            self._keys = ()  # on every process, so that all log the same
            self._faults.add("running the model over a first batch", error)
            return
        self._announce_choices(first)

    def end(self) -> None:
        """Let go of what a training run holds: the process group that was made for it."""
        self.processes.close()
        self.processes = Processes()

    def measure(self, trainer: Trainer, pl_module: LightningModule, *, most_points: int | None = None) -> Measurement:
        """Sweep and estimate; every process must call.

        Args:
            trainer: the trainer, fitting.
            pl_module: the model.
            most_points: the most evaluation points to take, the same on every process; None for no limit.

        Raises:
            Exception: the first failure, on every process, if the faults are not to be passed over.
        """
        found: list[Measured] = []
        ceilings: dict[str, tuple[float, float]] = {}
        n_samples = 0
        self._measurer.limit_points(most_points)
        try:
            with self._cost.part("sweep"):
                collected = self._collect(trainer, pl_module)
        except Exception as error:  # the same on all processes
            self._faults.add("running the model over the training set", error)
        else:
            n_samples = collected.n_samples
            with self._cost.part("estimate"):
                found, ceilings = self._estimate(trainer, collected)
        results = {(result.layer, result.quantity): result for result in found}
        self._keys = self._keys or tuple(results)
        for layer, quantity in self._keys:
            missing = Measured(layer, quantity, self._measurer.estimator.failed(n_samples))
            results.setdefault((layer, quantity), missing)
        for result in found:
            if result.error is not None:
                self._faults.add("estimating", result.error, result.layer)
        return Measurement(tuple(results.values()), ceilings, n_samples)

    def _announce_choices(self, first: Collected) -> None:
        """Say once what was chosen for the user."""
        requests = [self._layers] if isinstance(self._layers, str) else self._layers
        if requests is None or any(character in request for request in requests for character in "*?["):
            rank_zero_info(f"Mutual information is measured at {_listed(first.layers)}. layers=[...] names others.")
        if first.at_positions:
            rank_zero_info(
                f"Mutual information at {_listed(sorted(first.at_positions))} is that of one position of each sample, "
                "drawn at random and the same at every epoch: positions of one sample are not independent. The number "
                "of samples is that of sequences or maps."
            )
        for guess in first.guesses:
            rank_zero_warn(f"Mutual information {guess}.")
        if first.left_out:
            rank_zero_warn(
                f"The keys {', '.join(map(repr, first.left_out))} of the batch are left out: forward has no parameters "
                "of these names. If the model needs them, give all its inputs with batch_fn=lambda batch: "
                "(inputs, targets)."
            )
        if "input" in self._measurer.quantities and first.inputs is not None and not has_metric(first):
            rank_zero_warn(
                "I(X;T) is not measured, unless the whole training set turns out to be countable: the inputs are "
                "texts, or integers that an embedding looks up, as token ids are, and have no distances. Give the "
                "embedding as a third value of batch_fn: batch -> (inputs, targets, embedding).",
            )

    def _announce_kinds(self) -> None:
        """Say once a run what X and Y were taken for, where their type alone does not say so."""
        for notice, is_guess in self._measurer.notices.items():
            if notice not in self._announced:
                self._announced.add(notice)
                (rank_zero_warn if is_guess else rank_zero_info)(f"Mutual information {notice}")
        for name, kind in self._measurer.kinds.items():
            if kind.is_plain or name in self._announced:
                continue
            self._announced.add(name)
            other = "a third value of batch_fn" if name == "inputs" else f"discrete_target={not kind.discrete}"
            announce = rank_zero_warn if kind.is_guess else rank_zero_info
            announce(f"Mutual information takes the {name} as {kind}. {other} says otherwise.")

    def _first_batch(self, trainer: Trainer, pl_module: LightningModule) -> Collected:
        """Collect a first batch and learn from it what can be measured."""
        self._chosen = select_layers(pl_module, self._layers, self._positions)
        first = self._sweep(trainer, pl_module, max_batches=1)
        quantities = self._measurer.prepare(first, is_first_batch=True)
        for label, failure in first.failures.items():
            raise CollectionError(f"layer {label!r}: {failure}") from failure
        if "input" in self._measurer.quantities:  # the same batch under other random numbers: which layers draw noise?
            again = self._sweep(trainer, pl_module, max_batches=1, noise_seed=self._seed + 1)
            self._stochastic = noisy_layers(first, again)
        self._keys = tuple((layer, quantity) for layer in first.layers for quantity in quantities)
        return first

    def _collect(self, trainer: Trainer, pl_module: LightningModule) -> Collected:
        """The sweep of all processes, with X and Y taken over."""
        with progress_bar(trainer, "Mutual information, sweep") as advance:
            local, error = self._attempt(lambda: self._sweep(trainer, pl_module, on_batch=advance))
        collected = gather(local, error, self.processes)
        del local  # its arrays live on in what was gathered, or not at all
        names, error = self._attempt(lambda: self._measurer.prepare(collected))
        if (failed := self.processes.agree(error)) is not None:
            raise failed
        self._announce_kinds()
        if self._keys and names is not None:  # what are tasks is decided by all samples, not by a first batch
            self._keys = tuple(
                (layer, name) for layer in dict.fromkeys(layer for layer, _ in self._keys) for name in names
            )
        return replace(collected, inputs=None, targets={})  # the measurer has what is new in them

    def _sweep(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        *,
        max_batches: int | None = None,
        noise_seed: int | None = None,
        on_batch: Callable[[int, int | None], None] | None = None,
    ) -> Collected:
        return sweep(
            trainer,
            pl_module,
            self._chosen,
            batch_fn=self._batch_fn,
            max_samples=self._max_samples,
            seed=self._seed,
            with_targets=self._measurer.needs_targets,
            max_batches=max_batches,
            noise_seed=noise_seed,
            active_dropout=self._active_dropout,
            on_batch=on_batch,
            rank=self.processes.rank,
            world_size=self.processes.size,
        )

    def _estimate(
        self, trainer: Trainer, collected: Collected
    ) -> tuple[list[Measured], dict[str, tuple[float, float]]]:
        """Estimate this process's layers and put all processes' together, in the order of the layers."""
        mine, error = self._attempt(lambda: self._my_estimates(trainer, collected))
        ceilings: dict[str, Ceilings] | None = None
        ceiling_error: Exception | None = None
        if self.processes.rank == 0:
            ceilings, ceiling_error = self._attempt(self._measurer.ceilings)
            ceiling_error = ceiling_error or self._measurer.ceiling_error
        errors = (self.processes.agree(error), self.processes.agree(ceiling_error))
        for doing, failed in zip(("estimating", "estimating the limits"), errors, strict=True):
            if failed is not None:
                self._faults.add(doing, failed)
        order = {
            label: i
            for i, label in enumerate(
                dict.fromkeys(
                    label for labels in _transposed(self.processes.share(list(collected.layers))) for label in labels
                )
            )
        }
        found = [result for part in self.processes.share(mine or []) for result in part]
        found.sort(key=lambda result: order.get(result.layer, len(order)))
        return self._measurer.audit(found, list(order), self.processes.share(ceilings)[0])

    def _my_estimates(self, trainer: Trainer, collected: Collected) -> list[Measured]:
        n_total = len(collected.layers) * len(self._measurer.quantities)
        with progress_bar(trainer, "Mutual information, estimates") as advance:
            done = iter(range(n_total))
            return list(
                self._measurer.measure(
                    collected,
                    lambda layer, quantity: advance(next(done, n_total), n_total),
                    stochastic=self._stochastic,
                )
            )

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
