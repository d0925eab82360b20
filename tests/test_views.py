"""Views: grey values to [-1, 1], the symmetries of a square, and a stream of crops decided by its seed alone."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gandl_lib.shards import Shards, write
from gandl_lib.views import TrainingCrops, crop_grid, lay, lift, scale, turn, unlift

LIMITS = np.array([[10, 200], [0, 255], [3, 4]], np.float32)


# ---- grey values ----


@pytest.mark.parametrize("dtype", [torch.uint8, torch.uint16, torch.int32, torch.float32])
def test_scale_is_the_formula(dtype):
    images = torch.randint(0, 256, (2, 3, 4, 5)).to(dtype)
    scaled = scale(images, LIMITS)
    assert scaled.dtype == torch.float32 and scaled.shape == images.shape
    for n, c, y, x in np.ndindex(*images.shape):
        low, high = LIMITS[c]
        expected = 2 * min(max((int(images[n, c, y, x]) - low) / (high - low), 0), 1) - 1
        assert float(scaled[n, c, y, x]) == pytest.approx(expected, abs=1e-6)


def test_scale_takes_arrays_and_leaves_its_argument_alone(rng):
    image = rng.integers(0, 256, (3, 4, 5), dtype=np.uint8)
    float_image = torch.tensor(image, dtype=torch.float32)
    before = float_image.clone()
    assert torch.equal(scale(image, LIMITS), scale(float_image, torch.tensor(LIMITS)))
    assert torch.equal(float_image, before)


def test_limits_of_other_channels_are_refused():
    with pytest.raises(ValueError, match=r"limits must be \(C, 2\), here \(5, 2\); got \(3, 2\)"):
        scale(torch.zeros(5, 4, 4), LIMITS)


# ---- crops and symmetries ----


@given(st.integers(1, 12), st.integers(1, 12), st.integers(1, 12), st.integers(1, 5))
def test_crop_grid_lies_evenly_and_covers_the_image(height, width, size, per_side):
    size = min(size, height, width)
    images = torch.arange(2 * height * width).reshape(2, 1, height, width)
    crops = crop_grid(images, size, per_side)
    assert crops.shape == (2 * per_side**2, 1, size, size)
    first = crops[: per_side**2, 0].reshape(per_side, per_side, size, size)
    assert first.max() < height * width  # the first image's crops come first
    assert torch.equal(crops[per_side**2 :], crops[: per_side**2] + height * width)
    for y, x in np.ndindex(per_side, per_side):  # each is a window of the image
        top, left = divmod(int(first[y, x, 0, 0]), width)
        assert torch.equal(first[y, x], images[0, 0, top : top + size, left : left + size])
    if per_side > 1:
        assert first[0, 0, 0, 0] == 0 and first[-1, -1, -1, -1] == height * width - 1
        if per_side * size >= max(height, width):
            assert len(first.unique()) == height * width
    else:
        assert first[0, 0, 0, 0] == (height - size) // 2 * width + (width - size) // 2


def test_a_crop_larger_than_the_image():
    with pytest.raises(ValueError, match="crops of 9 pixels do not fit in images of 8x10"):
        crop_grid(torch.zeros(1, 1, 8, 10), 9, 2)
    with pytest.raises(ValueError, match="per_side must be at least 1; got 0"):
        crop_grid(torch.zeros(1, 1, 8, 10), 4, 0)


def test_the_eight_ways_are_a_group_of_eight():
    square = torch.arange(9).reshape(3, 3)
    ways = [turn(square, element) for element in range(8)]
    key = {tuple(way.ravel().tolist()): element for element, way in enumerate(ways)}
    assert len(key) == 8 and torch.equal(ways[0], square)
    table = [[key[tuple(turn(turn(square, a), b).ravel().tolist())] for b in range(8)] for a in range(8)]
    assert all(sorted(row) == list(range(8)) for row in table)
    assert all(sorted(column) == list(range(8)) for column in zip(*table, strict=True))
    assert table != [list(row) for row in zip(*table, strict=True)]  # turns and flips do not commute


@pytest.mark.parametrize(("per_side", "ways"), [(1, 8), (3, 2), (7, 1), (7, 2), (8, 4), (2, 8)])
def test_crops_are_laid_in_that_many_ways_and_neighbours_in_others(per_side, ways):
    crops = torch.rand(2 * per_side**2, 3, 4, 4)
    found = lay(crops, per_side, ways).unflatten(0, (-1, ways))
    eight = torch.stack([turn(crops, element) for element in range(8)], dim=1)  # [N8CSS]
    laid = (found[:, :, None] == eight[:, None]).flatten(3).all(dim=3)  # [crop, copy, which of the eight]
    assert laid.sum(dim=2).eq(1).all() and laid.sum(dim=1).le(1).all()  # no way twice
    seen = laid.any(dim=1).unflatten(0, (2, per_side, per_side))
    assert torch.equal(seen[0], seen[1])  # of its place alone, not of the image or the batch
    if ways == 1:
        assert torch.equal(found[:, 0], crops)
    elif per_side > 1 and ways < 8:
        assert not (seen[:, 1:] & seen[:, :-1]).any() and not (seen[:, :, 1:] & seen[:, :, :-1]).any()
    if per_side >= 7 and ways > 1:
        often = seen.sum(dim=(0, 1, 2))
        assert often.min() >= 0.8 * often.max()  # all eight, about equally often


def test_no_other_number_of_ways():
    with pytest.raises(ValueError, match="ways must be 1, 2, 4 or 8; found 3"):
        lay(torch.rand(1, 1, 4, 4), 1, 3)


# ---- the stream of training crops ----


@pytest.fixture
def shards(make_screen, tmp_path):
    return Shards(write(make_screen(dtype="uint16"), tmp_path / "s.zarr", sites_per_shard=8))


def test_a_crop_is_a_scaled_window_of_its_site_laid_in_one_of_eight_ways(shards):
    crops = TrainingCrops(shards, 16, seed=3)
    found = set()
    for k in range(60):
        site = scale(shards.read(crops.site(k)), shards.limits)
        image = crops.image(k)
        assert image.shape == (5, 16, 16) and image.dtype == torch.float32
        matches = [
            (y, x, element)
            for y, x, element in np.ndindex(24 - 16 + 1, 20 - 16 + 1, 8)
            if torch.equal(turn(site[:, y : y + 16, x : x + 16], element), image)
        ]
        assert len(matches) == 1
        found.update(zip("yxe", matches[0], strict=True))
    assert found == {("y", y) for y in range(9)} | {("x", x) for x in range(5)} | {("e", e) for e in range(8)}


def test_without_rotation_the_windows_are_the_same_and_upright(shards):
    turned, upright = TrainingCrops(shards, 16, seed=3), TrainingCrops(shards, 16, seed=3, rotate=False)
    for k in range(8):
        assert any(torch.equal(turn(upright.image(k), e), turned.image(k)) for e in range(8))
    site = scale(shards.read(upright.site(0)), shards.limits)
    assert any(
        torch.equal(site[:, y : y + 16, x : x + 16], upright.image(0)) for y, x in np.ndindex(24 - 16 + 1, 20 - 16 + 1)
    )


def test_every_epoch_shows_every_site_once_in_another_order(shards):
    crops = TrainingCrops(shards, 8, seed=0)
    epochs = [[crops.site(k) for k in range(e * 20, e * 20 + 20)] for e in range(6)]  # more than are remembered
    assert len(crops) == 20 and all(sorted(epoch) == list(range(20)) for epoch in epochs)
    assert len(set(map(tuple, epochs))) == 6
    assert [crops.site(k) for k in range(20)] == epochs[0]


def test_only_the_chosen_sites_are_shown(shards):
    chosen = shards.wells["role"].ne("blank").to_numpy()
    crops = TrainingCrops(shards, 8, seed=0, sites=chosen)
    shown = [crops.site(k) for k in range(len(crops))]
    assert sorted(shown) == np.flatnonzero(chosen).tolist()


def test_image_k_depends_on_seed_and_k_alone(shards):
    one, other = TrainingCrops(shards, 8, seed=5), TrainingCrops(Shards(shards.path), 8, seed=5)
    backwards = [other.image(k) for k in reversed(range(45))][::-1]
    assert all(torch.equal(one.image(k), image) for k, image in enumerate(backwards))
    changed = TrainingCrops(shards, 8, seed=6)
    assert not any(torch.equal(one.image(k), changed.image(k)) for k in range(10))


@pytest.mark.parametrize("rotate", [True, False])
def test_the_stream_is_that_of_cutting_whole_sites(make_screen, tmp_path, rotate):
    """The slow twin, as it was before there were chunks: its draws, in its order."""
    shards = Shards(write(make_screen(size=(140, 300), plates=1, wells=2), tmp_path / "s.zarr"))
    crops = TrainingCrops(shards, 32, seed=4, rotate=rotate)
    for k in range(20):
        random = np.random.default_rng((4, 1, k))
        y, x, element = random.integers(140 - 32 + 1), random.integers(300 - 32 + 1), int(random.integers(8))
        image = scale(shards.read(crops.site(k)), shards.limits)[:, y : y + 32, x : x + 32]
        assert torch.equal(crops.image(k), turn(image, element) if rotate else image)


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_batches_are_the_stream_whatever_the_workers_and_wherever_one_resumes(shards, workers):
    crops = TrainingCrops(shards, 8, seed=1)
    expected = torch.stack([crops.image(k) for k in range(42)])
    for n_seen, size in ((0, 6), (0, 7), (14, 7), (18, 24)):
        batches = crops.batches(n_seen, size, workers)
        got = torch.cat([next(batches) for _ in range((42 - n_seen) // size)])
        batches.close()
        assert torch.equal(got, expected[n_seen:])
    assert torch.equal(crops.batch(5, 9), expected[5:14])


def test_an_error_while_reading_reaches_the_caller(shards, monkeypatch):
    def read_crop(i, y, x, size):
        raise OSError("gone")

    monkeypatch.setattr(shards, "read_crop", read_crop)
    with pytest.raises(OSError, match="gone"):
        next(TrainingCrops(shards, 8, seed=0).batches(0, 2, workers=2))


def test_bad_arguments(shards):
    with pytest.raises(ValueError, match="crops of 21 pixels do not fit in images of 24x20"):
        TrainingCrops(shards, 21, seed=0)
    with pytest.raises(ValueError, match="sites leaves no site to train on"):
        TrainingCrops(shards, 8, seed=0, sites=np.zeros(20, bool))
    with pytest.raises(ValueError, match=r"sites must be 20 booleans; got int64 of shape \(3,\)"):
        TrainingCrops(shards, 8, seed=0, sites=np.array([1, 2, 3]))


@given(st.floats(0.1, 100), st.lists(st.floats(-1, 1, width=32), min_size=1, max_size=20))
def test_lifting_keeps_both_ends_and_the_order_and_can_be_taken_back(strength, values):
    images = torch.tensor([-1.0, *sorted(values), 1.0])
    lifted = lift(images, strength)
    torch.testing.assert_close(lifted[[0, -1]], images[[0, -1]])
    assert (lifted.diff() >= -1e-6).all() and (lifted >= images - 1e-5).all()
    torch.testing.assert_close(unlift(lifted, strength), images, rtol=0, atol=1e-4)
