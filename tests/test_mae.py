"""A masked autoencoder: what is hidden stays hidden, what counts is what was hidden."""

import math
from dataclasses import replace

import pytest
import torch
from torch.nn import functional as F

from gandl_lib.methods.mae import MAE, PRESETS
from gandl_lib.nn.vit import ViTConfig, positions

TINY = PRESETS["tiny"]


@pytest.fixture
def method():
    torch.manual_seed(0)
    return MAE(TINY, 3)


def images(n: int = 4, seed: int = 0) -> torch.Tensor:
    return torch.rand(n, 3, 16, 16, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def test_what_is_hidden_is_not_seen(method):
    network, x = method.network, images()
    visible = torch.tensor([[0, 5, 9]] * 4)
    patches = network.patchify(x)
    other = network.patchify(images(seed=1)).clone()
    other.scatter_(1, visible[:, :, None].expand(-1, -1, patches.shape[2]), patches[:, visible[0]])
    same_where_visible = F.fold(other.transpose(1, 2), 16, 4, stride=4)
    torch.testing.assert_close(network(same_where_visible, visible), network(x, visible))
    assert not torch.allclose(network(images(seed=1), visible), network(x, visible))


def test_the_order_of_the_visible_patches_says_nothing(method):
    x = images()
    torch.testing.assert_close(
        method.network(x, torch.tensor([[9, 0, 5]] * 4)), method.network(x, torch.tensor([[0, 5, 9]] * 4))
    )


def test_the_loss_is_the_mean_over_hidden_patches(method, monkeypatch):
    """Against loops, with the order of hiding drawn once more from the same seed."""
    x = images()
    torch.manual_seed(3)
    order = torch.rand(4, 16).argsort(1)
    drawn, wanted = method.network(x, order[:, :4]), method.targets(x)
    errors = [((drawn[b, t] - wanted[b, t]) ** 2).mean() for b in range(4) for t in order[b, 4:].tolist()]
    assert len(errors) == 4 * 12  # three quarters of 16
    torch.manual_seed(3)
    torch.testing.assert_close(method.step(x, 0)["hidden_pixels"], torch.stack(errors).mean().detach())


def test_standardised_targets_keep_texture_only(method):
    x = images()
    by_channel = method.targets(x).unflatten(2, (3, -1))
    assert by_channel.mean(3).abs().max() < 1e-5
    assert (
        by_channel.var(3) - 1
    ).abs().max() < 0.05  # a thousandth is added to the variance, about 1/3, of uniform noise
    torch.testing.assert_close(method.targets(0.5 * x + 0.3), method.targets(x), atol=2e-2, rtol=0)
    plain = MAE(replace(TINY, standardise=False), 3)
    assert (plain.targets(x)[0, 0].reshape(3, 4, 4) == x[0, :, :4, :4]).all()


def test_places_are_told_apart_by_rows_and_columns():
    side, width = 5, 12
    found = positions(side, width)
    for row in range(side):
        for column in range(side):
            wave = [f(x / 10000 ** (k / 3)) for x in (row, column) for f in (math.sin, math.cos) for k in range(3)]
            torch.testing.assert_close(found[row * side + column], torch.tensor(wave))
    assert torch.cdist(found, found).add(torch.eye(25)).min() > 0.1


def test_the_rate_rises_and_then_stays(method):
    rates = []
    for n_seen in (0, 8, 24, 320):
        method.step(images(8), n_seen)
        rates.append(method.optimisers["network"].param_groups[0]["lr"] / TINY.learning_rate)
    assert rates == pytest.approx([0.25, 0.5, 1, 1])


def test_it_learns_what_can_be_known():
    """Stripes of one image are drawn from their visible quarter better than by the mean."""
    torch.manual_seed(0)
    method = MAE(replace(TINY, standardise=False, learning_rate=3e-3), 1)
    phase = torch.rand(8, 1, 1, 1, generator=torch.Generator().manual_seed(0)) * 6.28
    x = torch.sin(torch.arange(16.0) * 1.57 + phase).expand(8, 1, 16, 16)
    for n in range(150):
        loss = method.step(x, 8 * n)["hidden_pixels"]
    assert loss < 0.7 * x.var()


@pytest.mark.parametrize(("change", "says"), [({"patch": 5}, "do not tile"), ({"width": 30}, "multiple of 4")])
def test_sizes_that_do_not_fit_are_refused(change, says):
    with pytest.raises(ValueError, match=says):
        replace(ViTConfig(16, 4, 16, 1, 2, 8, 1, 2), **change)
