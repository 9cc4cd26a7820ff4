"""Data-processing audit: along a chain of layers information can only be lost."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from mi_callback.estimation.records import MutualInformation

__all__ = ["Violation", "audit_chain", "exceeds"]

_SIGNIFICANT = 3.0  # standard errors: dozens of pairs are compared at every epoch
_TOLERANCE = 0.05  # nats of bias that neighbouring layers of a good run differ by
_RELATIVE_TOLERANCE = 0.05  # of the earlier layer's value; by hand


@dataclass(frozen=True, slots=True)
class Violation:
    """A layer that seems to hold more than an earlier layer of its chain.

    Attributes:
        layer: the later layer, whose value is too high, or the other's too low.
        earlier: the layer that bounds it.
        excess: by how much it exceeds it, in the unit of the estimates.
        allowed: what error bars and tolerance would have allowed.
    """

    layer: str
    earlier: str
    excess: float
    allowed: float

    def __str__(self) -> str:
        return f"{self.layer} exceeds {self.earlier} by {self.excess:.2f}, error bars allow {self.allowed:.2f}"


def audit_chain(
    chain: Sequence[str], estimates: Mapping[str, MutualInformation], partial: Collection[str] = ()
) -> list[Violation]:
    """Find the layers whose information exceeds an earlier layer's beyond error bars; nothing is changed.

    Both I(X;T_l) and I(T_l;Y) fall or stay along a chain X - T_1 - T_2 - ..., each layer a function (noisy or not) of
    the one before alone (Cover & Thomas 2006, theorem 2.8.1). Connections that skip a layer break the chain.

    Standard errors are added in squares, as if layers were measured on different samples; they are measured on the
    same ones, so the audit errs on the side of silence.

    Args:
        chain: names of layers, in the order in which the input passes them.
        estimates: one quantity of each layer at one epoch; layers without one, or with NaN, are skipped.
        partial: layers of which a part was measured, such as one position: they do not bound what a later layer knows.

    Returns:
        The worst violation of each layer that has one, in the order of the chain.
    """
    present = [name for name in chain if name in estimates and math.isfinite(estimates[name].mi)]
    found = []
    for i, name in enumerate(present):
        worst: Violation | None = None
        for earlier in (layer for layer in present[:i] if layer not in partial):
            candidate = _compare(name, earlier, estimates)
            if candidate is not None and (
                worst is None or candidate.excess - candidate.allowed > worst.excess - worst.allowed
            ):
                worst = candidate
        if worst is not None:
            found.append(worst)
    return found


def exceeds(value: MutualInformation, bound: MutualInformation) -> bool:
    """Whether an estimate lies above another that bounds the truth, beyond error bars and tolerance."""
    return _compare("value", "bound", {"value": value, "bound": bound}) is not None


def _compare(name: str, earlier: str, estimates: Mapping[str, MutualInformation]) -> Violation | None:
    later, bound = estimates[name], estimates[earlier]
    noise = math.hypot(*(0.0 if math.isnan(e.stderr) else e.stderr for e in (later, bound)))
    tolerance = _TOLERANCE if later.unit == "nats" else _TOLERANCE / math.log(2)
    allowed = _SIGNIFICANT * noise + max(tolerance, _RELATIVE_TOLERANCE * abs(bound.mi))
    excess = later.mi - bound.mi
    return Violation(name, earlier, excess, allowed) if excess > allowed else None
