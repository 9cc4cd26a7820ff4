"""Classes or numbers: what the values of one side of an estimate are taken for, decided in one place.

The type alone does not tell: an age is an integer and no class, a label may be a float. With some thirty samples a
value, reading ordered integers as classes loses nothing; with fewer it loses most of the information, where reading
classes as numbers loses less. Only what might be wrong is called a guess.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mi_callback.estimation.entropy import group_rows

__all__ = ["Kind", "kind_of"]

_FEW = 10  # so many different integers are classes whatever their number of samples: the ten digits
_MEMBERS = 30  # samples a value: at 36 and more, rounded targets read as classes came within .2 bits of 1.4, at 20 1.0
_MEMBERS_IF_BALANCED = 10  # the same where all classes are equally frequent, as in data sets made for classifying
_PRESENT = 0.9  # share of the class numbers up to the greatest that must occur
_OVERDISPERSED = 3.0  # standard deviations of chi squared up to which classes count as equally frequent


@dataclass(frozen=True, slots=True)
class Kind:
    """What values are taken for.

    Attributes:
        discrete: whether they are class labels; else they are numbers.
        reason: what was seen in them, in words.
        is_plain: whether their type says the same; a decision that rests on the values is worth telling.
        is_guess: whether they might as well be the other, so that the user should say.
    """

    discrete: bool
    reason: str
    is_plain: bool = True
    is_guess: bool = False

    def __str__(self) -> str:
        return f"{'classes' if self.discrete else 'numbers'}: {self.reason}"


def kind_of(values: NDArray[Any], discrete: bool | None = None) -> Kind:
    """Decide whether values are class labels.

    - Strings are classes, a row of several one class. So are one-hot rows of any type.
    - One column of integers or bools: classes if there are at most ten different values. Of more, those that number
      classes 0 or 1 to K (one negative number may stand for "none") are classes if there are on average thirty samples
      a value, or more than ten and all values equally frequent. Other integers, and values most of which occur once,
      are numbers.
    - One column of floats: classes if there are two different values, each several times. All others are numbers.
    - Several columns of integers, bools, or floats that are all 0 or 1: each different row is a class if there are
      thirty samples a row; else numbers. All others are numbers.

    Args:
        values: shape (n, d).
        discrete: what the user says; None to decide by type and values.
    """
    if discrete is not None:
        if not isinstance(discrete, bool | np.bool_):
            raise TypeError(f"discrete: expected True, False or None, got {discrete!r}.")
        return Kind(bool(discrete), "as asked for")
    if values.dtype.kind not in "biuf":
        return Kind(True, "strings")
    what = {"b": "bools", "f": "floats"}.get(values.dtype.kind, "integers")
    return _several(values, what) if values.shape[1] > 1 else _one(values[:, 0], what)


def _one(column: NDArray[Any], what: str) -> Kind:
    """Values in one dimension."""
    n = len(column)
    if what == "floats":
        if len(np.unique(column[:1000])) > 2:  # most floats, without sorting them all
            return Kind(False, "floats")
        levels, counts = np.unique(column, return_counts=True)
        if len(levels) == 2 and counts.min() > 1:
            return Kind(True, f"floats that are all {levels[0]:g} or {levels[1]:g}", is_plain=False)
        return Kind(False, "floats")
    levels, counts = np.unique(column, return_counts=True)
    m = len(levels)
    seen = f"{m} different {what} in {n} samples" if m > 1 else f"one of the {what}"
    if n < 2 * m and n > 1:
        return Kind(False, f"{seen}, most of them once", is_plain=False)
    if m <= _FEW:
        return Kind(True, seen)
    seen += f", {levels[0]} to {levels[-1]}"
    if not _number_classes(levels):
        return Kind(False, f"{seen}, which do not number classes without gaps", is_plain=False)
    if n >= _MEMBERS * m:
        return Kind(True, f"{seen}, at least {_MEMBERS} samples a value", is_plain=False)
    if n > _MEMBERS_IF_BALANCED * m and _balanced(counts):
        return Kind(True, f"{seen}, equally frequent", is_plain=False)
    return Kind(False, f"{seen}, fewer than {_MEMBERS} samples a value", is_plain=False, is_guess=True)


def _several(values: NDArray[Any], what: str) -> Kind:
    """Rows of several values."""
    binary = what == "bools" or bool(((values == 0) | (values == 1)).all())
    if binary and bool((np.count_nonzero(values, axis=1) == 1).all()):
        return Kind(True, "one-hot rows", is_plain=False)
    if what == "floats" and not binary:
        return Kind(False, "floats")
    m = len(group_rows(values).counts)
    rows = f"{m} different rows of {values.shape[1]} {'zeros and ones' if binary else what} in {len(values)} samples"
    return Kind(len(values) >= _MEMBERS * m, rows, is_plain=False)


def _number_classes(levels: NDArray[Any]) -> bool:
    """Whether ascending integers are 0 or 1 to K, nearly all; one negative number before them is "no class"."""
    if levels[0] < 0:
        levels = levels[1:]
    return bool(levels[0] in (0, 1) and len(levels) >= _PRESENT * (float(levels[-1]) - float(levels[0]) + 1))


def _balanced(counts: NDArray[np.intp]) -> bool:
    """Whether the counts of classes are those of equally frequent ones, by chi squared."""
    free = len(counts) - 1
    expected = counts.mean()
    return bool(((counts - expected) ** 2 / expected).sum() <= free + _OVERDISPERSED * (2 * free) ** 0.5)
