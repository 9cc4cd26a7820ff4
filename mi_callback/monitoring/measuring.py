"""From the arrays of a sweep to estimates: what is X, what is Y, and which of their tables can be kept."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mi_callback.collection import Collected, CollectionError
from mi_callback.estimation import Estimator, Flag, MutualInformation, Variable
from mi_callback.estimation.audit import audit_chain, exceeds
from mi_callback.estimation.ceilings import Ceilings
from mi_callback.estimation.entropy import is_enumerable
from mi_callback.estimation.flagging import with_flags
from mi_callback.estimation.kinds import Kind
from mi_callback.estimation.layer_estimator import BY_NEIGHBORS, LayerEstimator, Measured
from mi_callback.estimation.parallel import Team
from mi_callback.monitoring.tasks import (
    Kept,
    Task,
    called,
    column_name,
    columns_as_tasks,
    keep,
    known_rows,
    same,
    unusable,
)
from mi_callback.quantities import QUANTITIES, limit_of_task, measured_for, quantity, quantity_of_task

__all__ = ["Measurer", "audited", "has_metric", "noisy_layers"]


class Measurer:
    """Measures the layers of one sweep after another; keeps what it has computed for X and Y while they are the same.

    Args:
        estimator: how to estimate.
        quantities: what to estimate.
        discrete_target: whether Y is discrete; None goes by its type and values.
        noise_std: standard deviations of measurement noise for I(X; T + sigma Z).
        kinds: where it is kept what "inputs" and "targets" were taken for. Measurers of several data sets share one, so
            that the first of them decides for all.
        splits: likewise, where it is kept of which tasks each column of the targets is a task.
    """

    def __init__(
        self,
        estimator: Estimator,
        quantities: tuple[str, ...],
        discrete_target: bool | None,
        noise_std: tuple[float, ...] = (),
        kinds: dict[str, Kind] | None = None,
        splits: dict[str, bool] | None = None,
    ) -> None:
        self.estimator = estimator
        self.quantities = quantities
        self._discrete_target = discrete_target
        self._noise_std = noise_std
        self._layers = LayerEstimator(estimator, noise_std)  # of X alone, and of the only task
        self._x: Kept | None = None
        self._tasks: dict[str, Task] = {}
        self._kinds: dict[str, Kind] = {} if kinds is None else kinds
        # task to whether each column of its targets is a task
        self._splits: dict[str, bool] = {} if splits is None else splits
        self._notices: dict[str, bool] = {}
        self._collected: Collected | None = None

    def limit_points(self, most: int | None) -> None:
        """Take so many evaluation points at the most from now on; None for as many as the estimator asks for."""
        if most != self.estimator.most_points:
            self._estimate_otherwise(most_points=most, team=self.estimator.team)

    def share_points(self, team: Team | None) -> None:
        """Share the evaluation points out among processes that make the same estimates from now on; None for alone."""
        if team is not self.estimator.team:
            self._estimate_otherwise(most_points=self.estimator.most_points, team=team)

    def _estimate_otherwise(self, *, most_points: int | None, team: Team | None) -> None:
        self.estimator = copy.copy(self.estimator)
        self.estimator.most_points, self.estimator.team = most_points, team
        for layers in (self._layers, *(task.layers for task in self._tasks.values())):
            layers.estimate_by(self.estimator)

    @property
    def needs_targets(self) -> bool:
        """Whether anything that is asked for is about Y."""
        return any(QUANTITIES[name].partner == "targets" for name in self.quantities)

    @property
    def kinds(self) -> dict[str, Kind]:
        """What "inputs" and "targets" of the first full sweep were taken for; it stands for all epochs of a run."""
        return dict(self._kinds)

    def prepare(self, collected: Collected, *, is_first_batch: bool = False) -> tuple[str, ...]:
        """Take X and Y from a sweep.

        Args:
            collected: what was seen.
            is_first_batch: a run begins, and this is too little to decide on what is classes and what is numbers.

        Returns:
            Names of all that can be measured with them.

        Raises:
            CollectionError: there are no targets where I(T;Y) is asked for, or Y cannot be measured.
        """
        if self.needs_targets and not (collected.targets or collected.target_failures):
            asked = ", ".join(repr(name) for name in self.quantities if QUANTITIES[name].partner == "targets")
            raise CollectionError(
                f"batch: it has no targets, and quantities include {asked}. Use quantities=('input',) for "
                "self-supervised training, or say where the targets are with batch_fn."
            )
        if is_first_batch:
            self._kinds.clear()
            self._notices.clear()
            self._splits.clear()
        n = collected.n_samples
        if collected.inputs_failure is not None:
            self._x = Kept.failed(n, collected.inputs_failure)
        elif collected.inputs is not None and has_metric(collected):
            kind = self._kinds.get("inputs")
            if collected.inputs_are_ids and collected.inputs_at_positions:  # one id a sample
                kind = Kind(True, "ids that an embedding looks up")
            self._x = keep(self._x, collected.inputs, "inputs", kind)
        else:
            self._x = None
        targets = self._split_into_tasks(collected.targets, is_first_batch=is_first_batch)
        before = self._tasks
        self._tasks = {name: self._task(name, values, before.get(name)) for name, values in targets.items()}
        for task in self._tasks.values() if not is_first_batch else ():
            if task.rows is not None:
                self._notice(
                    f"leaves {n - len(task.rows)} of {n} samples out of the {called(task.name)}: theirs is -100, by "
                    "which torch's losses mean that there is none. discrete_target=False takes it as a number.",
                    is_guess=False,
                )
        for name, error in collected.target_failures.items():
            self._tasks[name] = Task(name, Kept.failed(n, error), self._layers_of(name, before.get(name)))
        if not is_first_batch:
            for name, kept in (("inputs", self._x), *((called(task.name), task.y) for task in self._tasks.values())):
                if kept is not None and kept.error is None:
                    self._kinds.setdefault(name, kept.variable.kind)
        self._pair(before, collected)
        self._collected = replace(collected, inputs=None, targets={}, layers={})
        return tuple(name for asked in self._measurable() for name in self._names(asked))

    def _split_into_tasks(
        self, targets: Mapping[str, NDArray[Any]], *, is_first_batch: bool
    ) -> dict[str, NDArray[Any]]:
        """The targets of each task, columns apart that are labels of their own; see ``columns_as_tasks``."""
        tasks: dict[str, NDArray[Any]] = {}
        for name, values in targets.items():
            split = self._splits.get(name)
            if split is None:
                split = self._discrete_target is None and columns_as_tasks(values)
                if not is_first_batch:
                    self._splits[name] = split
                    if split:
                        first = quantity_of_task("target", column_name(name, 0)).tag
                        self._notice(
                            f"takes the {values.shape[1]} columns of the {called(name)} as as many tasks, each of "
                            f"classes of its own: {first} and so on. "
                            "discrete_target=True takes each different row as a class, discrete_target=False the rows "
                            "as numbers.",
                            is_guess=True,
                        )
            if split:
                tasks |= {column_name(name, i): values[:, i : i + 1] for i in range(values.shape[1])}
            else:
                tasks[name] = values
        return tasks

    def _task(self, name: str, values: NDArray[Any], before: Task | None) -> Task:
        """A task's Y without the samples that have none; what was kept for it while it stays the same."""
        rows = None if self._discrete_target is False else known_rows(values)
        discrete = self._kinds.get(called(name)) or self._discrete_target
        y = keep(before.y if before is not None else None, values, called(name), discrete, rows)
        return Task(name, y, self._layers_of(name, before), rows)

    def _layers_of(self, name: str, before: Task | None) -> LayerEstimator:
        return before.layers if before is not None else LayerEstimator(self.estimator, self._noise_std)

    def _pair(self, before: Mapping[str, Task], collected: Collected) -> None:
        """Give the estimators their X and Y: the same objects as before where nothing has changed."""
        x = self._x.variable if self._x is not None and self._x.error is None else None
        shared = len(self._tasks) == 1 and not collected.at_positions
        for task in self._tasks.values():
            was = before.get(task.name)
            y = task.y.variable if task.y.error is None else None
            # what a layer knows at a position it may have from others, and from where it stands: no I(X;Y) bounds that
            own_x = None if collected.at_positions else x
            if own_x is not None and task.rows is not None:
                known = was is not None and was.y is task.y and was.whole_x is own_x
                own_x = was.x if was is not None and known else own_x.subset(task.rows)
                task.whole_x = x
            if shared and task.rows is None:
                task.layers = self._layers
            elif task.layers is self._layers:
                task.layers = LayerEstimator(self.estimator, self._noise_std)
            task.x = own_x
            task.refuted = was is not None and was.refuted and was.y is task.y and was.x is own_x
            task.layers.use(own_x, y)
        if not any(task.layers is self._layers for task in self._tasks.values()):
            self._layers.use(x, None)

    def _notice(self, text: str, *, is_guess: bool) -> None:
        self._notices.setdefault(text, is_guess)

    @property
    def notices(self) -> dict[str, bool]:
        """What was decided about the targets, each to complete "Mutual information ...", and whether it is a guess."""
        return dict(self._notices)

    def _measurable(self) -> tuple[str, ...]:
        return tuple(name for name in self.quantities if QUANTITIES[name].partner == "targets" or self._x is not None)

    def _names(self, asked: str) -> tuple[str, ...]:
        found = tuple(one.name for one in measured_for(asked, self._noise_std))
        if QUANTITIES[asked].partner == "inputs":
            return found
        return tuple(quantity_of_task(name, task).name for task in self._tasks for name in found)

    def ceilings(self) -> dict[str, Ceilings]:
        """I(X;Y), H(Y), and the limits of so many samples, by task; measured once for as long as X and Y are the same.

        I(X;Y) is left out if it cannot be measured; ``ceiling_error`` then says why.
        """
        tasks = {task.name: task.layers for task in self._tasks.values() if task.y.error is None}
        if tasks or self._x is None or self._x.error is not None:
            return {name: layers.ceilings() for name, layers in tasks.items()}
        return {"": self._layers.ceilings()}

    @property
    def ceiling_error(self) -> Exception | None:
        """Why I(X;Y) could not be measured, or None."""
        errors = (layers.ceiling_error for layers in (self._layers, *(task.layers for task in self._tasks.values())))
        return next((error for error in errors if error is not None), None)

    def measure(
        self,
        collected: Collected,
        on_estimate: Callable[[str, str], None] | None = None,
        stochastic: frozenset[str] = frozenset(),
    ) -> Iterator[Measured]:
        """Estimate every quantity of every layer; one that fails is NaN and comes with its error.

        Args:
            collected: the sweep that ``prepare`` was given.
            on_estimate: called with layer and quantity before each estimate.
            stochastic: the layers that draw noise of their own.
        """
        for layer, values in collected.layers.items():
            error = unusable(values, "activations")
            t = Variable(values, name=layer) if error is None else None
            parts: dict[bytes, Variable] = {}  # without the samples that some tasks have no target for
            for asked in self._measurable():
                if on_estimate is not None:
                    on_estimate(layer, asked)
                for source in self._sources(asked, layer, collected, stochastic):
                    failure = error or source.error
                    if t is not None and failure is None:
                        own = t
                        if source.rows is not None:
                            own = parts.setdefault(source.rows.tobytes(), t.subset(source.rows))
                        try:
                            for found in source.layers.measure(asked, own, noise=source.noise):
                                name = quantity_of_task(found.quantity, source.task).name if source.task else None
                                estimate = _after_reductions(found, collected)
                                yield replace(found, quantity=name or found.quantity, estimate=estimate)
                            continue
                        except Exception as raised:  # one layer's trouble is not another's; the caller decides
                            failure = raised
                    for name in source.names:
                        yield Measured(layer, name, self.estimator.failed(collected.n_samples), failure)
        for layer, reason in collected.failures.items():
            for asked in self._measurable():
                for name in self._names(asked):
                    yield Measured(layer, name, self.estimator.failed(collected.n_samples), reason)

    def _sources(self, asked: str, layer: str, collected: Collected, stochastic: frozenset[str]) -> tuple[_Source, ...]:
        """What a layer is paired with where a quantity is asked for: X, or the Y of each task."""
        names = tuple(one.name for one in measured_for(asked, self._noise_std))
        if QUANTITIES[asked].partner == "targets":
            return tuple(
                _Source(
                    task.layers,
                    tuple(quantity_of_task(name, task.name).name for name in names),
                    task.y.error,
                    task=task.name,
                    rows=task.rows,
                )
                for task in self._tasks.values()
            )
        assert self._x is not None
        noise = "layer with noise of its own" if layer in stochastic else ""
        if collected.inputs_at_positions or layer in collected.at_positions:
            noise = "one position of each sample, which the others have a say in"
        return (_Source(self._layers, names, self._x.error, noise=noise),)

    def audit(
        self, results: Sequence[Measured], layers: Sequence[str], ceilings: Mapping[str, Ceilings] | None
    ) -> tuple[list[Measured], dict[str, tuple[float, float]]]:
        """Mark what cannot be true of one epoch's estimates; see ``audited``.

        A ceiling that a usable value refutes is withdrawn, for as long as X and Y stay the same.

        Args:
            results: estimates of one epoch, all processes' together.
            layers: labels in the order in which the input passes the layers.
            ceilings: the limits by task; None if they could not be measured.

        Returns:
            The estimates, and the limits that are left: name to value and standard error, in ``unit``.
        """
        left: dict[str, Ceilings] = {}
        for name, limits in (ceilings or {}).items():
            usable = quantity_of_task("usable", name).name
            if (task := self._tasks.get(name)) is not None:
                task.refuted |= any(limits.is_refuted_by(r.estimate) for r in results if r.quantity == usable)
                if task.refuted:
                    limits = limits.without_information()
            left[name] = limits
        named: dict[str, tuple[float, float]] = {}
        for of_task, limits in left.items():
            for name, limit in limits.named().items():
                known = limit_of_task(name, of_task).name
                named[known] = max(named.get(known, limit), limit)  # log n: of the task with the most samples
        collected = self._collected
        return audited(
            results,
            layers,
            left,
            partial=frozenset() if collected is None else collected.pooled,
            is_chain=collected is None or not collected.inputs_at_positions,
        ), named


def _after_reductions(found: Measured, collected: Collected) -> MutualInformation:
    """Name what was done to the layer, and to X where it is the other side, which can only lower the information."""
    done = [collected.reductions.get(found.layer)]
    if quantity(found.quantity).partner == "inputs" and found.estimate.estimator in BY_NEIGHBORS:
        done.append(collected.inputs_reduction and f"X by {collected.inputs_reduction}")
    reduction = ", ".join(filter(None, done))
    if not reduction:
        return found.estimate
    return replace(found.estimate, space=f"{reduction}, {found.estimate.space}", reduction=reduction)


def audited(
    results: Sequence[Measured],
    layers: Sequence[str],
    ceilings: Mapping[str, Ceilings] | None = None,
    *,
    partial: frozenset[str] = frozenset(),
    is_chain: bool = True,
) -> list[Measured]:
    """Mark the estimates that exceed an earlier layer's, a ceiling or I(X;T), which data processing forbids.

    Values stay as they are. I(X; T + sigma Z) is left out: noise is added to each layer afresh, so the noisy layers are
    no chain.

    Args:
        results: estimates of one epoch.
        layers: labels in the order in which the input passes the layers.
        ceilings: limits that no usable value refutes, by task.
        partial: layers of which a part was measured, such as one position: they do not bound what a later layer knows.
        is_chain: whether T is made of X, and not of more than what X stands for.
    """
    found: dict[tuple[str, str], list[Flag]] = {(r.layer, r.quantity): [] for r in results}
    for task, limits in (ceilings or {}).items():
        limit, bounded = limits.of_target(), quantity_of_task("target", task).name
        for r in results:
            if r.quantity == bounded and limit.is_below(r.estimate.mi, r.estimate.stderr):
                found[r.layer, r.quantity].append(Flag.ABOVE_CEILING)
    own: dict[str, dict[str, MutualInformation]] = {}  # quantity to the estimates of layers without noise added
    for r in results:
        if r.estimate.noise_std is None:
            own.setdefault(r.quantity, {})[r.layer] = r.estimate
    for name, estimates in own.items():
        if quantity(name).forms_chain:
            for violation in audit_chain(layers, estimates, partial):
                found[violation.layer, name].append(Flag.DATA_PROCESSING)
        if quantity(name).partner == "targets" and is_chain:  # Y - X - T
            for layer, of_input in own.get("input", {}).items():
                if layer in estimates and exceeds(estimates[layer], of_input):
                    found[layer, "input"].append(Flag.BELOW_TARGET)
    return [replace(r, estimate=with_flags(r.estimate, *found[r.layer, r.quantity])) for r in results]


def noisy_layers(first: Collected, second: Collected) -> frozenset[str]:
    """Layers whose values differ between two sweeps of the same inputs under other random numbers.

    Where the inputs differ too, as under random augmentation, nothing can be concluded, and no layer is called noisy.
    """
    if first.inputs is None or second.inputs is None or not same(first.inputs, second.inputs):
        return frozenset()
    return frozenset(
        label
        for label, values in first.layers.items()
        if label in second.layers
        and values.shape == second.layers[label].shape
        and not np.allclose(
            values, second.layers[label], rtol=1e-4, atol=1e-4 * (float(np.std(values)) or 1.0), equal_nan=True
        )
    )


def has_metric(collected: Collected) -> bool:
    """Whether X can be measured: not token ids or texts, which have no distances, unless (nearly) all can be counted.

    Integers that the model looks up in an embedding are names; others, such as the columns of a table, are numbers.
    """
    if collected.inputs is None:
        return False
    are_names = collected.inputs_are_ids or collected.inputs.dtype.kind not in "biuf"
    return not are_names or is_enumerable(collected.inputs)


@dataclass(frozen=True, slots=True, eq=False)
class _Source:
    """What a layer is paired with: the estimator that holds it, and the names of what comes out.

    Attributes:
        layers: the estimator.
        names: of the quantities.
        error: why it cannot be measured.
        task: of the targets.
        rows: the samples that have it; None if all do.
        noise: why T given X is not a point; empty if it is one.
    """

    layers: LayerEstimator
    names: tuple[str, ...]
    error: Exception | None
    task: str = ""
    rows: NDArray[np.intp] | None = None
    noise: str = ""
