"""Reading a copy leaves the original alone, shares its data and draws the same every time."""

from __future__ import annotations

import contextlib
import random
import threading

import numpy as np
import pytest
import torch

from mi_callback.collection import random_state_kept
from mi_callback.collection.isolation import copy_for_reading, seeded


class Data:
    def __init__(self):
        self.table = torch.zeros(5)
        self.array = np.zeros(5)
        self.transform = lambda x: x + 1
        self.seen = []
        self.own = self
        self.method = self.read
        self.generators = [torch.Generator(), np.random.default_rng(1), np.random.RandomState(1), random.Random(1)]

    def read(self):
        self.seen.append(0)
        draw = [torch.rand(1, generator=self.generators[0]).item()]
        return draw + [g.random() for g in self.generators[1:3]] + [self.generators[3].random()]


def test_the_copy_shares_data_and_nothing_else():
    data = Data()
    copy, method = copy_for_reading((data, data.read), 0)
    assert copy.table is data.table
    assert copy.array is data.array
    assert copy.transform is data.transform
    assert copy.own is copy
    assert method.__self__ is copy
    states = [data.generators[0].get_state(), data.generators[1].bit_generator.state]
    first = copy.method()
    assert data.seen == []
    assert torch.equal(states[0], data.generators[0].get_state())
    assert states[1] == data.generators[1].bit_generator.state
    data.read()
    assert copy_for_reading(data, 0).read() == first, "the same draws at every epoch"
    assert copy_for_reading(data, 1).read() != first


def test_what_cannot_be_copied_raises():
    data = Data()
    data.lock = threading.Lock()
    with pytest.raises(TypeError, match="lock"):
        copy_for_reading(data, 0)


def draws():
    return random.random(), float(np.random.rand()), float(torch.rand(1))  # noqa: NPY002


@pytest.mark.parametrize("error", [None, RuntimeError, KeyboardInterrupt])
def test_random_state_is_kept_however_the_block_is_left(error):
    with random_state_kept():
        expected = draws()
    with contextlib.suppress(error or RuntimeError), random_state_kept():
        draws()
        if error is not None:
            raise error
    assert draws() == expected


def test_seeded_draws_the_same():
    with seeded(3):
        first = draws()
    draws()
    with seeded(3):
        assert draws() == first
