"""The Lightning callback: when to measure, what to keep. Everything else is delegated."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any, Literal

from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_info, rank_zero_warn
from typing_extensions import override

from mi_callback.collection import LightningHost, check_strategy, join
from mi_callback.collection.positions import Positions, described
from mi_callback.estimation.evidence import Evidence
from mi_callback.estimation.trend import Verdict
from mi_callback.monitoring.arguments import ArgumentError, Settings, data_sets
from mi_callback.monitoring.core import MonitoringCore, Publisher
from mi_callback.monitoring.handback import Handback
from mi_callback.monitoring.progress import progress_bar
from mi_callback.monitoring.publishing import draw, lay_out, log_scalars, logged_step, losses
from mi_callback.monitoring.resuming import state_to_resume
from mi_callback.monitoring.stopping import warn_of_stale_values
from mi_callback.reporting import History, summary

__all__ = ["MutualInformationMonitor"]


class MutualInformationMonitor(Callback):
    r"""Measures the mutual information of a network's layers with its target and its input while it trains.

    At the end of every chosen epoch the model is run once over the whole training set, or other data, in evaluation
    mode and without a trace: weights, random numbers, modes and metrics of training are the same as without the
    callback. I(T;Y) and I(X;T) of every layer T are estimated from that one pass and logged, and figures are drawn.

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
    figure ``mi/gap``              of each layer, training less other data, where both are measured
    =============================  ==================================================================================

    Args:
        layers: dotted name of a module, a glob, a list of them, or a dict of such names to labels. ``*`` stands for
            what is between two dots, so that "bert.encoder.layer.*" are the blocks; ``**`` crosses dots.
            None measures every activation module, and blocks without one such as recurrent and transformer layers; if
            there are none, every layer that owns parameters; what was chosen is said when training starts. The model's
            own output is always measured, as ``output``. A module that fires several times in one forward pass is
            measured call by call, as ``<layer>.call1`` and so on.
        quantities: "target" for I(T;Y), "input" for I(X;T).
        every_n_epochs: measure at epochs 0, n, 2n, ...
        max_samples: the most samples to measure on, as a fixed random subset of the training set; None for all.
        k: number of neighbours.
        n_permutations: size of the permutation null; 0 for none.
        space: how activations are scaled before distances are taken; "auto" lets candidates compete.
        metric: "euclidean" or "chebyshev".
        unit: "bits" or "nats".
        seed: seed of permutations, subsets and augmentation; training's random numbers are not touched.
        batch_fn: batch -> (inputs, targets). Not needed for tensors, pairs, and dicts with the usual keys, of which the
            model gets all that ``forward`` takes by name, such as a mask, but not the targets. A tuple of inputs is
            spread over the parameters of ``forward``, a dict is passed by name. A third value is what X is in I(X;T),
            such as the embedding of token ids, which have no distances themselves.
        noise_std: standard deviation sigma of measurement noise: ``mi_input`` is then I(X; T + sigma Z), finite where
            I(X;T) of a deterministic layer is not. A list is a sweep: the first is logged as
            ``mi_input``, the others as ``mi_input_noise_<sigma>``. None for no noise.
        discrete_target: whether Y is discrete. None goes by type and values: strings, bools, one-hot rows, integers of
            at most ten different values, floats of two, and integers that number classes with some thirty samples
            each are; ages, counts and other integers are numbers. What was decided is in each estimate's ``reason``.
        active_dropout: measure with dropout drawing as in training. The layers behind it are then noisy, and I(X;T) is
            estimated from their own samples; the same noise is drawn at every epoch.
        on_error: "warn" keeps training when measuring fails, tells each kind of failure once and logs NaN; "raise"
            lets the failure end training.
        n_points: number of evaluation points: the samples at which an estimate is taken, each with its neighbours among
            all samples. "auto" takes all samples up to 10,000, and beyond as many as bring the error of sampling under
            .02 nats, 2,000 to 10,000; None takes all. It changes error bars and time, never the bias. The points are
            the same samples at every epoch and for every layer, and ``n_points`` of each row says how many they were.
        budget: largest share of the time between two measurements that measuring may take, such as 0.1; None for no
            limit. From the second measurement of a run on, fewer points are taken, 500 at the least, if what the last
            one cost asks for it. Error bars grow, the bias does not change, and no measurement is left out: where
            500 points are still too dear, a warning names the ``every_n_epochs`` that would do.
        data: what to measure on: "train"; "val" for the trainer's own validation data, several loaders of which are
            called ``val_0`` and so on, or ``val_<key>``; ("train", "val") for both; a DataLoader, or a dict of names to
            loaders, or to "train" and "val". What is not "train" has the name of its data in its tags, as in
            ``mi_target_val/<layer>``; a loader without a name is called "data". All are measured at the end of training
            epochs, sample by sample in the order of the data set.
        positions: what to do with the positions of a layer, the tokens of a sequence or the pixels of a map. "flatten"
            takes all of them as coordinates. "mean", "first" and "last" take one row a sample; where the model is given
            an ``attention_mask``, padding does not count, on whichever side. "each" takes one position of each sample,
            drawn at random, with the target, and the input, of the same position where these have positions of their
            own: T, Y and X of a random token or pixel. Targets of -100 and masked positions are never drawn. One a
            sample, because positions of one sample are no independent samples. A function makes (b, d) of a layer's
            tensor as it is. A dict from names of layers, labels or globs to any of these treats layers differently, and
            flattens those that it does not name. Which axis holds features: behind convolutions, pooling and batch norm
            the one after the samples, else the last; activations and blocks have that of the last such module before
            their output that fits its shape. ``reduction`` and ``space`` of the results name the choice.
        name: of this monitor, where a trainer has several: all its tags, also those of figures, begin with ``<name>/``.

    It measures while training; ``trainer.validate`` and ``trainer.test`` measure nothing, and ``measure`` measures a
    model by itself. A second ``fit`` is a new run in the same history; one that resumes from a checkpoint, or goes on
    with the same trainer, continues its run.

    To stop or to keep checkpoints by a layer's information, let Lightning's callbacks look at the end of the training
    epoch, when it is there: ``EarlyStopping("mi_target/output", mode="max", check_on_train_epoch_end=True,
    check_finite=False)``, where the last keeps a failed measurement, which is NaN, from ending the run, and
    ``ModelCheckpoint(monitor="mi_target/output", mode="max", save_on_train_epoch_end=True)``. The patience of
    ``EarlyStopping`` counts epochs, also those without a new value: to wait for three measurements with
    ``every_n_epochs=10``, give ``patience=30``.

    Attributes:
        history: everything measured so far; ``history.to_rows()`` gives plain dicts. It is part of checkpoints.
        evidence: estimates of I(X;T) by other ways than the logged one, on which ``verdicts()`` rests; of the last run.

    Raises:
        MisconfigurationException: an argument out of its range, at once; two monitors of one name in a trainer, before
            anything is built.
        CollectionError: an unknown layer, a layer that does not fire, a batch that is not understood, an empty loader,
            validation data that are not there, or a model on no device, before the first training step.

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
        layers: list[str] | dict[str, str] | str | None = None,
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
        n_points: int | Literal["auto"] | None = "auto",
        budget: float | None = None,
        data: Any = "train",
        positions: Positions = "flatten",
        name: str | None = None,
    ) -> None:
        super().__init__()
        settings = Settings(
            caller="MutualInformationMonitor",
            layers=layers,
            quantities=quantities,
            every_n_epochs=every_n_epochs,
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
            on_error=on_error,
            n_points=n_points,
            budget=budget,
            name=name,
            positions=positions,
        )
        try:
            self._core = MonitoringCore(settings)
            self._data = data_sets(data, caller=settings.caller)
        except ArgumentError as error:
            raise MisconfigurationException(str(error)) from None
        self.name = name
        self.every_n_epochs = every_n_epochs
        self._handback = Handback()
        self._identity: dict[str, Any] = {
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
        if positions != "flatten":
            self._identity["positions"] = described(positions)
        if name is not None:
            self._identity["name"] = name
        # what matters for comparing values, but not for telling monitors apart
        self._arguments = {
            "n_permutations": repr(n_permutations),
            "discrete_target": repr(discrete_target),
            "n_points": repr(n_points),
        }
        self._last_epoch: int | None = None
        self._resumed = False
        self._warned_of_stages = False

    @property
    @override
    def state_key(self) -> str:
        """Tells monitors apart in a checkpoint: by what they measure."""
        return self._generate_state_key(**self._identity)

    @property
    def history(self) -> History:
        """Everything measured so far, also by processes that were spawned or forked for training."""
        self._take_back()
        return self._core.history

    @property
    def evidence(self) -> Evidence:
        """Estimates of I(X;T) by other ways than the logged one."""
        self._take_back()
        return self._core.evidence

    @override
    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Put the state where Lightning puts that of callbacks.

        Not by ``state_dict``: Lightning would refuse two monitors alike with an error that does not say what to do, and
        would load the state for ``trainer.test(ckpt_path="best")`` too, which cuts the history off at that epoch.
        """
        checkpoint["callbacks"][self.state_key] = self._state()

    @override
    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Go on with what the checkpoint holds; say what is left out because it was measured otherwise."""
        if not trainer.training and len(self.history):
            return
        own = {name: repr(value) for name, value in self._identity.items()} | self._arguments
        parameters = inspect.signature(MutualInformationMonitor).parameters
        state = state_to_resume(
            checkpoint["callbacks"],
            class_name=type(self).__qualname__,
            key=self.state_key,
            taken={other.state_key for other in self._all_monitors(trainer) if other is not self},
            own=own,
            defaults={name: repr(parameter.default) for name, parameter in parameters.items()},
            identity=[*self._identity, "name"] if self.name is None else list(self._identity),
        )
        if state is not None:
            self._load(state)
            self._resumed = True

    def _state(self) -> dict[str, Any]:
        """Everything that a checkpoint keeps, as plain values."""
        return {
            "history": self._core.history.state_dict(),
            "evidence": self._core.evidence.state_dict(),
            "arguments": dict(self._arguments),
        }

    def _load(self, state: Mapping[str, Any]) -> None:
        self._core.history.load_state_dict(state["history"])
        self._core.evidence.load_state_dict(state.get("evidence", {}))

    def _take_back(self) -> None:
        """Take over what processes that were started for training have measured."""
        if (state := self._handback.take()) is not None:
            self._load(state)

    @staticmethod
    def _all_monitors(trainer: Trainer) -> list[MutualInformationMonitor]:
        return [other for other in trainer.callbacks if isinstance(other, MutualInformationMonitor)]  # type: ignore[attr-defined]

    def verdicts(self) -> dict[str, Verdict]:
        """Does I(X;T) fall, layer by layer: only if every way of measuring it agrees; else who disagrees.

        Of a layer for which there is nothing to decide by, the verdict is "undecided" and its ``reason`` says why.
        """
        found = self.evidence.verdicts()
        first = self.history.data[:1]  # data set
        rows = [row for row in self.history.of_run().to_rows() if row["quantity"] == "input" and row["data"] in first]
        for layer in self.history.layers:
            if layer not in found:
                flags = [row["flags"] for row in rows if row["layer"] == layer]
                found[layer] = Verdict("undecided", (), (), _why_undecided(flags))
        return found

    @override
    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Refuse what cannot be measured before anything is built."""
        if stage == "fit":
            check_strategy(trainer)
            alike = [other for other in self._all_monitors(trainer) if other.name == self.name]
            if len(alike) > 1:
                raise MisconfigurationException(
                    f"Trainer(callbacks=...): {len(alike)} MutualInformationMonitors have name={self.name!r} and would "
                    "log under the same tags. Give each a name, as in MutualInformationMonitor(name='wide'), which "
                    "then stands before its tags: 'wide/mi_target/output'."
                )
            if (state := self._handback.look()) is not None:
                self._load(state)
            self._resumed = False
        elif stage in ("validate", "test") and not self._warned_of_stages:
            self._warned_of_stages = True
            called = "test" if stage == "test" else "validate"  # not a plain string
            rank_zero_info(
                f"MutualInformationMonitor measures at the end of training epochs: trainer.{called} measures nothing."
            )

    @override
    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Try one batch before the first step."""
        # With neither a checkpoint nor steps behind it, training starts from the beginning.
        is_new_run = not (self._resumed or (trainer.ckpt_path is None and trainer.global_step > 0))
        self._core.begin(
            LightningHost(trainer, pl_module, self._data),
            join(trainer),
            epoch=trainer.current_epoch,
            is_new_run=is_new_run,
            measures=not _is_trial(trainer),
        )
        warn_of_stale_values(trainer, self._core.prefix, self.every_n_epochs)
        monitors = self._all_monitors(trainer)
        if not trainer.loggers:
            rank_zero_warn("The trainer has no logger: mutual information is kept in the callback's history only.")
        elif monitors[-1] is self:  # TensorBoard shows one layout: the last monitor gives that of all
            lay_out(trainer, {tag: has_null for m in monitors for tag, has_null in m._core.tags.items()})
        self._last_epoch = None

    @override
    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Keep the losses that the epoch before has logged after it was measured."""
        self._keep_losses(trainer)
        self._last_epoch = None

    @override
    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Measure, and give what was found to the module's log and the loggers."""
        if _is_trial(trainer) or trainer.current_epoch % self.every_n_epochs:
            return
        step, self._last_epoch = logged_step(trainer), trainer.current_epoch

        def draw_with_losses(history: History) -> list[tuple[str, Exception]]:
            self._keep_losses(trainer)  # on every process: metrics are reduced over all of them
            return draw(trainer, history, step, self._core.prefix)

        publisher = Publisher(
            draw=draw_with_losses,
            log=lambda values: log_scalars(trainer, pl_module, values),
            progress=lambda description: progress_bar(trainer, description),
        )
        host = LightningHost(trainer, pl_module, self._data)
        self._core.measure(host, epoch=trainer.current_epoch, step=step, publisher=publisher)
        self._handback.leave(trainer, self._state)  # at every epoch: no hook is called where such a process breaks off
        self._core.resume_training()

    @override
    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Print a table where no logger shows the results, and what is to be made of a fall of I(X;T)."""
        self._keep_losses(trainer)
        if not trainer.loggers and len(self._core.history):
            rank_zero_info(summary(self._core.history))
        for layer, verdict in self.verdicts().items():
            if verdict.falling:
                rank_zero_info(f"{layer}: {verdict}")

    @override
    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Let go of what training needed, and hand back what was measured in a process that ends here."""
        if stage == "fit":
            self._end(trainer)

    @override
    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """The same where training breaks off, which skips the teardown."""
        self._end(trainer)

    def _end(self, trainer: Trainer) -> None:
        self._core.end()
        self._handback.leave(trainer, self._state)

    def _keep_losses(self, trainer: Trainer) -> None:
        """Take the losses of the epoch that was measured into the history, to be drawn beside the curves."""
        if self._last_epoch is not None:
            for name, value in losses(trainer).items():
                self._core.history.set_metric(name, self._last_epoch, value)


def _is_trial(trainer: Trainer) -> bool:
    """Whether the trainer runs a few batches to see that nothing breaks."""
    return bool(getattr(trainer, "fast_dev_run", False))


def _why_undecided(flags: list[list[str]]) -> str:
    """Why nothing was kept to decide by, from the flags of a layer's I(X;T) by epoch; none if it was not measured."""
    if not flags:
        return "I(X;T) was not measured. Include 'input' in quantities; token ids need a third value of batch_fn."
    if any("deterministic" in labels for labels in flags):
        return (
            "I(X;T) of a deterministic layer with a continuous input is infinite, and its readings show the resolution "
            "of the samples. Set noise_std to measure I(X; T + sigma Z)."
        )
    return "no measurement of I(X;T) came with another to hold it against."
