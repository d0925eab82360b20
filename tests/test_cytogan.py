"""CytoGAN's four models: published sizes, losses by hand, laws that each must keep, and the same bits after a kill."""

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.distributions import Independent, Normal, kl_divergence

from gandl_lib import checkpoints, losses, shards, train
from gandl_lib.embed import open_method
from gandl_lib.methods import METHODS, lookup
from gandl_lib.nn.dcgan import DCGANConfig, Discriminator, Generator, Trunk

TRAINED = ("dcgan", "lsgan", "wgan-gp", "vae")
GANS = TRAINED[:3]


def size(module):
    return sum(p.numel() for p in module.parameters())


def build(name, **change):
    torch.manual_seed(0)
    cls, config = lookup(name, "tiny")
    return cls(replace(config, **change), 3).train()


def step(method, n_seen=0):
    torch.manual_seed(n_seen)
    return method.step(torch.rand(method.batch, 3, 24, 24) * 2 - 1, n_seen)


# ---- networks ----


def test_networks_have_the_published_size():
    """Counted from the text of the paper: 96 x 96 x 3, z of 100, 12 x 12 x 256, four convolutions of 5 x 5."""
    D, G = Discriminator(DCGANConfig(), 3), Generator(DCGANConfig(), 3)
    convs = [(3, 32), (32, 64), (64, 128), (128, 256)]
    assert size(D) == sum(25 * i * o + o for i, o in convs) + (12 * 12 * 256 * 100 + 100) + (100 + 1)
    grow = [(256, 128), (128, 64), (64, 32)]
    dense = 100 * 12 * 12 * 256 + 2 * 256
    assert size(G) == dense + sum(25 * i * o + 2 * o for i, o in grow) + (25 * 32 * 3 + 3)
    for name in TRAINED:
        config = METHODS[name].presets["paper"]
        assert config.network == DCGANConfig() and config.batch == 64
    assert METHODS["dcgan"].presets["paper"].input_noise == 0.1 and METHODS["dcgan"].presets["paper"].smoothing == 0.8
    assert METHODS["wgan-gp"].presets["paper"].penalty == 10


@settings(max_examples=12)
@given(st.integers(1, 5), st.integers(1, 6), st.integers(1, 3))
def test_any_side_that_halves_three_times_and_any_channels(eighths, channels, images):
    config = DCGANConfig(8 * eighths, (2, 3, 4, 5), latent=6, features=7)
    D, G = Discriminator(config, channels), Generator(config, channels).eval()
    drawn = G(torch.randn(images, 6))
    assert drawn.shape == (images, channels, 8 * eighths, 8 * eighths) and drawn.abs().max() <= 1
    assert D(drawn).shape == (images,) and D.features(drawn).shape == (images, 7)
    assert Trunk(config, channels)(drawn).shape == (images, 5 * eighths**2)


@pytest.mark.parametrize("side", [0, 4, 28, -8])
def test_other_sides_are_refused(side):
    with pytest.raises(ValueError, match=f"multiple of 8; found {side}"):
        DCGANConfig(side)


def test_sizes_that_are_none_are_refused():
    with pytest.raises(ValueError, match="widths must be four numbers"):
        DCGANConfig(widths=(1, 2, 3))
    with pytest.raises(ValueError, match="at least 1; found .* 0 and 100"):
        DCGANConfig(latent=0)


# ---- losses ----


def test_smoothed_loss_is_that_of_the_formula_and_of_the_plain_one_at_labels_of_one():
    real, fake, s = torch.randn(9), torch.randn(9), torch.rand(9)
    total = 0.0
    for r, f, label in zip(real.tolist(), fake.tolist(), s.tolist(), strict=True):
        d, g = 1 / (1 + math.exp(-r)), 1 / (1 + math.exp(-f))
        total -= label * math.log(d) + (1 - label) * math.log(1 - d) + math.log(1 - g)
    assert float(losses.discriminator_smoothed(real, fake, s)) == pytest.approx(total / 9, rel=1e-5)
    torch.testing.assert_close(
        losses.discriminator_smoothed(real, fake, torch.ones(9)), losses.discriminator_logistic(real, fake)
    )


def test_least_squares_and_wasserstein_by_hand():
    logits = torch.tensor([0.0, 1.0, 3.0])
    assert float(losses.least_squares(logits, 1.0)) == pytest.approx((1 + 0 + 4) / 3 / 2)
    assert float(losses.least_squares(logits, torch.tensor([0.0, 1.0, 3.0]))) == 0
    assert float(losses.wasserstein(logits, logits + 2)) == pytest.approx(2)


@given(st.floats(0.01, 30))
def test_two_sided_penalty_of_a_linear_critic(slope):
    w = torch.randn(5, 4, 4)
    w = w / w.norm() * slope
    images = torch.randn(6, 5, 4, 4, requires_grad=True)
    gradient = losses.input_gradient((images * w).sum(dim=(1, 2, 3)), images)
    expected = torch.tensor((slope - 1) ** 2)
    torch.testing.assert_close(losses.lipschitz_two_sided(gradient), expected, rtol=1e-3, atol=1e-5)


def test_divergence_is_that_of_torch():
    mean, log_variance = torch.randn(4, 7), torch.randn(4, 7)
    q = Independent(Normal(mean, (log_variance / 2).exp()), 1)
    p = Independent(Normal(torch.zeros(7), torch.ones(7)), 1)
    torch.testing.assert_close(losses.kl_to_normal(mean, log_variance), kl_divergence(q, p).mean())
    assert float(losses.kl_to_normal(torch.zeros(2, 3), torch.zeros(2, 3))) == 0


# ---- methods ----


@pytest.mark.parametrize("name", [*TRAINED, "dcgan-random"])
def test_an_embedding_is_a_function_of_its_own_image(name):
    method = build(name)
    if name in TRAINED:
        for k in range(3):
            step(method, k * method.batch)
    images = torch.rand(6, 3, 24, 24) * 2 - 1
    together = method.embed(images)
    assert together.shape == (6, 8) and together.dtype == torch.float32 and not together.requires_grad
    torch.testing.assert_close(together, torch.cat([method.embed(one[None]) for one in images]), rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(together, method.eval().embed(images))  # no noise, in whatever mode


@pytest.mark.parametrize("name", TRAINED)
def test_every_parameter_moves(name):
    method = build(name, **({"critic_steps": 2} if name == "wgan-gp" else {}))
    before = {key: p.detach().clone() for key, p in method.named_parameters()}
    for k in range(4):
        step(method, k * method.batch)
    still = {key for key, p in method.named_parameters() if torch.equal(p, before[key])}
    assert still == ({"discriminator.out.bias"} if name == "wgan-gp" else set())  # it cancels in a difference


@pytest.mark.parametrize("name", GANS)
def test_either_player_moves_alone(name):
    """The generator's step leaves the discriminator as its own left it, and the other way round."""
    method = build(name, learning_rate=0.01)
    real = torch.rand(8, 3, 24, 24) * 2 - 1
    generator = {key: t.clone() for key, t in method.generator.named_parameters()}
    fake = method.generator(torch.randn(8, 8))
    method.update("discriminator", sum(method.discriminator_loss(real, fake.detach()).values()))
    assert all(torch.equal(p, generator[key]) for key, p in method.generator.named_parameters())
    method.discriminator.requires_grad_(False)
    discriminator = {key: t.clone() for key, t in method.discriminator.named_parameters()}
    method.update("generator", method.generator_loss(method.discriminator(fake)))
    assert all(torch.equal(p, discriminator[key]) for key, p in method.discriminator.named_parameters())
    assert not all(torch.equal(p, generator[key]) for key, p in method.generator.named_parameters())


def test_the_critic_takes_five_steps_for_one_of_the_generator():
    method = build("wgan-gp")
    assert method.config.critic_steps == 5
    moved = []
    for k in range(10):
        before = method.generator.to_image.weight.clone()
        step(method, k * method.batch)
        moved.append(not torch.equal(before, method.generator.to_image.weight))
    assert moved == [False] * 4 + [True] + [False] * 4 + [True]


@pytest.mark.parametrize("name", TRAINED)
def test_a_drawn_image_is_a_function_of_its_own_latent_and_drawing_leaves_no_trace(name):
    method = build(name)
    step(method)
    before = {key: t.clone() for key, t in method.state_dict().items()}
    z = torch.randn(5, 8)
    images = method.sample(z)
    torch.testing.assert_close(images, torch.cat([method.sample(one[None]) for one in z]), rtol=1e-4, atol=1e-5)
    assert method.generator.training
    assert all(torch.equal(t, before[key]) for key, t in method.state_dict().items())


def test_labels_of_real_images_are_smoothed():
    labels = build("dcgan").labels(torch.empty(20_000))
    assert labels.min() >= 0.8 and labels.max() <= 1
    assert abs(labels.mean() - 0.9) < 0.002 and abs(labels.std() - 0.2 / 12**0.5) < 0.002


@pytest.mark.parametrize("name", TRAINED)
def test_the_mechanism_improves(name):
    """Ten images of bright and dark halves: the VAE draws them better, a discriminator tells them from noise."""
    method = build(name, learning_rate=2e-3)
    images = torch.full((8, 3, 24, 24), -1.0)
    images[::2, :, :, 12:], images[1::2, :, :12] = 1.0, 1.0
    first = None
    for k in range(40):
        terms = method.step(images, k * 8)
        first = first or terms
    if name == "vae":
        assert terms["drawing"] < 0.5 * first["drawing"]
    else:
        D, noise = method.discriminator.eval(), torch.rand(8, 3, 24, 24) * 2 - 1
        assert D(images).mean() > D(noise).mean()


# ---- in the training loop ----


@pytest.fixture
def store(make_screen, tmp_path, monkeypatch):
    monkeypatch.setattr(train, "probe", lambda *args, **kwargs: {})
    return shards.Shards(shards.write(make_screen(size=(24, 24)), tmp_path / "screen.zarr"))


def run(name, store, folder, images=32):
    config = train.TrainConfig(images=images, ticks=2, accelerator="cpu")
    return train.train(name, store, folder, preset="tiny", config=config)


@pytest.mark.parametrize("name", TRAINED)
def test_a_killed_run_ends_in_the_same_bits(name, store, tmp_path, monkeypatch):
    whole = run(name, store, tmp_path / "whole")
    cls = METHODS[name]
    honest, calls = cls.step, []

    def dies(self, images, n_seen):
        calls.append(n_seen)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return honest(self, images, n_seen)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(cls, "step", dies)
        run(name, store, tmp_path / "torn")
    torn = run(name, store, tmp_path / "torn")
    a, b = checkpoints.read(whole)[0], checkpoints.read(torn)[0]
    assert a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)
    assert (tmp_path / "torn" / "samples" / "000000032.png").exists()

    method, header = open_method(str(tmp_path / "whole"), store.channels)
    assert header["method"] == name and method.config == METHODS[name].presets["tiny"]
    images = torch.rand(2, 5, 24, 24)
    assert method.embed(images).shape == (2, 8)
