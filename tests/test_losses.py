"""Losses and penalties against closed forms."""

import math

import torch
from hypothesis import given
from hypothesis import strategies as st

from gandl_lib import losses


def linear(w):
    return lambda images: (images * w).sum(dim=(1, 2, 3))


@given(st.floats(0.01, 30))
def test_r1_of_a_linear_discriminator_is_the_squared_norm_of_its_weights(norm):
    w = torch.randn(5, 4, 4)
    w = w / w.norm() * norm
    images = torch.randn(6, 5, 4, 4, requires_grad=True)
    penalty = losses.r1(losses.input_gradient(linear(w)(images), images))
    torch.testing.assert_close(penalty, torch.tensor(norm**2), rtol=1e-4, atol=1e-5)


@given(st.floats(0.01, 30))
def test_one_sided_penalty_is_zero_below_slope_one_and_quadratic_above(slope):
    w = torch.randn(5, 4, 4)
    w = w / w.norm() * slope
    images = torch.randn(6, 5, 4, 4, requires_grad=True)
    penalty = losses.lipschitz_one_sided(losses.input_gradient(linear(w)(images), images))
    torch.testing.assert_close(penalty, torch.tensor(max(0.0, slope - 1) ** 2), rtol=1e-3, atol=1e-5)


def test_penalties_can_be_learnt_from():
    w = torch.full((1, 2, 2), 1.5, requires_grad=True)
    images = torch.randn(3, 1, 2, 2, requires_grad=True)
    losses.r1(losses.input_gradient(linear(w)(images), images)).backward()
    torch.testing.assert_close(w.grad, 2 * w.detach())


def test_adversarial_losses_at_known_logits():
    zero = torch.zeros(4)
    assert math.isclose(losses.discriminator_logistic(zero, zero), 2 * math.log(2), rel_tol=1e-6)
    assert math.isclose(losses.generator_nonsaturating(zero), math.log(2), rel_tol=1e-6)
    sure = torch.full((4,), 50.0)
    assert losses.discriminator_logistic(sure, -sure) < 1e-6
    assert math.isclose(losses.generator_nonsaturating(-sure), 50, rel_tol=1e-6)


def test_mix_lies_between_its_two_images():
    real, fake = torch.zeros(50, 2, 3, 3), torch.ones(50, 2, 3, 3)
    a = losses.uniform_mix(real, fake)
    assert torch.equal(a, a[:, :1, :1, :1].expand_as(a))  # one weight an image
    assert 0.3 < a.mean() < 0.7 and a.min() >= 0 and a.max() <= 1


def test_path_length_of_a_scaling_generator():
    """image = k w has Jacobian k I, so ||J^T y|| = k ||y||, and ||y||^2 has mean C by construction."""
    torch.manual_seed(0)
    w = torch.randn(64, 1, 3 * 16 * 16, requires_grad=True)
    images = 2.5 * w[:, 0].reshape(64, 3, 16, 16)
    lengths = losses.path_lengths(images, w)
    assert lengths.shape == (64,)
    torch.testing.assert_close(lengths.mean(), torch.tensor(2.5 * 3**0.5), rtol=0.02, atol=0)


@given(st.integers(2, 5), st.integers(1, 4), st.floats(0.05, 2), st.integers(0, 99))
def test_contrast_is_the_cross_entropy_of_finding_ones_like(n, d, temperature, seed):
    """Against loops; rows come in pairs, and two more are like nobody."""
    generator = torch.Generator().manual_seed(seed)
    z = torch.randn(2 * n + 2, d, generator=generator)
    group = [*range(n), *range(n), n, n + 1]
    unit = [row / row.norm() for row in z]
    found = []
    for i in range(2 * n):
        j = (i + n) % (2 * n)
        scores = {k: float(unit[i] @ unit[k]) / temperature for k in range(len(z)) if k != i}
        highest = max(scores.values())
        found.append(highest + math.log(sum(math.exp(s - highest) for s in scores.values())) - scores[j])
    alike = torch.tensor([[a == b for b in group] for a in group])
    loss = losses.contrastive(z, alike, temperature)
    torch.testing.assert_close(loss, torch.tensor(sum(found) / len(found)), rtol=1e-4, atol=1e-5)


def test_contrast_at_its_ends():
    apart = torch.eye(4).repeat(2, 1)
    pairs = torch.eye(4, dtype=torch.bool).repeat(2, 2)
    assert losses.contrastive(apart, pairs, 0.01) < 1e-6
    same = torch.ones(8, 4)
    assert math.isclose(losses.contrastive(same, pairs, 0.5), math.log(7), rel_tol=1e-6)
    together = torch.ones(3, 3, dtype=torch.bool)  # several alike: the mean over them
    assert math.isclose(losses.contrastive(torch.ones(3, 2), together, 1.0), math.log(2), rel_tol=1e-6)
