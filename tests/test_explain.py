"""What the axis looks like: directions against their laws, measurements against drawn discs, refusals before work."""

import os
from functools import partial

import anndata
import numpy as np
import pandas as pd
import plates
import pytest
import torch
from gandl_book import figures, narrate

from gandl_lib import checkpoints, cli, explain, shards
from gandl_lib.methods import gandl
from gandl_lib.nn import stylegan2
from gandl_lib.plots import strips

TINY = gandl.GANDLConfig(network=gandl.StyleGAN2Config(resolution=32, width_base=64, width_max=8, latent=8), batch=2)


@pytest.fixture(scope="module")
def method():
    torch.manual_seed(0)
    return gandl.GANDL(TINY, 2).eval()


def profiles(shift, wells=8, seed=0):
    """Sites of two plates with an offset of their own; C+ differ from C- in the first feature by `shift`."""
    rng = np.random.default_rng(seed)
    role = np.repeat(["C-", "C+"], wells)
    obs = pd.DataFrame({"role": role, "cell_type": "HUVEC", "plate_id": np.tile(["p1", "p2"], wells)})
    obs["well_id"] = [f"w{i}" for i in range(len(obs))]
    obs = obs.loc[np.repeat(obs.index, 2)].reset_index(drop=True)
    X = 0.1 * rng.standard_normal((len(obs), 5))
    X[:, 0] += shift * (obs["role"] == "C+") + 10 * (obs["plate_id"] == "p2")
    return anndata.AnnData(X.astype(np.float32), obs=obs.set_axis(obs.index.astype(str)))


def test_the_direction_moves_the_score_by_one_and_neither_direction_moves_a_nuisance():
    """Of linear scores and nuisances, with styles of unequal spread, the shortest direction is known in closed form."""
    rng = np.random.default_rng(0)
    spread, a, b = rng.uniform(0.5, 2, 12), rng.standard_normal(12), rng.standard_normal((12, 2))
    w = rng.standard_normal((20_000, 12)) * spread
    found = explain.learn_direction(w, w @ a, w @ b)
    assert found.axis @ a == pytest.approx(1, abs=0.02)
    np.testing.assert_allclose(found.axis @ b, 0, atol=0.02)
    np.testing.assert_allclose(found.control @ np.column_stack([a, b]), 0, atol=0.02)
    white = np.diag(spread) @ np.column_stack([a, b])  # least |x| with x . white = (1, 0, 0)
    np.testing.assert_allclose(found.axis / spread, np.linalg.pinv(white.T) @ [1, 0, 0], atol=0.02)
    lengths = [np.linalg.norm(d / spread) for d in (found.axis, found.control)]
    np.testing.assert_allclose(lengths, found.length_sd, rtol=0.02)


def test_a_generator_whose_images_stand_still_is_refused():
    w = np.random.default_rng(0).standard_normal((200, 4))
    with pytest.raises(ValueError, match="do not move along the axis"):
        explain.learn_direction(w, np.zeros(200), w[:, :1])


def test_the_axis_looks_through_the_offset_of_plates_and_puts_controls_at_its_ends():
    p = profiles(1.0)
    axis, cell_type = explain.fit_axis(p)
    on = axis.on(explain.centred(p, np.ones(p.n_obs, bool)))
    assert cell_type == "HUVEC"
    positive = (p.obs["role"] == "C+").to_numpy()
    assert on[positive].mean() == pytest.approx(1, abs=0.3)
    assert on[~positive].mean() == pytest.approx(-1, abs=0.3)


@pytest.mark.parametrize(
    ("made", "options", "message"),
    [
        (profiles(0.0, seed=3), {}, "has no scale"),
        (profiles(1.0, wells=3), {}, "needs 4 wells each"),
        (profiles(1.0)[:16], {}, "has 0 and 8"),
        (profiles(1.0), {"cell_type": "VERO"}, "there are HUVEC"),
    ],
)
def test_an_axis_that_cannot_be_is_refused_with_a_sentence(made, options, message):
    with pytest.raises(ValueError, match=message):
        explain.fit_axis(made, **options)


@pytest.mark.parametrize("source", ["gandl-random", "intensity"])
def test_what_has_no_trained_generator_is_refused(source):
    with pytest.raises(ValueError, match="no trained generator"):
        explain.open_generator(source, ("DNA", "ER"))


def test_trimmed_weights_are_refused(tmp_path, method):
    header = {"method": "gandl", "config": checkpoints.config_to_json(TINY), "channels": ["DNA", "ER"], "n_seen": 2}
    whole = checkpoints.weights(method)
    checkpoints.save(tmp_path / "whole.safetensors", whole, header)
    assert isinstance(explain.open_generator(tmp_path / "whole.safetensors", ("DNA", "ER")), gandl.GANDL)
    trimmed = {name: t for name, t in whole.items() if not name.startswith("generator_ema.")}
    checkpoints.save(tmp_path / "trimmed.safetensors", trimmed, header)
    with pytest.raises(ValueError, match="holds no generator"):
        explain.open_generator(tmp_path / "trimmed.safetensors", ("DNA", "ER"))


def discs(radius, ring):
    """A nucleus of `radius` pixels, and light at `ring` pixels from its edge, (1, 2, 48, 48)."""
    y, x = np.mgrid[:48, :48] - 24
    away = np.hypot(y, x)
    return np.stack([np.where(away < radius, 1000.0, 20.0), 20 + 500 * np.exp(-((away - radius - ring) ** 2))])[None]


def test_measurements_follow_what_was_drawn():
    small, large = (explain.measure(discs(r, 2), ("DNA", "ER"), 1.0).iloc[0] for r in (6, 9))
    # The threshold lies on a blurred logarithm, half a pixel or more outside: the same rim at each radius.
    rims = [np.sqrt(found["nucleus_area_um2"] / np.pi) - r for found, r in ((small, 6), (large, 9))]
    assert 0 < rims[0] < 1.5 and rims[1] == pytest.approx(rims[0], abs=0.3)
    near, far = (explain.measure(discs(7, d), ("DNA", "ER"), 1.0).iloc[0] for d in (1, 4))
    assert far["ER ring_um"] > near["ER ring_um"] + 1
    moved = discs(7, 2)
    moved[:, 1] = moved[:, 0]
    assert explain.measure(moved, ("DNA", "ER"), 1.0).iloc[0]["ER nuclear"] > near["ER nuclear"] + 2
    wave = np.tile(np.sin(2 * np.pi * np.arange(48) / 12), (48, 1)) * 100 + 200
    twice = np.tile(np.sin(2 * np.pi * np.arange(48) / 24), (48, 1)) * 100 + 200
    grain = [explain.measure(np.stack([x, x])[None], ("DNA", "ER"), 1.0).iloc[0]["ER grain_um"] for x in (wave, twice)]
    assert grain[1] / grain[0] == pytest.approx(2, rel=0.05)
    with pytest.raises(ValueError, match="channel called DNA"):
        explain.measure(moved, ("a", "b"), 1.0)


def test_drawing_is_repeatable_and_leaves_no_trace_and_inversion_comes_nearer(method):
    w = torch.randn(3, 8, generator=torch.Generator().manual_seed(1))
    state = torch.get_rng_state()
    images = explain.draw(method, w)
    torch.testing.assert_close(images, explain.draw(method, w))
    errors = [(explain.draw(method, explain.invert(method, images, n)) - images).square().mean() for n in (0, 40)]
    assert errors[1] < 0.7 * errors[0]
    assert torch.equal(state, torch.get_rng_state())
    assert images.shape == (3, 2, 32, 32)


def test_real_crops_are_those_that_profiles_are_made_of(screen):
    """A network that knows pixels a tenth larger: sites of 40 pixels become 36, of which 2 x 2 crops make a profile."""
    store = shards.Shards(screen / "screen.zarr")
    tensors, header = checkpoints.read(screen / "network.safetensors")
    coarse, wide = screen / "coarse.safetensors", 1.1 * store.pixel_um
    checkpoints.save(coarse, tensors, header | {"pixel_um": wide})
    cli.embed(str(coarse), str(store.path), screen / "coarse.h5ad")
    found, network = anndata.read_h5ad(screen / "coarse.h5ad"), explain.open_generator(coarse, store.channels)
    crops, wells = explain.real_crops(store, network, found.obs, 3, per_side=2, pixel_um=wide)
    features = pd.DataFrame(network.embed(crops).detach().numpy()).groupby(wells).mean()
    of_wells = found[[list(found.obs["well_id"]).index(well) for well in features.index]].X
    np.testing.assert_allclose(features, of_wells, rtol=1e-4, atol=1e-5)


# ---- long work resumes ----


@pytest.fixture(scope="module")
def screen(tmp_path_factory):
    """What `gandl explain` is given: a network that has hardly been trained, a small simulated screen, its profiles."""
    folder = tmp_path_factory.mktemp("explain")
    store = shards.Shards(shards.write(plates.small(folder / "data"), folder / "screen.zarr"))
    torch.manual_seed(0)
    network = checkpoints.weights(gandl.GANDL(TINY, len(store.channels)))
    for name in network:
        if name.endswith("noise_strength"):  # 0 before training; and an inversion has to go on with the same noise
            network[name] = torch.tensor(0.1)
    header = {"method": "gandl", "config": checkpoints.config_to_json(TINY), "channels": [*store.channels], "n_seen": 2}
    checkpoints.save(folder / "network.safetensors", network, header)
    checkpoints.save(folder / "other.safetensors", network, header | {"n_seen": 4})
    trimmed = {name: t for name, t in network.items() if not name.startswith("generator_ema.")}
    checkpoints.save(folder / "trimmed.safetensors", trimmed, header)
    cli.embed(str(folder / "network.safetensors"), str(store.path), folder / "gandl.h5ad")
    return folder


def run(screen, out, network="network", **options):
    weights = screen / f"{network}.safetensors"
    cli.explain(weights, str(screen / "screen.zarr"), screen / "gandl.h5ad", out, images=16, **options)


class Killed(BaseException):
    """Nothing catches it."""


class Clock:
    """Lets a process live for so many steps: batches drawn, batches measured, files named."""

    def __init__(self, monkeypatch):
        self.left, self.drawn = None, 0
        for owner, name in ((stylegan2.Generator, "synthesis"), (explain, "measure"), (os, "replace")):
            monkeypatch.setattr(owner, name, self.counting(name, getattr(owner, name)))
        whole = explain.real_crops
        monkeypatch.setattr(explain, "real_crops", lambda *some, **options: [x[::8] for x in whole(*some, **options)])
        monkeypatch.setattr(explain, "N_STYLES", 250)
        monkeypatch.setattr(explain, "invert", partial(explain.invert, steps=40))
        monkeypatch.setattr(explain.bootstrap, "interval", partial(explain.bootstrap.interval, n_bootstrap=50))

    def counting(self, name, function):
        def counted(*args, **options):
            if self.left is not None:
                self.left -= 1
                if self.left < 0:
                    raise Killed
            self.drawn += name == "synthesis"
            return function(*args, **options)

        return counted

    def lives(self, steps, *args, **options):
        self.left = steps
        try:
            run(*args, **options)
        except Killed:
            return False
        finally:
            self.left = None
        return True


def everything(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture(scope="module")
def calm(screen, tmp_path_factory):
    """The files of an undisturbed run that takes nothing from a file, and how often it draws."""
    folder = tmp_path_factory.mktemp("calm")
    with pytest.MonkeyPatch.context() as patched:
        clock = Clock(patched)
        patched.setattr(explain, "_kept", lambda folder, name, make: make())
        run(screen, folder / "axis.csv")
    return everything(folder), clock.drawn


def test_killed_anywhere_and_resumed_it_ends_in_the_same_bytes_and_does_little_twice(
    screen, calm, tmp_path, monkeypatch
):
    clock, rng, deaths = Clock(monkeypatch), np.random.default_rng(0), 0
    expected, drawn = calm
    while not clock.lives(int(rng.integers(12, 30)), screen, tmp_path / "axis.csv"):
        deaths += 1
    assert deaths >= 3
    assert everything(tmp_path) == expected
    assert set(expected) == {"axis.csv", "axis_moves.csv", "axis.npz"}
    assert clock.drawn <= drawn + deaths * explain.KEPT_STEPS


def test_another_runs_leftovers_are_refused_by_name(screen, tmp_path, monkeypatch):
    clock, out = Clock(monkeypatch), tmp_path / "axis.csv"
    assert not clock.lives(10, screen, out)
    kept = everything(tmp_path / "axis.partial")
    for options, what in (({"seed": 1}, "seed"), ({"network": "other"}, "source")):
        with pytest.raises(ValueError, match=rf"axis\.partial was begun with another {what}\. .* remove this one"):
            run(screen, out, **options)
    assert everything(tmp_path / "axis.partial") == kept


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"network": "trimmed"}, "holds no generator"),
        ({"cell_type": "VERO"}, "no cell type"),
        ({"compound": "water"}, "no treated well"),
    ],
)
def test_what_cannot_be_explained_is_refused_before_a_folder_is_made(screen, tmp_path, options, message):
    with pytest.raises(ValueError, match=message):
        run(screen, tmp_path / "axis.csv", **options)
    assert not list(tmp_path.iterdir())


def test_a_generator_that_is_refused_leaves_nothing(screen, tmp_path, monkeypatch):
    Clock(monkeypatch)
    monkeypatch.setattr(explain, "score", lambda method, axis, images: np.zeros(len(images)))
    with pytest.raises(ValueError, match="do not move along the axis"):
        run(screen, tmp_path / "axis.csv")
    assert not list(tmp_path.iterdir())


def test_the_chapter_says_what_its_table_says():
    rows = [("s", "real", "a", 1, 0.5, 1.5), ("s", "real", "b", 1, 0.5, 1.5), ("s", "real", "c", 1, -1, 3)]
    rows += [
        ("s", "generated", "a", 1, 0.5, 1.5),
        ("s", "generated", "b", -1, -2, -0.5),
        ("s", "control", "c", 0, -1, 1),
    ]
    effects = pd.DataFrame(rows, columns=["screen", "what", "measure", "change", "low", "high"]).assign(spread=1.0)
    said = narrate.axis_effects(effects)._repr_mimebundle_()["text/markdown"]
    assert "2 measures of 3 differ beyond chance (a and b)" in said
    assert "change 1 the same way (a), 1 the other way (b), and 0 by no more than chance" in said
    assert "changes 0 (none)" in said
    assert figures.axis_effects(effects, "s").alt.startswith("s: change of 3 measures")
    assert figures.axis_strip(None, ("DNA",)).axes


def axis_of(*rows, before=-1.0, after=1.0):
    """What `explain` returns of measures (what, measure, change, low, high), and of moves."""
    effects = pd.DataFrame([("HUVEC", *row, 2.0, 9) for row in rows], columns=explain.HEADER)
    moves = [("generated", before, after, 2.0, 0.5, 0.3), ("control", 0.0, 0.0, 0.0, 1.0, 0.3)]
    moves.append(("inverted", -1.0, 1.0, 2.0, 0.25, 0.3))
    names = ["what", "score_before", "score_after", "predicted", "identity", "length_sd"]
    return effects, pd.DataFrame(moves, columns=names)


CHANGES = [("real", m, c, c - 0.5, c + 0.5) for m, c in (("a", 1.0), ("b", 2.0), ("c_um", -4.0), ("d", 0.1))]
CHANGES += [("generated", m, c, c - 0.1, c + 0.1) for m, c in (("a", 0.2), ("b", -0.2), ("c_um", 0.0), ("d", 0.3))]
CHANGES += [("control", m, c, c - 0.1, c + 0.1) for m, c in (("a", 0.2), ("b", 0.0))]


def test_what_is_drawn_is_flagged_where_it_differs_from_the_wells():
    effects, moves = axis_of(*CHANGES)
    table = strips.change_table(effects).set_index("measure")
    flags = {"c": strips.MISSED, "b": strips.AGAINST, "a": strips.SAME, "d": strips.ONLY}
    assert table["the generator shows it"].to_dict() == flags and list(table.index) == list(flags)
    assert table.loc["c", "wells, C+ less C-"] == "-2.00 (-2.25 to -1.75)", "in deviations of crops"
    assert table.loc["c", "control direction"] is None
    said = repr(strips.what_changes(effects, moves))
    assert "differ from C- wells beyond chance in 3 of 4 measures" in said
    assert "1 of them the same way (a; by 20 % of the true" in said.replace("\N{NO-BREAK SPACE}", " ")
    assert "1 the other way (b) and 1 by no more than chance (c)" in said
    assert "1 measure that the wells do not change; a direction that should change none changes 1" in said
    assert "50 % of the drawn cells and 25 %" in said.replace("\N{NO-BREAK SPACE}", " ")


@pytest.mark.parametrize(("before", "after", "far", "begin"), [(-1, 1, True, True), (-9, -8.5, False, False)])
def test_moves_that_fall_short_and_begin_elsewhere_are_doubted(before, after, far, begin):
    effects, moves = axis_of(*CHANGES, before=before, after=after)
    said = repr(strips.what_changes(effects, moves))
    assert ("Drawn cells came less than half of the way" in said) != far and (
        "as cells that hardly move" in said
    ) != far
    doubts = repr(strips.what_to_distrust(moves, 8000))
    assert ("do not begin at C-" in doubts) != begin
    assert "dropped in training shows nowhere" in doubts and "8,000 crops" in doubts


def test_nothing_that_changes_is_said_to_be_nothing():
    rows = [(what, "a", 0.0, -1.0, 1.0) for what in ("real", "generated", "control", "inverted")]
    effects, moves = axis_of(*rows)
    assert strips.change_table(effects).empty
    assert "in 0 of 1 measure." in repr(strips.what_changes(effects, moves))


def test_a_strip_shows_its_cells_in_the_channels_lights():
    rng = np.random.default_rng(0)
    groups = {name: rng.uniform(-1, 1, (2, 5, 2, 8, 8)) for name in ("drawn", "again")}
    real = rng.uniform(-1, 1, (2, 2, 8, 8))
    figure = strips.composite_strips(groups, {"again": real}, ("DNA", "ER"), 2.0, True)
    grid = np.array(figure.axes).reshape(4, 6)
    lit = [[axes.images[0].get_array() if axes.images else None for axes in row] for row in grid]
    assert lit[0][0] is None and lit[1][0] is None
    for row, (name, k) in enumerate((name, k) for name in groups for k in range(2)):
        for at in range(5):
            expected = figures.composite(figures.shown(groups[name][k, at]), ("DNA", "ER"))
            np.testing.assert_allclose(lit[row][at + 1], expected)
    np.testing.assert_allclose(lit[3][0], figures.composite(figures.shown(real[1]), ("DNA", "ER")))
    assert [text.get_text() for text in grid[0, 1].texts] == ["5 µm"]
    assert figure.alt.startswith("Simulated images.") and "2 drawn and 2 again" in figure.alt
