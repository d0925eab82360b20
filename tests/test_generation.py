"""Distances between sets of images: closed forms, independent code, and what real and untrained must give."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from gandl_book import generate, generation
from torchmetrics.image.fid import FrechetInceptionDistance
from torchmetrics.image.kid import poly_mmd

from gandl_lib import shards, train
from gandl_lib.embed import open_method


@pytest.fixture
def clouds() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    mix = rng.standard_normal((6, 6))
    return rng.standard_normal((400, 6)) @ mix, rng.standard_normal((300, 6)) @ mix * 1.3 + 0.5


def test_fid_of_gaussians_apart_by_a_shift_is_its_square():
    x = np.random.default_rng(0).standard_normal((500, 4))
    assert generation.fid(x, x + [3, 0, 0, 4]) == pytest.approx(25)
    assert generation.fid(x, 2 * x - x.mean(0)) == pytest.approx(np.trace(np.cov(x, rowvar=False)))


def test_fid_is_that_of_torchmetrics(clouds):
    class Features(torch.nn.Module):
        num_features = 6

        def forward(self, images):
            return images[:, :, 0, 0]

    theirs = FrechetInceptionDistance(Features(), normalize=True, input_img_size=(6, 1, 1))
    for x, real in zip(clouds, (True, False), strict=True):
        theirs.update(torch.from_numpy(x)[:, :, None, None], real=real)
    assert generation.fid(*clouds) == pytest.approx(float(theirs.compute()), rel=1e-3)


def test_kid_is_that_of_torchmetrics(clouds):
    x, y = (torch.from_numpy(c[:300]) for c in clouds)
    assert generation.kid(x.numpy(), y.numpy()) == pytest.approx(float(poly_mmd(x, y)), rel=1e-6)


def test_kid_of_one_source_is_zero_on_average(clouds):
    x = np.random.default_rng(1).standard_normal((2000, 5))
    kids = generation.kid_of_subsets(x[:1000], x[1000:], np.random.default_rng(0))
    assert abs(kids.mean()) < 3 * kids.std()


def test_within_is_its_slow_twin(clouds):
    points, cloud = clouds[0][:60], clouds[1][:50]
    far = np.linalg.norm(points[:, None] - cloud, axis=2)
    radii = np.sort(np.linalg.norm(cloud[:, None] - cloud, axis=2), axis=1)[:, 3]
    assert generation.within(points, cloud) == np.mean([(row <= radii).any() for row in far])


def test_a_generator_stuck_on_one_image_is_precise_and_recalls_nothing(clouds):
    real, _ = clouds
    rng = np.random.default_rng(0)
    found = generation.quality(real, real[0] + 1e-3 * rng.standard_normal(real.shape))
    assert found["precision"] == 1 and found["recall"] < 0.02 and found["fid"] > 1


def test_too_few_images_are_refused():
    with pytest.raises(ValueError, match="real: 6 features need more images than that.*found 5"):
        generation.quality(np.zeros((5, 6)), np.zeros((9, 6)))


def test_generators_are_compared_between_perfect_and_untrained(make_screen, tmp_path, monkeypatch):
    monkeypatch.setattr(train, "probe", lambda *args, **kwargs: {})
    store = shards.Shards(shards.write(make_screen(size=(40, 40)), tmp_path / "screen.zarr"))
    config = train.TrainConfig(images=16, ticks=1, accelerator="cpu")
    weights = train.train("gandl", store, tmp_path / "run", preset="tiny", config=config)
    table = generate.compare([tmp_path / "run"], store, n=150)
    assert tuple(table.columns) == generate.HEADER and (table["images"] == 150).all()
    assert list(table["what"]) == ["other real crops", "gandl after 16 images", "untrained generator"]
    assert table["fid"].idxmin() == 0 and table["kid"].idxmin() == 0

    method, _ = open_method(str(weights), store.channels)
    line = generate.between(method, pairs=2, steps=3)
    assert line.shape == (2, 3, 5, 32, 32)
    step, whole = (line[:, 1:] - line[:, :-1]).norm(), (line[:, 2] - line[:, 0]).norm()
    assert 0 < step < 2 * whole, "each step is shorter than the way"
    torch.testing.assert_close(line, generate.between(method, 2, 3))
