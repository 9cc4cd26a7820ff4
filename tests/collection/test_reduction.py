import numpy as np
import pytest
import torch
from torch import nn

from mi_callback.collection.layers import Layer
from mi_callback.collection.recorder import Recorder
from mi_callback.collection.reduction import KEPT_WIDTH, SparseProjection
from mi_callback.collection.storage import Storage


def test_distances_are_kept_up_to_a_few_per_cent():
    x = torch.from_numpy(np.random.default_rng(0).standard_normal((40, 20_000)).astype(np.float32))
    reduced = SparseProjection(20_000, 1024)(x)
    assert reduced.shape == (40, 1024)
    ratio = torch.pdist(reduced) / torch.pdist(x)
    assert abs(ratio.mean() - 1) < 0.02
    assert ratio.std() < 0.05


def test_rows_of_low_rank_lose_nothing():
    rng = np.random.default_rng(1)
    latents = rng.standard_normal((200, 5))
    x = torch.from_numpy(latents @ rng.standard_normal((5, 3_000)))
    reduced = SparseProjection(3_000, 64)(x).numpy()
    recovered = reduced @ np.linalg.lstsq(reduced, latents, rcond=None)[0]
    np.testing.assert_allclose(recovered, latents, atol=1e-3)


def test_the_map_is_the_same_every_time_and_leaves_torch_alone():
    x = torch.ones(2, 500)
    before = torch.random.get_rng_state()
    first, second, other = (SparseProjection(500, 50, seed=seed)(x) for seed in (3, 3, 4))
    assert torch.equal(before, torch.random.get_rng_state())
    assert torch.equal(first, second)
    assert not torch.equal(first, other)
    assert SparseProjection(500, 50)(x.to(torch.int64)).dtype == torch.float32


def test_what_cannot_be_reduced_is_refused():
    with pytest.raises(ValueError, match="fewer than the 50 coordinates"):
        SparseProjection(50, 50)
    with pytest.raises(ValueError, match=r"expected shape \(b, 60\), got \(2, 61\)"):
        SparseProjection(60, 50)(torch.zeros(2, 61))


def test_a_layer_too_wide_to_keep_is_reduced_while_it_is_recorded():
    layer = nn.Flatten()
    recorder = Recorder([Layer("conv", layer, "conv")], Storage(), capacity=12)
    maps = torch.randn(12, 8, 32, 32, generator=torch.Generator().manual_seed(0))
    with recorder.attached(layer):
        for start in (0, 8):
            part = maps[start : start + 8]
            recorder.start(start, len(part), len(part))
            layer(part)
    arrays, failures = recorder.finish(12)
    assert not failures
    assert arrays["conv"].shape == (12, KEPT_WIDTH)
    assert recorder.reductions == {"conv": f"sparse random projection 8192 -> {KEPT_WIDTH}"}
    np.testing.assert_allclose(arrays["conv"], SparseProjection(8192)(maps.flatten(1)).numpy(), rtol=1e-4, atol=1e-4)
