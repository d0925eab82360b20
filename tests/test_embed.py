"""Profiles of a site are those of its crops, whatever else is embedded at the same time."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from gandl_lib import checkpoints, cli, shards
from gandl_lib import profiles as stored
from gandl_lib.embed import MANY, crop_plan, crops_per_side, embed, embed_taps, open_method, resample
from gandl_lib.methods import gandl
from gandl_lib.methods.intensity import QUANTILES, Intensity, IntensityConfig
from gandl_lib.views import crop_grid, lay, scale

SMALL = gandl.GANDLConfig(network=gandl.StyleGAN2Config(resolution=8, width_base=64, width_max=8, latent=8), batch=2)


@pytest.fixture
def store(make_screen, tmp_path):
    return shards.Shards(shards.write(make_screen(size=(16, 16)), tmp_path / "screen.zarr"))


def profiles(method, store, **options):
    return embed(method, store, provenance={"method": "m"}, progress=False, **options)


@pytest.mark.parametrize("ways", [1, 2, 8])
def test_a_site_is_the_mean_of_its_crops_in_any_batch(store, ways):
    method = gandl.GANDL(SMALL, 5).eval()
    found = profiles(method, store, batch=64, ways=ways)
    np.testing.assert_allclose(found.X, profiles(method, store, batch=5, ways=ways).X, rtol=1e-4, atol=1e-5)
    for i in (0, 7):
        crops = lay(crop_grid(scale(store.read(i)[None], store.limits), 8, 3), 3, ways)
        twin = torch.stack([method.embed(crop[None])[0] for crop in crops]).mean(dim=0)
        np.testing.assert_allclose(found.X[i], twin, rtol=1e-4, atol=1e-5)
    assert found.obs["site_id"].tolist() == store.wells["site_id"].tolist()


def test_some_sites_are_those_rows_of_all_sites(store):
    method = gandl.GANDL(SMALL, 5).eval()
    chosen = store.wells["role"].eq("C+").to_numpy()
    some, every = profiles(method, store, sites=chosen), profiles(method, store)
    np.testing.assert_allclose(some.X, every.X[chosen], rtol=1e-4, atol=1e-5)
    assert some.obs["site_id"].tolist() == store.wells.loc[chosen, "site_id"].tolist()


def test_tiles_are_the_sites_parts_in_order(store):
    method = gandl.GANDL(SMALL, 5).eval()
    found = profiles(method, store, tiles=2)
    assert found.n_obs == 4 * len(store)
    assert found.obs["site_id"].iloc[:4].nunique() == 1
    site = scale(store.read(1)[None], store.limits)
    for k, (y, x) in enumerate([(0, 0), (0, 8), (8, 0), (8, 8)]):
        twin = method.embed(site[:, :, y : y + 8, x : x + 8])[0]
        np.testing.assert_allclose(found.X[4 + k], twin, rtol=1e-4, atol=1e-5)


def test_provenance_says_what_made_it(store):
    method, header = open_method("intensity", store.channels)
    made = json.loads(embed(method, store, provenance=header, progress=False).uns["provenance"])
    assert made["method"] == "intensity" and made["simulated"] is False and "torch" in made["versions"]


def test_random_weights_are_a_function_of_the_seed(monkeypatch):
    monkeypatch.setitem(gandl.PRESETS, "small", SMALL)
    images = torch.rand(2, 5, 8, 8)
    embedded = [open_method("gandl-random", "abcde", "small", seed)[0].embed(images) for seed in (0, 0, 1)]
    assert torch.equal(embedded[0], embedded[1]) and not torch.equal(embedded[0], embedded[2])


def test_images_of_finer_pixels_are_brought_to_the_trained_size(store):
    """A blob of 8 um stays a blob of 8 um: what was 16 pixels of 0.5 um becomes 8 pixels of 1 um."""
    fine = torch.zeros(1, 1, 32, 32)
    fine[:, :, 8:24, 8:24] = 1
    coarse = resample(fine, pixel_um=0.5, wanted_um=1.0)
    assert coarse.shape == (1, 1, 16, 16)
    assert coarse.sum() == pytest.approx(64, rel=0.02)
    assert resample(fine, 0.65, 0.66) is fine and resample(fine, 0.65, None) is fine
    method = gandl.GANDL(SMALL, 5).eval()
    halved = embed(method, store, provenance={"method": "m", "pixel_um": 2 * store.pixel_um}, progress=False)
    twin = [method.embed(resample(scale(store.read(i)[None], store.limits), 1.0, 2.0))[0] for i in range(len(store))]
    np.testing.assert_allclose(halved.X, torch.stack(twin), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("image", "crop", "expected"), [(128, 64, 3), (64, 64, 1), (512, 64, 15), (100, 64, 3)])
def test_crops_overlap_by_about_half(image, crop, expected):
    assert crops_per_side(image, crop) == expected


def test_on_large_sites_crops_lie_side_by_side_in_half_the_ways():
    assert crop_plan(32 * MANY - 1, 32, 2) == (2 * MANY - 1, 2)
    assert crop_plan(32 * MANY, 32, 2) == (MANY, 1)
    assert crop_plan(1024, 32, 8) == (32, 4) and crop_plan(1024, 32, 1) == (32, 1)
    assert crop_plan(1024, 32, 2, exact=True) == (63, 2) and crop_plan(1030, 32, 2) == (33, 1)
    assert crop_plan(1024, None, 2) == (1, 1)


@pytest.mark.parametrize("ways", [1, 2, 8])
def test_a_large_site_is_the_mean_of_these_crops_or_of_the_overlapping_ones(make_screen, tmp_path, ways):
    store = shards.Shards(shards.write(make_screen(size=(160, 165), plates=1, wells=1), tmp_path / "s.zarr"))
    method = gandl.GANDL(SMALL, 5).eval()
    found, exact = (profiles(method, store, ways=ways, exact=e) for e in (False, True))
    for result, side, laid in ((found, 20, max(1, ways // 2)), (exact, 39, ways)):
        made = json.loads(result.uns["provenance"])
        assert (made["crops"], made["ways"]) == (side**2, laid)
        crops = lay(crop_grid(scale(store.read(1)[None], store.limits), 8, side), side, ways).unflatten(0, (-1, ways))
        twin = method.embed(crops[:, :: ways // laid].flatten(0, 1)).mean(dim=0)
        np.testing.assert_allclose(result.X[1], twin, rtol=1e-4, atol=1e-5)
    assert not np.allclose(found.X, exact.X, rtol=1e-4, atol=1e-5)


def test_the_more_crops_the_less_it_matters_that_they_overlap(make_screen, tmp_path):
    """Of sites that differ, as wells do; benchmarks/embedding.py measures it on cells."""
    root = make_screen(size=(160, 160), plates=1, wells=4, sites=2)
    for k, path in enumerate(sorted(root.glob("images/*/*/*.png"))):
        pixels = np.random.default_rng(k).gamma(1 + k % 7, 10, (20, 20)).repeat(8, 0).repeat(8, 1)
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(path)
    store = shards.Shards(shards.write(root, tmp_path / "s.zarr"))
    method = gandl.GANDL(SMALL, 5).eval()
    found, exact = (profiles(method, store, ways=2, exact=e).X for e in (False, True))
    centred = [x - x.mean(axis=0) for x in (found, exact)]
    correlation = (
        (centred[0] * centred[1]).sum(0) / np.linalg.norm(centred[0], axis=0) / np.linalg.norm(centred[1], axis=0)
    )
    assert np.median(correlation) > 0.99


def test_several_taps_in_one_pass_are_those_of_a_pass_each(store, tmp_path, monkeypatch):
    monkeypatch.setitem(gandl.PRESETS, "small", SMALL)
    weights = tmp_path / "weights.safetensors"
    method = gandl.GANDL(SMALL, 5)
    header = {"method": "gandl", "config": checkpoints.config_to_json(SMALL), "channels": list(store.channels)}
    checkpoints.save(weights, checkpoints.weights(method), header)
    passes, maps = [], gandl.Discriminator.maps
    monkeypatch.setattr(gandl.Discriminator, "maps", lambda D, x: passes.append(len(x)) or maps(D, x))
    for tap in ("penultimate", "blocks"):
        cli.embed(str(weights), str(store.path), tmp_path / f"{tap}.h5ad", ways=2, tap=(tap,), name="G")
    apart = sum(passes)
    cli.embed(str(weights), str(store.path), tmp_path / "both.h5ad", ways=2, tap=("penultimate", "blocks"), name="G")
    assert sum(passes) - apart == apart // 2
    for tap, file, name in (("penultimate", "both", "G"), ("blocks", "both-blocks", "G-blocks")):
        one, both = stored.read(tmp_path / f"{tap}.h5ad"), stored.read(tmp_path / f"{file}.h5ad")
        np.testing.assert_array_equal(one.X, both.X)
        made = [json.loads(p.uns["provenance"]) for p in (one, both)]
        assert made[1]["method"] == name and made[1] == made[0] | {"method": name}
        assert made[1]["config"]["tap"] == tap


def test_taps_that_cannot_be_read_are_refused(store):
    method = gandl.GANDL(SMALL, 5)
    for taps, message in ((("blocks", "blocks"), "each once; found blocks, blocks"), ((), "each once; found none")):
        with pytest.raises(ValueError, match=message):
            embed_taps(method, store, taps, provenance={"method": "m"})
    with pytest.raises(ValueError, match="penultimate, blocks; found 'logit'"):
        embed_taps(method, store, ("logit",), provenance={"method": "m"}, progress=False)
    with pytest.raises(ValueError, match="intensity has no tap to choose; leave 'blocks' out"):
        embed_taps(Intensity(IntensityConfig(), 5), store, ("blocks",), provenance={"method": "intensity"})


def test_sources_that_cannot_be_had_are_explained(tmp_path):
    with pytest.raises(ValueError, match="has to be trained first"):
        open_method("gandl", "abcde")
    (tmp_path / "run").mkdir()
    with pytest.raises(ValueError, match="training has not finished"):
        open_method(str(tmp_path / "run"), "abcde")
    with pytest.raises(ValueError, match="unknown method 'nothing'"):
        open_method("nothing", "abcde")
    with pytest.raises(ValueError, match="intensity has no tap"):
        open_method("intensity", "abcde", tap="blocks")
    with pytest.raises(ValueError, match="penultimate, blocks; found 'logit'"):
        open_method("gandl-random", "abcde", "tiny", tap="logit")


def test_a_tap_is_read_where_asked_and_recorded():
    method, header = open_method("gandl-random", "abcde", "tiny", tap="blocks")
    assert header["config"]["tap"] == "blocks"
    assert method.embed(torch.zeros(1, 5, 32, 32)).shape[1] != 512


def test_intensity_statistics_are_numpys_and_blind_to_position():
    images = torch.rand(2, 3, 9, 11)
    found = Intensity(IntensityConfig(), 3).embed(images).reshape(2, 3, -1).numpy()
    x = images.flatten(2).numpy()
    np.testing.assert_allclose(found[..., 0], x.mean(2), rtol=1e-5)
    np.testing.assert_allclose(found[..., 1], x.std(2, ddof=1), rtol=1e-5)
    np.testing.assert_allclose(found[..., 4:], np.moveaxis(np.quantile(x, QUANTILES, axis=2, method="nearest"), 0, 2))
    shuffled = images.flatten(2)[:, :, torch.randperm(99)].reshape(images.shape)
    torch.testing.assert_close(Intensity(IntensityConfig(), 3).embed(shuffled).reshape(2, 3, -1).numpy(), found)


def test_the_bar_counts_sites_and_not_their_crops(store, capsys):
    embed(gandl.GANDL(SMALL, 5).eval(), store, provenance={"method": "m"})
    assert f"{len(store)}/{len(store)}" in capsys.readouterr().err
