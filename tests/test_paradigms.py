"""Sixteen setups of one encoder: published sizes, laws that each must keep, and what its flaws do."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from gandl_lib import shards, train
from gandl_lib.embed import open_method
from gandl_lib.methods import METHODS, lookup, paradigms
from gandl_lib.nn.paradigms import Decoder, Encoder
from gandl_lib.views import random_blur, random_flips, resized_crops

TRAINED = ("weak", "autoencoder", "regularised", "byol")
TINY = paradigms.PRESETS["tiny-augment-crops"]


def build(name, **change):
    torch.manual_seed(0)
    labels = [["C-", "treated"]] if METHODS[name].label else []
    return METHODS[name](replace(TINY, **change), 3, *labels)


def step(method, n_seen=0, seed=0):
    torch.manual_seed(seed)
    images = F.interpolate(torch.rand(method.batch, 3, 2, 2) * 2 - 1, size=16, mode="bilinear")
    labels = [torch.arange(method.batch) % 2] if method.label else []
    return method.step(images, n_seen, *labels)


# ---- networks ----


def test_the_encoder_has_the_published_size():
    encoder = Encoder(5, paradigms.PAPER.widths, 64)
    convolutions = [(5, 64), (64, 32), (32, 16), (16, 8)]
    assert sum(p.numel() for p in encoder.parameters()) == sum(9 * i * o + o for i, o in convolutions)
    features = encoder(torch.zeros(2, 5, 64, 64))
    assert features.shape == (2, 2048) == (2, encoder.width)
    assert Decoder(5, paradigms.PAPER.widths, 64)(features).shape == (2, 5, 64, 64)
    with pytest.raises(ValueError, match="66 pixels are not a multiple of 4"):
        Encoder(5, paradigms.PAPER.widths, 66)


def test_there_are_sixteen_setups_at_every_size():
    for name in TRAINED:
        for size in paradigms.SIZES:
            setups = {(c.augment, c.crops) for key, c in METHODS[name].presets.items() if key.startswith(size)}
            assert len(setups) == 4
        assert lookup(name, "paper-plain")[1].batch == 256 and lookup(name, "paper-crops")[1].learning_rate == 1e-4


# ---- views ----


@settings(max_examples=20)
@given(st.integers(1, 4), st.integers(1, 3), st.sampled_from([8, 13, 16]), st.integers(0, 99))
def test_augmentations_keep_shape_and_range(b, c, size, seed):
    torch.manual_seed(seed)
    images = torch.rand(b, c, size, size) * 2 - 1
    for seen in (resized_crops(images, (0.3, 1.0)), random_flips(images), random_blur(images)):
        assert seen.shape == images.shape
        assert seen.min() >= images.min() - 1e-5 and seen.max() <= images.max() + 1e-5


def test_a_whole_window_no_chance_to_flip_and_none_to_blur_change_nothing():
    images = torch.rand(3, 2, 16, 16)
    torch.testing.assert_close(resized_crops(images, (1, 1)), images)
    torch.testing.assert_close(random_flips(images, 0), images)
    torch.testing.assert_close(random_flips(images, 1), images.flip(-1))
    torch.testing.assert_close(random_blur(images, chance=0), images)


def test_a_window_is_a_part_of_the_image_enlarged():
    """On a ramp in x and y every window is a ramp, of slope side / S, that lies inside."""
    x = torch.linspace(-1, 1, 33).expand(33, 33)
    images = torch.stack([x, x.T])[None].repeat(50, 1, 1, 1)
    seen = resized_crops(images, (0.25, 0.25))
    inner = seen[:, 0, 0, 1:-1]
    slopes = inner.diff(dim=1)
    torch.testing.assert_close(slopes, torch.full_like(slopes, 0.25 * 2 / 32), atol=1e-3, rtol=0.05)
    centres = seen[:, :, 16, 16]
    assert centres.abs().max() <= 0.78 and centres.std(dim=0).min() > 0.2, "windows lie all over the image"


def test_blur_is_a_gaussian():
    """A point becomes a bump whose variance is sigma^2 along either side, and nothing is lost."""
    images = torch.zeros(1, 1, 33, 33)
    images[0, 0, 16, 16] = 1
    seen = random_blur(images, (1.2, 1.2), chance=1)[0, 0]
    x = torch.arange(33.0) - 16
    torch.testing.assert_close(seen.sum(), torch.tensor(1.0))
    for profile in (seen.sum(0), seen.sum(1)):
        torch.testing.assert_close((profile * x**2).sum(), torch.tensor(1.44), rtol=0.03, atol=0)


def test_multi_crop_adds_two_halves_and_two_quarters_after_the_images():
    images = torch.rand(4, 3, 16, 16)
    assert build("weak", augment=False, crops=False).views(images).shape == (4, 3, 16, 16)
    views = build("weak", augment=False).views(images)
    assert views.shape == (20, 3, 16, 16)
    torch.testing.assert_close(views[:4], images, msg="the first are the images themselves")
    assert sorted(paradigms.WINDOWS) == [0.25, 0.25, 0.5, 0.5]


# ---- laws of every setup ----


@pytest.mark.parametrize("name", TRAINED)
@pytest.mark.parametrize("setup", ["plain", "augment-crops"])
def test_every_parameter_moves_and_an_embedding_ignores_its_batch_mates(name, setup):
    config = paradigms.PRESETS[f"tiny-{setup}"]
    method = build(name, augment=config.augment, crops=config.crops)
    before = {key: p.detach().clone() for key, p in method.named_parameters()}
    for k in range(4):
        assert all(torch.isfinite(v) for v in step(method, k * method.batch, seed=k).values())
    still = [key for key, p in method.named_parameters() if torch.equal(before[key], p)]
    assert not [key for key in still if not key.endswith("bias")], still  # batch norm takes some biases away
    images = torch.rand(4, 3, 16, 16) * 2 - 1
    together, alone = method.eval().embed(images), torch.cat([method.embed(i[None]) for i in images])
    assert together.shape == (4, 32) and together.dtype == torch.float32
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", TRAINED)
def test_what_is_learnt_is_learnt(name):
    """The loss of one batch, seen again and again, falls."""
    method = build(name, augment=False, crops=False, learning_rate=1e-2)
    first = step(method)
    for k in range(1, 41):
        last = step(method, 2 * k * method.batch)  # even steps: regularised draws
    (key,) = first
    assert last[key] < 0.97 * first[key]


def test_regularised_takes_turns():
    method = build("regularised")
    assert [set(step(method, k * method.batch)) for k in range(4)] == [{"drawing"}, {"naming"}] * 2


def test_the_slow_copy_follows_by_a_fifth():
    method = build("byol")
    before = [p.clone() for p in method.target.parameters()]
    step(method)
    quick = [*method.encoder.parameters(), *method.projector.parameters()]
    for old, new, now in zip(before, method.target.parameters(), quick, strict=True):
        torch.testing.assert_close(new, 0.8 * old + 0.2 * now)


def test_prediction_loss_lies_between_0_and_4_and_is_0_for_a_perfect_guess():
    method = build("byol")
    images = torch.rand(8, 3, 16, 16)
    assert 0 <= method.prediction_loss(images, images) <= 4
    method.predictor = torch.nn.Identity()
    torch.testing.assert_close(method.prediction_loss(images, images), torch.tensor(0.0), atol=1e-5, rtol=0)


# ---- flaws ----


def test_softmax_before_cross_entropy_cannot_go_below_its_floor():
    """Two probabilities as logits: at best softmax(1, 0), a loss of log(1 + 1/e) = 0.313 for a perfect answer."""
    method = build("weak", published=True, augment=False, crops=False)
    method.classifier[-1].weight.data.zero_()
    method.classifier[-1].bias.data = torch.tensor([50.0, -50.0])
    images, labels = torch.rand(8, 3, 16, 16), torch.zeros(8, dtype=torch.int64)
    floor = F.cross_entropy(torch.tensor([[1.0, 0.0]]), torch.tensor([0]))
    torch.testing.assert_close(method.naming_loss(images, labels, softmax=True), floor)
    assert method.naming_loss(images, labels) < 1e-6


def test_a_detached_regulariser_is_an_autoencoder():
    published, plain = build("regularised", published=True), build("autoencoder")
    plain.load_state_dict(published.state_dict(), strict=False)
    classifier = [p.clone() for p in published.classifier.parameters()]
    for k in range(3):
        step(published, k * 8, seed=k), step(plain, k * 8, seed=k)
    for a, b in zip(published.encoder.parameters(), plain.encoder.parameters(), strict=True):
        torch.testing.assert_close(a, b)
    assert all(torch.equal(a, b) for a, b in zip(classifier, published.classifier.parameters(), strict=True))


# ---- behind the seam ----


@pytest.fixture
def store(make_screen, tmp_path):
    return shards.Shards(shards.write(make_screen(wells=30, sites=1, size=(24, 24)), tmp_path / "s.zarr"))


@pytest.mark.parametrize("name", ["regularised", "byol"])
def test_two_and_two_steps_are_four(store, tmp_path, name):
    def run(folder, images, ticks):
        config = train.TrainConfig(images=images, ticks=ticks, accelerator="cpu", workers=0, rotate=False)
        return train.train(name, store, tmp_path / folder, preset="tiny-augment-crops", config=config)

    run("halves", 16, 1)
    weights = run("halves", 32, 2).parent
    a, _ = open_method(str(weights), store.channels)
    b, header = open_method(str(run("whole", 32, 2).parent), store.channels)
    for key, value in a.encoder.state_dict().items():
        assert torch.equal(value, b.encoder.state_dict()[key]), key
    assert header["minutes"] > 0 and header["peak_memory_MB"] > 0
    assert name != "regularised" or header["classes"] == ["C-", "treated"]


def test_untrained_weights_need_no_run(store):
    method, header = open_method("paradigm-random", store.channels, "tiny-plain")
    assert method.embed(torch.zeros(1, 5, 16, 16)).shape == (1, 32) and header["n_seen"] == 0
