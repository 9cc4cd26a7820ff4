"""The one table of what is measured and of what bounds it; collection, estimation, monitoring and reporting read it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

__all__ = [
    "ASKED",
    "LIMITS",
    "QUANTITIES",
    "Limit",
    "Quantity",
    "limit",
    "limit_of_task",
    "measured_for",
    "quantity",
    "quantity_of_task",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Quantity:
    """One quantity of a layer T, under the name that rows and tags have.

    Attributes:
        name: key in rows; the tag is ``mi_<name>/<layer>``.
        symbol: mathematical notation, for figures.
        text: notation in plain text, for tables and web pages.
        partner: what T is paired with, X or Y; None if it is not known here.
        asked_as: what to ask for in ``quantities=`` to get it; the name itself, or that of another that brings it.
        has_null: whether it comes with a permutation null.
        is_lower_bound: whether it is attained rather than estimated, so that no ceiling can lie below it.
        forms_chain: whether it can only fall along a chain of layers.
        has_dimension: whether its estimate tells the layer's intrinsic dimension.
        noise_std: standard deviation of the measurement noise that belongs to the name; None if none does.
        task: which of several targets Y is; empty if there is one.
        base: the name without the task; None if that is the name.
    """

    name: str
    symbol: str
    text: str
    partner: Literal["inputs", "targets"] | None = None
    asked_as: str | None = None
    has_null: bool = True
    is_lower_bound: bool = False
    forms_chain: bool = False
    has_dimension: bool = False
    noise_std: float | None = None
    task: str = ""
    base: str | None = None

    @property
    def tag(self) -> str:
        """Beginning of the names of its scalars."""
        return f"mi_{self.name}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Limit:
    """An upper limit, under the name that a history has it by.

    Attributes:
        name: key in a history's ceilings.
        symbol: mathematical notation.
        bounds: names of the quantities that it bounds; empty for all.
        of_neighbors: whether it limits only what is read off neighbours, not mixtures, counts and decoders.
    """

    name: str
    symbol: str
    bounds: tuple[str, ...] = ()
    of_neighbors: bool = False


QUANTITIES = {
    one.name: one
    for one in (
        Quantity(
            name="target",
            symbol=r"$I(T;Y)$",
            text="I(T;Y)",
            partner="targets",
            asked_as="target",
            forms_chain=True,
            has_dimension=True,
        ),
        Quantity(
            name="usable",
            symbol=r"usable $I(T;Y)$",
            text="usable I(T;Y)",
            partner="targets",
            asked_as="target",
            has_null=False,
            is_lower_bound=True,
        ),
        Quantity(
            name="input",
            symbol=r"$I(X;T)$",
            text="I(X;T)",
            partner="inputs",
            asked_as="input",
            forms_chain=True,
            has_dimension=True,
        ),
    )
}
"""By name, in the order in which they are measured and drawn."""

ASKED = tuple(name for name, one in QUANTITIES.items() if one.asked_as == name)
"""What ``quantities=`` takes."""

LIMITS = {
    one.name: one
    for one in (
        Limit(name="I(X;Y)", symbol=r"$I(X;Y)$", bounds=("target", "usable")),
        Limit(name="H(Y)", symbol=r"$H(Y)$", bounds=("target", "usable")),
        Limit(name="H(X)", symbol=r"$H(X)$", bounds=("input",)),
        Limit(name="log n", symbol=r"$\log n$"),
        Limit(name="psi(n) - psi(k)", symbol=r"$\psi(n)-\psi(k)$", of_neighbors=True),
    )
}
"""By name."""


def quantity_of_task(name: str, task: str) -> Quantity:
    """The quantity of the table where Y is one of several targets: "target" of the task "age" is "target_age"."""
    one = QUANTITIES[name]
    if not task:
        return one
    symbol, text = _of_task(one.symbol, task), one.text.replace("Y", f"Y_{task}")
    return replace(one, name=f"{name}_{task}", symbol=symbol, text=text, task=task, base=name)


def quantity(name: str) -> Quantity:
    """The quantity of that name; one that the table does not know is drawn under its name and bounded by all limits."""
    if name in QUANTITIES:
        return QUANTITIES[name]
    base, _, task = name.partition("_")  # the way back from ``quantity_of_task``, for histories read from files
    if task and base in QUANTITIES and QUANTITIES[base].partner == "targets":
        return quantity_of_task(base, task)
    return Quantity(name=name, symbol=name.replace("$", r"\$"), text=name)


def limit_of_task(name: str, task: str) -> Limit:
    """The limit of the table on what is known of one of several targets; those of everything have no task."""
    one = LIMITS[name]
    if not task or not one.bounds:
        return one
    bounds = tuple(quantity_of_task(bounded, task).name for bounded in one.bounds)
    return replace(one, name=f"{name}, {task}", symbol=_of_task(one.symbol, task), bounds=bounds)


def limit(name: str) -> Limit:
    """The limit of that name; one that the table does not know bounds everything."""
    if name in LIMITS:
        return LIMITS[name]
    base, _, task = name.partition(", ")
    if task and base in LIMITS:
        return limit_of_task(base, task)
    return Limit(name=name, symbol=name.replace("$", r"\$"))


def _of_task(symbol: str, task: str) -> str:
    """Notation with the task as an index of Y."""
    return symbol.replace("Y", rf"Y_\mathrm{{{task.replace('_', chr(92) + '_')}}}")


def measured_for(asked: str, noise_std: tuple[float, ...] = ()) -> tuple[Quantity, ...]:
    """All that is measured where one quantity is asked for: "target" brings "usable", further noise further names.

    Args:
        asked: one of ``ASKED``.
        noise_std: standard deviations of measurement noise for I(X; T + sigma Z); the first is measured as "input".
    """
    found = tuple(one for one in QUANTITIES.values() if one.asked_as == asked)
    if asked != "input":
        return found
    return found + tuple(
        Quantity(
            name=f"input_noise_{sigma:g}",
            symbol=rf"$I(X;T+\sigma Z)$, $\sigma={sigma:g}$",
            text=f"I(X; T + \N{GREEK SMALL LETTER SIGMA}Z), \N{GREEK SMALL LETTER SIGMA} = {sigma:g}",
            partner="inputs",
            asked_as="input",
            has_null=False,
            noise_std=sigma,
        )
        for sigma in noise_std[1:]
    )
