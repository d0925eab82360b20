"""ContraD: who learns from what, and that a feature is its own image's."""

from dataclasses import replace

import pytest
import torch

from gandl_lib.methods.contrad import PRESETS, ContraD

TINY = PRESETS["tiny"]


@pytest.fixture
def method():
    torch.manual_seed(0)
    return ContraD(TINY, 3)


def images(n: int = 8) -> torch.Tensor:
    return torch.rand(n, 3, 32, 32, generator=torch.Generator().manual_seed(0)) * 2 - 1


def moved(method: ContraD, **weights: float) -> set[str]:
    """The parts of the discriminator that one step of it changes, its losses weighed so."""
    method.config = replace(TINY, **weights)
    D = method.discriminator
    before = {name: p.detach().clone() for name, p in D.named_parameters()}
    method._step_discriminator(images(), torch.rand(8, 3, 32, 32), 0)
    return {name.split(".")[0] for name, p in D.named_parameters() if not torch.equal(p, before[name])}


TRUNK = {"from_image", "blocks", "conv", "dense"}


def test_judging_teaches_the_features_nothing(method, monkeypatch):
    monkeypatch.setattr("gandl_lib.losses.contrastive", lambda z, *args: 0 * z.sum())
    assert moved(method) == {"out"}


def test_contrast_teaches_the_features_and_its_own_heads(method):
    assert moved(method, judge_weight=0.0) == TRUNK | {"project_real", "project_fake"}
    assert moved(ContraD(TINY, 3), fake_weight=0.0, judge_weight=0.0) == TRUNK | {"project_real"}


def test_a_step_moves_both_networks_and_reports_finite_terms(method):
    before = {name: p.detach().clone() for name, p in method.named_parameters()}
    for k in range(4):
        terms = method.step(images(), 8 * k)
        assert {"contrast_real", "contrast_fake", "loss_d", "loss_g"} <= terms.keys()
        assert all(torch.isfinite(v) for v in terms.values())
    assert not [name for name, p in method.named_parameters() if torch.equal(p, before[name])]


def test_logits_know_nothing_of_the_batch(method):
    x = images()
    D = method.discriminator.eval()
    torch.testing.assert_close(D(x)[2:3], D(x[2:3]), rtol=1e-4, atol=1e-5)


def test_views_of_an_image_come_to_lie_together():
    """Eight textures, seen for a while: a view then finds its sister among the sixteen more often than before."""
    torch.manual_seed(0)
    method = ContraD(TINY, 3)
    row = torch.linspace(0, 6.28, 32)
    x = torch.stack(
        [torch.outer((k * row).sin(), (c * row).cos()).expand(3, 32, 32) for k in (1, 3, 5, 9) for c in (2, 7)]
    )

    def found() -> float:
        generator = torch.get_rng_state()
        torch.manual_seed(5)
        hits = []
        for _ in range(8):
            with torch.no_grad():
                z = method.discriminator.project_real(
                    method.discriminator.features(torch.cat([method.augment(x), method.augment(x)]))
                )
            z = torch.nn.functional.normalize(z, dim=1)
            likeness = (z @ z.T).fill_diagonal_(-2)
            hits.append((likeness.argmax(dim=1) == (torch.arange(16) + 8) % 16).float().mean())
        torch.set_rng_state(generator)
        return float(torch.stack(hits).mean())

    untrained = found()
    for k in range(60):
        method.step(x, 8 * k)
    assert found() > untrained + 0.1  # by chance one in fifteen
