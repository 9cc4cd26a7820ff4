"""The Lightning callback: when to measure, what to log, what to keep. Everything else is delegated."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Literal

from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_warn
from typing_extensions import override

from mi_callback.collection import Collected, CollectionError, Layer, random_state_kept, select_layers, sweep
from mi_callback.estimation import Estimator, MutualInformation
from mi_callback.estimation.evidence import Evidence
from mi_callback.estimation.trend import Verdict
from mi_callback.faults import Faults
from mi_callback.measuring import Measured, Measurer, audited, has_metric, no_estimate, noisy_layers
from mi_callback.reporting.history import History

__all__ = ["MutualInformationMonitor"]


class MutualInformationMonitor(Callback):
    r"""Measures the mutual information of a network's layers with its target and its input while it trains.

    At the end of every chosen epoch the model is run once over the whole training set, in evaluation mode and without
    a trace: weights, random numbers, modes and metrics of training are the same as without the callback. I(T;Y) and
    I(X;T) of every layer T are estimated from that one pass and logged, and two figures are drawn.

    =============================  ==================================================================================
    logged                         meaning
    =============================  ==================================================================================
    ``mi_target/<layer>``          I(T;Y), estimate less the mean of its permutation null; may be monitored
    ``mi_target_raw/<layer>``      the estimate itself
    ``mi_target_null_std/<layer>`` standard deviation under permuted targets
    ``mi_target_pvalue/<layer>``   share of permutations that reach the estimate
    ``mi_target_stderr/<layer>``   standard error of the estimate by subsampling
    ``mi_input/<layer>``, ...      the same for I(X;T)
    ``mi_usable/<layer>``, ...     the part of I(T;Y) that a linear decoder gets out on samples it was not fitted on
    figure ``mi/curves``           all of it over epochs
    figure ``mi/information_plane``  I(X;T) against I(T;Y)
    =============================  ==================================================================================

    Args:
        layers: dotted names of modules, globs (``*`` crosses dots), or a dict of such names to labels. None measures
            every activation module. The model's own output is always measured, as ``output``. A module that fires
            several times in one forward pass is measured call by call, as ``<layer>.call1`` and so on.
        quantities: "target" for I(T;Y), "input" for I(X;T).
        every_n_epochs: measure at epochs 0, n, 2n, ...
        max_samples: the most samples to measure on, as a fixed random subset of the training set; None for all.
        k: number of neighbours.
        n_permutations: size of the permutation null; 0 for none.
        space: how activations are scaled before distances are taken; "auto" lets candidates compete.
        metric: "euclidean" or "chebyshev".
        unit: "bits" or "nats".
        seed: seed of permutations, subsets and augmentation; training's random numbers are not touched.
        batch_fn: batch -> (inputs, targets). Not needed for tensors, pairs, and dicts with the usual keys. A tuple
            of inputs is spread over the parameters of ``forward``, a dict is passed by name. A third value is what
            X is in I(X;T), such as the embedding of token ids, which have no distances themselves.
        noise_std: standard deviation sigma of measurement noise: ``mi_input`` is then I(X; T + sigma Z), finite where
            I(X;T) of a deterministic layer is not. A list is a sweep: the first is logged as
            ``mi_input``, the others as ``mi_input_noise_<sigma>``. None for no noise.
        discrete_target: whether Y is discrete; None goes by its type: floats are continuous, integers and bools are
            discrete.
        on_error: "warn" keeps training when measuring fails, tells each kind of failure once and logs NaN; "raise"
            lets the failure end training.

    Attributes:
        history: everything measured so far; ``history.to_rows()`` gives plain dicts. It is part of checkpoints.
        evidence: estimates of I(X;T) by other ways than the logged one, on which ``verdicts()`` rests.

    Raises:
        MisconfigurationException: an argument out of its range, at once.
        CollectionError: an unknown layer, a layer that does not fire, a batch that is not understood or an empty
            loader, before the first training step.

    Example:
        >>> from lightning.pytorch import Trainer
        >>> from mi_callback import MutualInformationMonitor
        >>> monitor = MutualInformationMonitor(every_n_epochs=10)
        >>> trainer = Trainer(callbacks=[monitor], logger=False)
        >>> monitor.history.to_rows()
        []
    """

    def __init__(
        self,
        layers: list[str] | dict[str, str] | None = None,
        quantities: tuple[Literal["target", "input"], ...] = ("target", "input"),
        every_n_epochs: int = 1,
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
        on_error: Literal["warn", "raise"] = "warn",
    ) -> None:
        super().__init__()
        _check_arguments(quantities, every_n_epochs, max_samples, k, batch_fn, on_error)
        self.layers = layers
        self.quantities = tuple(quantities)
        self.every_n_epochs = every_n_epochs
        self.max_samples = max_samples
        self.seed = seed
        self.batch_fn = batch_fn
        self.noise_std = noise_std
        self.history = History()
        self.evidence = Evidence()
        estimator = Estimator(k=k, n_permutations=n_permutations, metric=metric, space=space, unit=unit, seed=seed)
        self._measurer = Measurer(estimator, self.quantities, discrete_target, _noise_levels(noise_std))
        self._identity = {
            "layers": layers, "quantities": self.quantities, "max_samples": max_samples, "k": k, "space": space,
            "metric": metric, "unit": unit, "noise_std": noise_std, "seed": seed,
        }
        self._faults = Faults(on_error)
        self._chosen: tuple[Layer, ...] = ()
        self._stochastic: frozenset[str] = frozenset()
        self._keys: tuple[tuple[str, str], ...] = ()  # logged at every epoch: one that fails logs NaN

    @property
    @override
    def state_key(self) -> str:
        """Tells monitors apart in a checkpoint: by what they measure."""
        return self._generate_state_key(**self._identity)

    @override
    def state_dict(self) -> dict[str, Any]:
        return {"history": self.history.state_dict(), "evidence": self.evidence.state_dict()}

    @override
    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.history.load_state_dict(state_dict["history"])
        self.evidence.load_state_dict(state_dict.get("evidence", {}))

    def verdicts(self) -> dict[str, Verdict]:
        """Does I(X;T) fall, layer by layer: only if every way of measuring it agrees; else who disagrees."""
        return self.evidence.verdicts()

    @override
    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Try one batch before the first step, so that what cannot work is told before hours are spent."""
        self._chosen = select_layers(pl_module, self.layers)
        if not trainer.loggers:
            rank_zero_warn("The trainer has no logger: mutual information is kept in the callback's history only.")
        try:
            first = self._sweep(trainer, pl_module, max_batches=1)
            quantities = self._measurer.prepare(first)
            if "input" in self.quantities:  # the same batch under other random numbers: which layers draw noise?
                again = self._sweep(trainer, pl_module, max_batches=1, noise_seed=self.seed + 1)
                self._stochastic = noisy_layers(first, again)
        except CollectionError:
            raise
        except Exception as error:  # it may pass: tried again at the end of the epoch
            self._faults.add("running the model over a first batch", error)
            self._faults.tell(trainer.current_epoch)
            return
        for label, failure in first.failures.items():
            raise CollectionError(f"layer {label!r}: {failure}") from failure
        if "input" in self.quantities and first.inputs is not None and not has_metric(first.inputs):
            rank_zero_warn(
                "I(X;T) is not measured: the inputs are integers, as token ids are, and have no distances. Give an "
                "embedding as a third value of batch_fn: batch -> (inputs, targets, embedding).",
            )
        self._keys = tuple((layer, quantity) for layer in first.layers for quantity in quantities)

    @override
    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Sweep, estimate, log, draw."""
        if getattr(trainer, "fast_dev_run", False) or trainer.current_epoch % self.every_n_epochs:
            return
        epoch, step = trainer.current_epoch, max(trainer.fit_loop.epoch_loop._batches_that_stepped - 1, 0)
        try:
            with random_state_kept():
                results = self._measure(trainer, pl_module)
                for result in results:
                    if result.witnesses:
                        self.evidence.add(epoch, result.layer, result.witnesses)
                    self.history.append(
                        epoch=epoch, step=step, layer=result.layer, quantity=result.quantity, estimate=result.estimate
                    )
                self._draw(trainer, step)
        finally:
            self._faults.tell(epoch)
        for result in results:
            _log(trainer, pl_module, result.layer, result.quantity, result.estimate)

    def _measure(self, trainer: Trainer, pl_module: LightningModule) -> list[Measured]:
        """One estimate a layer and quantity; NaN for all of them if the sweep fails."""
        estimator, n_samples = self._measurer.estimator, 0
        results: dict[tuple[str, str], Measured] = {}
        try:
            collected = self._sweep(trainer, pl_module)
            n_samples = collected.n_samples
            self._measurer.prepare(collected)
        except Exception as error:
            self._faults.add("running the model over the training set", error)
        else:
            found = list(self._measurer.measure(collected, stochastic=self._stochastic))
            for result in audited(found, list(collected.layers)):
                results[result.layer, result.quantity] = result
                if result.error is not None:
                    self._faults.add("estimating", result.error, result.layer)
            try:
                for name, (value, stderr) in self._measurer.ceilings().items():
                    self.history.set_ceiling(name, value, stderr=stderr)
            except Exception as error:
                self._faults.add("estimating the information of inputs and targets", error)
        for layer, quantity in self._keys:
            missing = Measured(layer, quantity, no_estimate(estimator, n_samples))
            results.setdefault((layer, quantity), missing)
        return list(results.values())

    def _sweep(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        max_batches: int | None = None,
        noise_seed: int | None = None,
    ) -> Collected:
        return sweep(
            trainer, pl_module, self._chosen, batch_fn=self.batch_fn, max_samples=self.max_samples, seed=self.seed,
            with_targets="target" in self.quantities, max_batches=max_batches,
            noise_seed=noise_seed,
        )

    def _draw(self, trainer: Trainer, step: int) -> None:
        """Figures to the loggers, from the first process alone."""
        directory = trainer.log_dir or trainer.default_root_dir  # log_dir is a collective: asked for on every process
        if not trainer.is_global_zero or not trainer.loggers:
            return
        try:
            from mi_callback.reporting.figures import draw_figures
            from mi_callback.reporting.loggers import log_figures

            log_figures(trainer.loggers, draw_figures(self.history), step, directory)
        except Exception as error:
            self._faults.add("drawing and logging figures", error)


def _log(
    trainer: Trainer, pl_module: LightningModule, layer: str, quantity: str, estimate: MutualInformation
) -> None:
    """Scalars through the module, the one way that EarlyStopping and ModelCheckpoint can see."""
    if trainer.barebones:
        return
    values = {"": estimate.mi, "_raw": estimate.raw, "_stderr": estimate.stderr}
    if estimate.p_value is not None:
        values |= {"_null_std": estimate.null_std, "_pvalue": estimate.p_value}
    for suffix, value in values.items():
        pl_module.log(f"mi_{quantity}{suffix}/{layer}", float(value), on_step=False, on_epoch=True, batch_size=1)


def _noise_levels(noise_std: Any) -> tuple[float, ...]:
    """The noise as a tuple of levels, none for no noise."""
    levels = () if noise_std is None else tuple(noise_std) if isinstance(noise_std, list | tuple) else (noise_std,)
    known = all(isinstance(s, int | float) and not isinstance(s, bool) and 0 < s < math.inf for s in levels)
    if not known or len(set(levels)) < len(levels) or (noise_std is not None and not levels):
        raise MisconfigurationException(
            f"`MutualInformationMonitor(noise_std={noise_std!r})`: expected a positive number in the units of the "
            "activations, a list of different ones, or None."
        )
    return tuple(float(s) for s in levels)


def _check_arguments(
    quantities: Any, every_n_epochs: Any, max_samples: Any, k: int, batch_fn: Any, on_error: Any
) -> None:
    """Refuse what cannot work when the callback is made; the estimator checks its own arguments."""
    known = ("target", "input")
    if isinstance(quantities, str) or not quantities or not set(quantities) <= set(known):
        raise MisconfigurationException(
            f"`MutualInformationMonitor(quantities={quantities!r})`: expected a tuple of one or more of {known}."
        )
    if not isinstance(every_n_epochs, int) or every_n_epochs < 1:
        raise MisconfigurationException(
            f"`MutualInformationMonitor(every_n_epochs={every_n_epochs!r})`: expected an int of at least 1."
        )
    if max_samples is not None and (not isinstance(max_samples, int) or max_samples < k + 2):
        raise MisconfigurationException(
            f"`MutualInformationMonitor(max_samples={max_samples!r})`: expected None or an int of at least k + 2 = "
            f"{k + 2}."
        )
    if batch_fn is not None and not callable(batch_fn):
        raise MisconfigurationException(
            f"`MutualInformationMonitor(batch_fn={batch_fn!r})`: expected a function of a batch, or None."
        )
    if on_error not in ("warn", "raise"):
        raise MisconfigurationException(
            f"`MutualInformationMonitor(on_error={on_error!r})`: expected 'warn' or 'raise'."
        )
