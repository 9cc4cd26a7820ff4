"""The monitoring core: it sweeps, estimates, keeps and publishes, for whoever trains, or for a model by itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from mi_callback.collection import Host, Processes, random_state_kept
from mi_callback.estimation import Estimator
from mi_callback.estimation.evidence import Evidence
from mi_callback.estimation.kinds import Kind
from mi_callback.monitoring.arguments import Settings
from mi_callback.monitoring.budget import Budget
from mi_callback.monitoring.cost import Cost
from mi_callback.monitoring.epoch import EpochMeasurer, Measurement
from mi_callback.monitoring.faults import Faults
from mi_callback.monitoring.measuring import Measurer
from mi_callback.monitoring.progress import Progress, no_progress
from mi_callback.monitoring.publishing import scalars, tag_of
from mi_callback.quantities import quantity
from mi_callback.reporting import History

__all__ = ["MonitoringCore", "Publisher"]


@dataclass(frozen=True, slots=True)
class Publisher:
    """Where a measurement goes, besides into the history.

    Attributes:
        draw: gives the figures of the history to loggers, and returns what failed and why; on every process.
        log: takes the scalars by tag, on every process.
        progress: shows how far a measurement is.
    """

    draw: Callable[[History], Sequence[tuple[str, Exception]]] = lambda history: ()
    log: Callable[[Mapping[str, float]], None] = lambda values: None
    progress: Progress = no_progress


class MonitoringCore:
    """Measures data sets one after another, epoch by epoch, and keeps what was found.

    Args:
        settings: how to measure.
        history: the history to add to; None for a new one.
        keeps_going: whether training must go on where the model cannot be run over the data; else that is an error,
            whatever ``on_error`` says, which is then about single estimates.

    Attributes:
        history: everything measured so far.
        evidence: estimates of I(X;T) by other ways than the logged one, of the last run.
        processes: those that measure together.

    Raises:
        ArgumentError: an argument out of its range.
    """

    def __init__(self, settings: Settings, *, history: History | None = None, keeps_going: bool = True) -> None:
        settings.check()
        self.settings = settings
        self.history = History() if history is None else history
        self._keeps_going = keeps_going
        self.evidence = Evidence()
        self.processes = Processes()
        self._estimator = Estimator(
            k=settings.k,
            n_permutations=settings.n_permutations,
            metric=settings.metric,
            space=settings.space,
            unit=settings.unit,
            seed=settings.seed,
            n_points=settings.n_points,
        )
        self._faults = Faults(settings.on_error)
        self._cost = Cost()
        self._budget = Budget(settings.budget, settings.k)
        self._kinds: dict[str, Kind] = {}
        self._splits: dict[str, bool] = {}
        self._measurers: dict[str, EpochMeasurer] = {}
        self._is_new_run = False

    @property
    def prefix(self) -> str:
        """What stands before all tags."""
        return "" if self.settings.name is None else f"{self.settings.name}/"

    @property
    def tags(self) -> dict[str, bool]:
        """Beginnings of the tags of all quantities, and whether a p-value comes with each, once training has begun."""
        return {
            f"{self.prefix}{tag_of(name, data)}": quantity(name).has_null
            for data, measurer in self._measurers.items()
            for name in measurer.quantities
        }

    @property
    def layers(self) -> list[str]:
        """Names of the layers that are measured, known once training has begun."""
        return list(dict.fromkeys(layer for measurer in self._measurers.values() for layer in measurer.layers))

    def begin(
        self, host: Host, processes: Processes, *, epoch: int = 0, is_new_run: bool = True, measures: bool = True
    ) -> None:
        """Try a batch of every data set before the first step; every process must call.

        Args:
            host: the model and its surroundings.
            processes: those that measure together; closed by ``end``.
            epoch: where training stands.
            is_new_run: whether this is a training of its own, and not the continuation of one.
            measures: whether anything will be measured.

        Raises:
            CollectionError: an unknown layer, one that does not fire, or a batch that is not understood.
        """
        self._is_new_run = is_new_run
        if is_new_run:
            self._faults.begin_run()
            self._budget.begin_run()
        self.processes = processes
        self._measurers = {data: self._measurers.get(data) or self._new_measurer(data) for data in host.data}
        with random_state_kept():
            for i, measurer in enumerate(self._measurers.values()):
                first = measurer.begin(host, processes)
                if first is not None and i == 0:  # the layers of all data sets are the same
                    measurer.announce_choices(first, measures=measures)
        self._faults.warn(epoch)
        self._cost.resume_training()

    def _new_measurer(self, data: str) -> EpochMeasurer:
        settings = self.settings
        noise_levels = tuple(map(float, settings.noise_levels()))
        return EpochMeasurer(
            data,
            Measurer(
                self._estimator,
                tuple(settings.quantities),
                settings.discrete_target,
                noise_levels,
                self._kinds,
                self._splits,
            ),
            self._faults,
            self._cost,
            layers=settings.layers,
            positions=settings.positions,
            batch_fn=settings.batch_fn,
            max_samples=settings.max_samples,
            seed=settings.seed,
            active_dropout=settings.active_dropout,
            keeps_going=self._keeps_going,
        )

    def measure(self, host: Host, *, epoch: int, step: int, publisher: Publisher) -> None:
        """Sweep, estimate, keep, draw and log; every process must call.

        Args:
            host: the model and its surroundings.
            epoch: epoch at whose end this is.
            step: step at which it is logged.
            publisher: where it goes.

        Raises:
            Exception: the first failure, if failures are not to be passed over. Nothing is kept then.
        """
        training = self._cost.start()
        try:
            with random_state_kept():
                most_points = self._most_points(training)
                measured = [
                    measurer.measure(host, most_points=most_points, progress=publisher.progress)
                    for measurer in self._measurers.values()
                ]
                self._keep(measured, epoch, step)
                with self._cost.part("figures"):
                    failures = list(publisher.draw(self.history))
                self._faults.add_all(self.processes.share(failures)[0])
        finally:
            self._faults.warn(epoch)
        seconds = {f"mi_seconds/{part}": value for part, value in self._cost.seconds.items()}
        values = {tag: value for one in measured for tag, value in scalars(one.results, one.data).items()} | seconds
        publisher.log({self.prefix + tag: value for tag, value in values.items()})
        layers = {result.layer for one in measured for result in one.results}
        self._cost.advise(training, sum(one.n_samples for one in measured), len(layers))
        points = [n for one in measured for n in one.n_points]
        self._budget.spent(self._cost.seconds, training, points, self.settings.every_n_epochs, most_points)

    def resume_training(self) -> None:
        """Training goes on from here: what passes until the next measurement is its time."""
        self._cost.resume_training()

    def end(self) -> None:
        """Let go of what a training run holds: the process group that was made for it."""
        self.processes.close()
        self.processes = Processes()
        for measurer in self._measurers.values():
            measurer.end()

    def _most_points(self, training: float) -> int | None:
        """What the budget leaves, by the first process's clock; every process must call."""
        if self._budget.share is None:
            return None
        return self.processes.share(self._budget.most_points(training))[0]

    def _keep(self, measured: Sequence[Measurement], epoch: int, step: int) -> None:
        """Take over what was measured, as a new run if one has begun, once there is something to keep."""
        if self._is_new_run and len(self.history):
            self.history.begin_run()
            self.evidence = Evidence()
        self._is_new_run = False
        for one in measured:
            for result in one.results:
                if result.witnesses and one.data == measured[0].data:
                    self.evidence.add(epoch, result.layer, result.witnesses)
                self.history.append(
                    epoch=epoch,
                    step=step,
                    layer=result.layer,
                    quantity=result.quantity,
                    estimate=result.estimate,
                    data=one.data,
                )
            for name, (value, stderr) in one.ceilings.items():
                self.history.set_ceiling(name, value, stderr=stderr, data=one.data)
