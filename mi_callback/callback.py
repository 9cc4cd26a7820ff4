"""The Lightning callback: when to measure, what to keep. Everything else is delegated."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_info, rank_zero_warn
from typing_extensions import override

from mi_callback.collection import check_strategy, random_state_kept
from mi_callback.estimation import Estimator
from mi_callback.estimation.evidence import Evidence
from mi_callback.estimation.trend import Verdict
from mi_callback.monitoring.arguments import check_arguments, noise_levels
from mi_callback.monitoring.cost import Cost
from mi_callback.monitoring.epoch import EpochMeasurer
from mi_callback.monitoring.faults import Faults
from mi_callback.monitoring.measuring import Measurer
from mi_callback.monitoring.publishing import draw, lay_out, log_scalars, logged_step, losses
from mi_callback.reporting import History, summary

__all__ = ["MutualInformationMonitor"]


class MutualInformationMonitor(Callback):
    r"""Measures the mutual information of a network's layers with its target and its input while it trains.

    At the end of every chosen epoch the model is run once over the whole training set, in evaluation mode and without
    a trace: weights, random numbers, modes and metrics of training are the same as without the callback. I(T;Y) and
    I(X;T) of every layer T are estimated from that one pass and logged, and three figures are drawn.

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
    ``mi_dimension/<layer>``       intrinsic dimension of the layer's activations
    ``mi_seconds/<part>``          what measuring cost: sweep, estimate, figures
    figure ``mi/curves``           all of it over epochs, and the losses
    figure ``mi/information_plane``  I(X;T) against I(T;Y)
    figure ``mi/depth``            all of it from the first layer to the last
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
        active_dropout: measure with dropout drawing as in training. The layers behind it are then noisy, and I(X;T) is
            estimated from their own samples; the same noise is drawn at every epoch.
        on_error: "warn" keeps training when measuring fails, tells each kind of failure once and logs NaN; "raise"
            lets the failure end training.

    To stop or to keep checkpoints by a layer's information, let Lightning's callbacks look at the end of the training
    epoch, when it is there: ``EarlyStopping("mi_target/output", mode="max", check_on_train_epoch_end=True,
    check_finite=False)``, where the last keeps a failed measurement, which is NaN, from ending the run, and
    ``ModelCheckpoint(monitor="mi_target/output", mode="max", save_on_train_epoch_end=True)``.

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
        active_dropout: bool = False,
        on_error: Literal["warn", "raise"] = "warn",
    ) -> None:
        super().__init__()
        check_arguments(
            quantities=quantities,
            every_n_epochs=every_n_epochs,
            max_samples=max_samples,
            k=k,
            batch_fn=batch_fn,
            on_error=on_error,
        )
        self.every_n_epochs = every_n_epochs
        self.history = History()
        self.evidence = Evidence()
        estimator = Estimator(k=k, n_permutations=n_permutations, metric=metric, space=space, unit=unit, seed=seed)
        self._faults = Faults(on_error)
        self._cost = Cost()
        self._measurer = EpochMeasurer(
            Measurer(estimator, tuple(quantities), discrete_target, noise_levels(noise_std)),
            self._faults,
            self._cost,
            layers=layers,
            batch_fn=batch_fn,
            max_samples=max_samples,
            seed=seed,
            active_dropout=active_dropout,
        )
        self._identity = {
            "layers": layers,
            "quantities": tuple(quantities),
            "max_samples": max_samples,
            "k": k,
            "space": space,
            "metric": metric,
            "unit": unit,
            "noise_std": noise_std,
            "seed": seed,
            "active_dropout": active_dropout,
        }
        self._last_epoch: int | None = None

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
    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Refuse what cannot be measured before anything is built."""
        if stage == "fit":
            check_strategy(trainer)

    @override
    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Try one batch before the first step."""
        with random_state_kept():
            self._measurer.begin(trainer, pl_module)
        self._faults.tell(trainer.current_epoch)
        if trainer.loggers:
            lay_out(trainer, self._measurer.quantities)
        else:
            rank_zero_warn("The trainer has no logger: mutual information is kept in the callback's history only.")
        self._last_epoch = None
        self._cost.resume_training()

    @override
    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Keep the losses of the epoch before, which are complete only now."""
        self._keep_losses(trainer)

    @override
    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Sweep, estimate, keep, draw, log."""
        if getattr(trainer, "fast_dev_run", False) or trainer.current_epoch % self.every_n_epochs:
            return
        epoch, step = trainer.current_epoch, logged_step(trainer)
        training = self._cost.start()
        try:
            with random_state_kept():
                measured = self._measurer.measure(trainer, pl_module)
                for result in measured.results:
                    if result.witnesses:
                        self.evidence.add(epoch, result.layer, result.witnesses)
                    self.history.append(
                        epoch=epoch, step=step, layer=result.layer, quantity=result.quantity, estimate=result.estimate
                    )
                for name, (value, stderr) in measured.ceilings.items():
                    self.history.set_ceiling(name, value, stderr=stderr)
                with self._cost.part("figures"):
                    failures = draw(trainer, self.history, step)
                self._faults.add_all(self._measurer.processes.share(failures)[0])
        finally:
            self._faults.tell(epoch)
        log_scalars(trainer, pl_module, measured.results, self._cost.seconds)
        self._cost.advise(training, measured.n_samples, len({result.layer for result in measured.results}))
        self._last_epoch = epoch
        self._cost.resume_training()

    @override
    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Print a table where no logger shows the results, and what is to be made of a fall of I(X;T)."""
        self._keep_losses(trainer)
        if not trainer.loggers and len(self.history):
            rank_zero_info(summary(self.history))
        for layer, verdict in self.verdicts().items():
            if verdict.falling:
                rank_zero_info(f"{layer}: {verdict}")

    def _keep_losses(self, trainer: Trainer) -> None:
        """Take the losses of the last epoch measured into the history, to be drawn beside the curves."""
        if self._last_epoch is not None:
            for name, value in losses(trainer).items():
                self.history.set_metric(name, self._last_epoch, value)
            self._last_epoch = None
