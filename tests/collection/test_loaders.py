"""The fresh loaders give the samples that training can draw, in the order of the data set, without touching its own."""

from __future__ import annotations

from itertools import chain
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    Dataset,
    DistributedSampler,
    IterableDataset,
    RandomSampler,
    Subset,
    SubsetRandomSampler,
    TensorDataset,
    WeightedRandomSampler,
)

from mi_callback.collection import CollectionError, LightningHost
from mi_callback.collection.samples import Share
from tests.models import QUIET

pytestmark = [pytest.mark.filterwarnings(rule) for rule in QUIET]


class Numbers(Dataset):
    """0 .. n - 1; asked for a list, it gives a batch."""

    def __init__(self, n=50):
        self.n = n

    def __len__(self):
        return self.n

    def __getitem__(self, i):
        return torch.as_tensor(i)


class Stream(IterableDataset):
    def __init__(self, n=None):
        self.n = n

    def __iter__(self):
        i = 0
        while self.n is None or i < self.n:
            yield torch.tensor(i)
            i += 1


class Sized(Stream):
    def __len__(self):
        return self.n


def source(loader, limit=1.0, max_samples=None, rank=0, world_size=1, seed=0):
    trainer = SimpleNamespace(train_dataloader=loader, limit_train_batches=limit)
    return LightningHost(trainer, nn.Identity()).source("train", Share(max_samples, seed, rank, world_size))


def numbers(loader, **options):
    return torch.cat([batch.reshape(-1) for batch in source(loader, **options).batches]).tolist()


ALL = list(range(50))


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"shuffle": True},
        {"shuffle": True, "drop_last": True},
        {"shuffle": True, "num_workers": 2},
        {"shuffle": True, "num_workers": 1, "persistent_workers": True},
        {"sampler": RandomSampler(ALL, generator=torch.Generator())},
        {"sampler": WeightedRandomSampler([1.0] * 50, 200)},
    ],
)
def test_the_full_set_in_order(options):
    loader = DataLoader(Numbers(), batch_size=8, **options)
    assert numbers(loader) == ALL
    assert source(loader).n_samples == 50
    batches = list(source(loader).batches)
    assert len(batches) == 7
    assert len(batches[-1]) == 2


def test_samplers_that_leave_samples_out():
    assert numbers(DataLoader(Numbers(), batch_size=8, sampler=SubsetRandomSampler([7, 3, 40]))) == [3, 7, 40]
    weighted = WeightedRandomSampler([0.0] * 25 + [1.0] * 25, 10)
    assert numbers(DataLoader(Numbers(), batch_size=8, sampler=weighted)) == ALL[25:]


def squares(samples):
    return [torch.stack(column) ** 2 for column in zip(*samples, strict=True)]


class Doubled(TensorDataset):
    def __getitem__(self, i):
        return tuple(2 * tensor for tensor in super().__getitem__(i))


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("collate_fn", [None, squares])
@pytest.mark.parametrize("kind", ["tensors", "subset", "subset of a subset", "subclass"])
def test_tensors_give_the_batches_that_collating_gives(kind, collate_fn, workers):
    """Plain tensors are indexed a batch at a time; the loader that collates sample by sample is the evidence."""
    rng = np.random.default_rng(3)
    tensors = torch.from_numpy(rng.standard_normal((50, 2, 3))), torch.arange(50) % 7
    data = (Doubled if kind == "subclass" else TensorDataset)(*tensors)
    if "subset" in kind:
        data = Subset(data, rng.permutation(50)[:30].tolist())
    if kind == "subset of a subset":
        data = Subset(data, range(3, 30, 2))
    options = {"batch_size": 8, "collate_fn": collate_fn, "num_workers": workers}
    expected = list(DataLoader(data, **options))
    got = list(source(DataLoader(data, shuffle=True, **options)).batches)
    assert len(got) == len(expected)
    for batch, reference in zip(got, expected, strict=True):
        assert type(batch) is type(reference)
        assert all(a.dtype == b.dtype and torch.equal(a, b) for a, b in zip(batch, reference, strict=True))


class Odd:
    """A batch sampler that tells nothing about itself."""

    def __iter__(self):
        return iter([[1, 2], [3]])

    def __len__(self):
        return 2


def test_batch_samplers():
    custom = BatchSampler(SubsetRandomSampler(range(20)), 6, drop_last=True)
    batches = list(source(DataLoader(Numbers(), batch_sampler=custom)).batches)
    assert [len(batch) for batch in batches] == [6, 6, 6, 2]
    assert numbers(DataLoader(Numbers(), batch_sampler=Odd())) == ALL
    whole = DataLoader(Numbers(), batch_size=None, sampler=BatchSampler(RandomSampler(ALL), 8, drop_last=False))
    assert numbers(whole) == ALL
    assert len(list(source(whole).batches)) == 7


def test_a_data_set_of_batches():
    class Batches(Numbers):
        def __getitem__(self, i):
            return torch.arange(3) + 3 * i

    loader = DataLoader(Batches(5), batch_size=None, shuffle=True)
    assert numbers(loader) == ALL[:15]


@pytest.mark.parametrize(("limit", "n"), [(3, 24), (0.5, 24), (1.0, 50), (100, 50)])
def test_limits(limit, n):
    in_order = numbers(DataLoader(Numbers(), batch_size=8), limit=limit)
    assert in_order == ALL[:n]
    shuffled = numbers(DataLoader(Numbers(), batch_size=8, shuffle=True), limit=limit)
    assert len(shuffled) == n
    assert shuffled == sorted(shuffled)
    assert n == 50 or shuffled != ALL[:n]


def test_max_samples_is_a_fixed_subset():
    loader = DataLoader(Numbers(), batch_size=8, shuffle=True)
    first = numbers(loader, max_samples=11)
    assert len(first) == 11
    assert first == sorted(set(first))
    assert numbers(loader, max_samples=11) == first
    assert numbers(loader, max_samples=11, seed=1) != first
    assert numbers(loader, max_samples=11, limit=1) == numbers(loader, limit=1), "the smaller of the two"
    assert source(loader, max_samples=11).n_samples == 11
    assert numbers(loader, max_samples=500) == ALL


@pytest.mark.parametrize("world_size", [2, 3])
def test_processes_share_the_samples_out(world_size):
    loader = DataLoader(Numbers(), batch_size=8, shuffle=True)
    parts = [numbers(loader, rank=rank, world_size=world_size) for rank in range(world_size)]
    batches = [ALL[i : i + 8] for i in range(0, 50, 8)]
    assert parts == [list(chain(*batches[rank::world_size])) for rank in range(world_size)]
    for rank, part in enumerate(parts):
        assert source(loader, rank=rank, world_size=world_size).positions.tolist() == part
    with pytest.raises(CollectionError, match=r"Stream cannot be shared out over 2 processes"):
        source(DataLoader(Stream(), batch_size=8), limit=2, world_size=2)


def test_streams_need_an_end():
    with pytest.raises(CollectionError, match=r"Stream has no length.*Set max_samples"):
        source(DataLoader(Stream(), batch_size=8))
    assert numbers(DataLoader(Stream(), batch_size=8), limit=2) == ALL[:16]
    assert source(DataLoader(Stream(), batch_size=8), max_samples=20).n_samples == 20
    assert numbers(DataLoader(Sized(50), batch_size=8)) == ALL
    assert source(DataLoader(Sized(50), batch_size=8)).n_samples == 50
    assert source(DataLoader(Sized(50), batch_size=8), max_samples=20).n_samples == 20


def test_iterables_that_are_no_loader():
    batches = [torch.arange(4), torch.arange(4, 6)]
    assert torch.cat(list(source(_Plain(batches)).batches)).tolist() == ALL[:6]
    assert torch.cat(list(source(_Plain(batches), limit=1).batches)).tolist() == ALL[:4]
    with pytest.raises(CollectionError, match="can be read twice, got generator"):
        source(batch for batch in batches)
    with pytest.raises(CollectionError, match="got an empty loader"):
        source(_Plain([]))


def test_an_empty_data_set():
    with pytest.raises(CollectionError, match="got an empty data set"):
        source(DataLoader(Numbers(0)))


class _Plain:
    """Batches, over and over."""

    def __init__(self, batches):
        self.batches = batches

    def __len__(self):
        return len(self.batches)

    def __iter__(self):
        return iter(self.batches)


def test_several_loaders_run_side_by_side():
    loaders = {"a": DataLoader(Numbers(10), batch_size=4), "b": DataLoader(Numbers(6), batch_size=4)}
    batches = list(source(loaders).batches)
    assert [len(batch["a"]) for batch in batches] == [4, 4]
    assert [len(batch["b"]) for batch in batches] == [4, 2]


class Own(Numbers):
    """Counts and draws for itself."""

    def __init__(self):
        super().__init__()
        self.calls = 0
        self.rng = np.random.default_rng(0)
        self.table = torch.zeros(50)

    def __getitem__(self, i):
        self.calls += 1
        return torch.as_tensor(i + self.rng.random())


def test_the_data_sets_own_state_is_left_alone():
    data = Own()
    loader = DataLoader(data, batch_size=8, shuffle=True, generator=torch.Generator())
    state = loader.generator.get_state()
    first = numbers(loader)
    assert data.calls == 0
    assert data.rng.bit_generator.state == np.random.default_rng(0).bit_generator.state
    assert torch.equal(loader.generator.get_state(), state)
    assert numbers(loader) == first, "the same augmentation at every sweep"


def test_data_that_cannot_be_copied_are_read_in_place_with_a_warning():
    data = Own()
    data.handle = (i for i in ALL)
    with pytest.warns(RuntimeWarning, match=r"could not be copied.*num_workers=1"):
        assert len(numbers(DataLoader(data, batch_size=8))) == 50


@pytest.mark.parametrize("shuffle", [True, False])
def test_samplers_of_distributed_training(shuffle):
    """All samples count, whichever part this process trains on; limits go by batches of all processes together."""
    sampler = DistributedSampler(Numbers(), num_replicas=2, rank=0, shuffle=shuffle)
    loader = DataLoader(Numbers(), batch_size=8, sampler=sampler)
    assert numbers(loader) == ALL
    both = numbers(loader, limit=1, world_size=2) + numbers(loader, limit=1, rank=1, world_size=2)
    assert len(both) == 16
    assert (both == ALL[:16]) != shuffle
