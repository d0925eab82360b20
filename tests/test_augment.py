"""Adaptive augmentation: what p = 0 leaves alone, what p = 1 does, and where p goes."""

import numpy as np
import pytest
import scipy.ndimage
import torch

from gandl_lib import augment
from gandl_lib.augment import EVERY, AdaptiveAugment, random_affine
from gandl_lib.views import random_intensity, random_turns, turn


def images(n: int = 6, c: int = 5, size: int = 16) -> torch.Tensor:
    return torch.rand(n, c, size, size, generator=torch.Generator().manual_seed(0)) * 2 - 1


def test_no_chance_changes_nothing_and_every_chance_changes_every_image():
    pipe, x = AdaptiveAugment(0.6, 500), images()
    torch.testing.assert_close(pipe(x), x, atol=1e-5, rtol=0)
    pipe.p.fill_(1.0)
    changed = (pipe(x) - x).abs().amax(dim=(1, 2, 3))
    assert changed.min() > 0.05


def test_half_a_chance_leaves_some_images_as_they_are():
    torch.manual_seed(0)
    x = images(400, 1)
    same = ((random_intensity(x, chance=0.5) - x).abs().amax(dim=(1, 2, 3)) < 1e-6).float().mean()
    assert 0.4 < same < 0.6
    untouched = ((random_affine(x, 0.3) - x).abs().amax(dim=(1, 2, 3)) < 1e-4).float().mean()
    assert abs(untouched - 0.7**6) < 0.06  # scale, stretch and its direction, turn, two shifts


def test_channels_change_on_their_own_and_by_one_line_each():
    """Each channel is a + b x of what it was, with a and b of its own."""
    torch.manual_seed(0)
    x = images(3)
    y = random_intensity(x)
    slopes = []
    for b in range(3):
        for c in range(5):
            slope, offset = np.polyfit(x[b, c].flatten().numpy(), y[b, c].flatten().numpy(), 1)
            np.testing.assert_allclose(y[b, c], slope * x[b, c] + offset, atol=1e-5)
            slopes.append(slope)
    assert len(np.unique(np.round(slopes, 4))) == 15
    black = torch.full((2000, 1, 1, 1), -1.0)
    moved = random_intensity(black, log2_gain_sd=3.0, offset_sd=0.1) + 1
    assert abs(moved.mean()) < 0.01 and abs(moved.std() - 0.1) < 0.01, "black stays black but for the offset"


def test_the_affine_map_is_scipys(monkeypatch):
    """The centre of one smooth image against scipy's map with the matrix that was drawn."""
    drawn = []
    affine_grid = torch.nn.functional.affine_grid

    def watch(theta, *args, **kwargs):
        drawn.append(theta)
        return affine_grid(theta, *args, **kwargs)

    monkeypatch.setattr(augment.F, "affine_grid", watch)
    n = 33
    y, x = torch.meshgrid(*[torch.linspace(-1, 1, n)] * 2, indexing="ij")
    image = torch.sin(3 * x + y) + torch.cos(2 * y - x)
    torch.manual_seed(1)
    found = random_affine(image[None, None], 1.0)[0, 0].numpy()
    matrix, shift = drawn[0][0, :, :2].numpy()[::-1, ::-1], drawn[0][0, :, 2].numpy()[::-1]  # x, y there; y, x here
    middle = (n - 1) / 2
    offset = middle - matrix @ [middle, middle] + shift * n / 2
    expected = scipy.ndimage.affine_transform(image.numpy(), matrix, offset, order=1, mode="reflect")
    np.testing.assert_allclose(found[8:-8, 8:-8], expected[8:-8, 8:-8], atol=0.02)
    assert np.abs(found[8:-8, 8:-8] - image.numpy()[8:-8, 8:-8]).max() > 0.2


def test_the_drawn_maps_have_the_spread_they_should(monkeypatch):
    drawn = []
    monkeypatch.setattr(
        augment.F, "affine_grid", lambda theta, *a, **k: drawn.append(theta) or torch.zeros(4000, 2, 2, 2)
    )
    torch.manual_seed(0)
    random_affine(torch.zeros(4000, 1, 2, 2), 1.0)
    area = torch.linalg.det(drawn[0][:, :, :2]).log2()
    assert abs(area.mean()) < 0.03 and abs(area.std() - 0.4) < 0.02  # the square of 2^N(0, 0.2^2)
    assert abs(drawn[0][:, :, 2].std() - 0.25) < 0.01  # an eighth of a side that is 2 long


def test_generators_learn_through_it():
    pipe, x = AdaptiveAugment(0.6, 500), images().requires_grad_()
    pipe.p.fill_(1.0)
    pipe(x).square().sum().backward()
    assert torch.isfinite(x.grad).all() and (x.grad.abs().sum(dim=(1, 2, 3)) > 0).all()


@pytest.mark.parametrize(("logit", "direction"), [(1.0, 1), (-1.0, -1)])
def test_p_moves_towards_the_target_at_its_pace(logit, direction):
    """It goes from one end to the other in `kimg` thousand images, and stays there."""
    pipe = AdaptiveAugment(0.6, 1.0)
    pipe.p.fill_(0.0 if direction > 0 else 1.0)
    went = []
    for _ in range(1000 // 10 + 3 * EVERY):
        pipe.follow(torch.full((10,), logit), batch=10)
        went.append(float(pipe.p))
    steps = np.diff(went)
    assert (steps * direction >= 0).all() and np.count_nonzero(steps) == 1000 // 10 // EVERY
    assert abs(steps).max() == pytest.approx(EVERY * 10 / 1000, rel=1e-4)
    assert went[-1] == (1.0 if direction > 0 else 0.0)


def test_a_mean_sign_at_the_target_keeps_p():
    pipe = AdaptiveAugment(0.5, 1.0)
    pipe.p.fill_(0.3)
    for _ in range(20):
        pipe.follow(torch.tensor([1.0, 1.0, 1.0, -1.0]), batch=4)
    assert pipe.p == 0.3


def test_random_turns_are_the_eight_ways_and_come_equally_often():
    torch.manual_seed(0)
    x = images(1, 2, 4).repeat(4000, 1, 1, 1)
    ways = torch.stack([turn(x[0], k) for k in range(8)])
    match = (random_turns(x)[:, None] == ways[None]).all(dim=(2, 3, 4))
    assert (match.sum(dim=1) == 1).all()
    share = match.float().mean(dim=0)
    assert (share - 1 / 8).abs().max() < 0.025
