"""The workflow: what it makes, and that only what changed is made again."""

from __future__ import annotations

import hashlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pandas as pd
import pytest
from built import ROOT, copy_of_project, snakemake, tiny_book
from gandl_book import sources

from gandl_lib.evaluate import EVALUATIONS
from gandl_lib.methods import METHODS

HEADERS = {
    "separability": "method,task,split,normalisation,accuracy,ci_low,ci_high,balanced_accuracy,auroc,majority_rate,"
    "n_train_wells,n_test_wells",
    "paired": "task,split,normalisation,method,other,difference,ci_low,ci_high,p_value,n_wells",
    "confusion": "method,task,split,normalisation,true,predicted,count",
    "cost": "method,minutes,images,peak_memory_MB,dimensions,labels,device",
    "probe_size": "method,n_wells,accuracy,lowest,highest,balanced_accuracy,majority_rate,n_test_wells",
    "replicates": "method,cell_type,compound,concentration_uM,mean_average_precision,by_chance,n_wells",
    "dose_response": "method,cell_type,compound,ec50_uM,ec50_low,ec50_high,hill,emax,efficacy_max,p_value,q_value,hit,"
    "toxic_from_uM,n_wells",
    "zero_shot": "method,true,predicted,count",
    "zero_shot_summary": "method,accuracy,ci_low,ci_high,n_wells",
    "moa": "method,protocol,accuracy,n_treatments,n_correct,ci_low,ci_high,compound_accuracy,n_compounds,compounds_low,"
    "compounds_high,majority_rate,shuffled,recipe,dataset",
    "latent_arithmetic": "method,property,direction,step,value,ci_low,ci_high",
    "latent_arithmetic_directions": "method,property,axis,value",
    "paradigms": "paradigm,augment,multi_crop,distance_similar,normalised_d,accuracy,precision,recall,roc_auc,"
    "n_clusters,not_noise,silhouette,davies_bouldin_inverse,train_seconds,peak_memory_MB",
}
CHAPTERS = sorted(path.stem for path in (ROOT / "notebooks").glob("[0-9][0-9]_*.py"))


def jobs(folder: Path, *arguments: str, profile: str = "tiny") -> dict[str, int]:
    """Rule to number of jobs that a run would do now."""
    run = snakemake(folder, "--dry-run", "--quiet", "reason", *arguments, profile=profile, capture_output=True)
    assert run.returncode == 0, run.stdout + run.stderr
    found = re.search(r"^job +count\n[- ]+\n(.*?)^total", run.stdout, re.DOTALL | re.MULTILINE)
    return {rule: int(n) for rule, n in re.findall(r"^(\w+) +(\d+)$", found[1] if found else "", re.MULTILINE)}


@contextmanager
def edited(path: Path, line: str = "\n# edited\n") -> Iterator[None]:
    before = path.read_bytes()
    path.write_bytes(before + line.encode())
    try:
        yield
    finally:
        path.write_bytes(before)


# ---- without running anything ----


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return copy_of_project(tmp_path_factory.mktemp("empty") / "project")


@pytest.mark.parametrize("profile", sorted(path.stem for path in (ROOT / "config").glob("*.yaml")))
def test_every_profile_reaches_the_book(empty: Path, profile: str) -> None:
    for name in ("rxrx19a", "plate25"):  # where the profiles of the real screen look for it
        folder = empty / "data" / name
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "metadata.csv").write_text("site_id\n")
    planned = jobs(empty, profile=profile)
    assert planned["html"] == 1 and planned["train"] >= 1 and planned["chapter"] == len(CHAPTERS)


def test_unknown_profile_names_the_known_ones(empty: Path) -> None:
    run = snakemake(empty, "--dry-run", profile="quikc", capture_output=True)
    assert run.returncode != 0
    assert re.search(r"'quikc'.*gpu, plate25, quick, rxrx19a, tiny", run.stdout + run.stderr)


def test_every_library_file_is_somebodys_input(empty: Path) -> None:
    """A file that no rule lists would change results without anything running again."""
    run = snakemake(empty, "--dry-run", capture_output=True)
    inputs = set(re.findall(r"(?:gandl_lib|book/gandl_book)/[\w/]+\.py", "".join(re.findall(r"input: .*", run.stdout))))
    rooms = (ROOT / "gandl_lib", ROOT / "book" / "gandl_book")
    library = {str(path.relative_to(ROOT)) for room in rooms for path in room.rglob("*.py")}
    # Commands only pass on, package files only name what is in the package, fetching comes before all stages and
    # exporting after, sources and bundles are about results and make none, and methods that the profile does not use
    # have nothing to run again.
    outside = (
        "/__init__.py",
        "/cli.py",
        "/commands.py",
        "/export.py",
        "/sources.py",
        "/bundle.py",
        "/cover.py",
        "/devices.py",
    )
    unused = ("gandl_lib/methods/", "gandl_lib/nn/", "gandl_lib/fetch/")
    assert [path for path in library - inputs if not path.endswith(outside) and not path.startswith(unused)] == []
    assert inputs <= library


def test_networks_that_learn_from_labels_depend_on_how_wells_are_split(empty: Path) -> None:
    run = snakemake(empty, "--dry-run", "results/tiny/runs/weak-plain/weights.safetensors", capture_output=True)
    inputs = re.search(r"rule train_setup:\n +input: (.*)", run.stdout)[1]
    assert "gandl_lib/splits.py" in inputs and "gandl_lib/methods/paradigms.py" in inputs
    assert "gandl_lib/methods/mae.py" not in inputs, "another method's file is nobody else's business"


@pytest.mark.parametrize(("row", "trained"), [("gandl-live", True), ("gandl", False), ("gandl-random", False)])
def test_only_rows_with_images_to_see_are_trained(empty: Path, row: str, trained: bool) -> None:
    """A chapter may ask for a run that there is none of; weights that are shipped are not trained for it."""
    run = snakemake(
        empty, "--dry-run", f"results/quick/runs/{row}/weights.safetensors", profile="quick", capture_output=True
    )
    assert (run.returncode == 0) == trained, run.stderr
    assert trained or "MissingRuleException" in run.stdout + run.stderr


LOADED = "import sys, {0}; print(*[m for m in sys.modules if m.startswith(('gandl_lib', 'gandl_book'))])"


@pytest.mark.parametrize(
    "module", ["train", "embed", "shards", "simulate.screens", "screen.run", "gandl_book.paradigms"]
)
def test_sources_are_what_python_loads(module: str) -> None:
    """Found without importing, they hold all that an import really brings, but for what is declared."""
    name = module if module.startswith("gandl_book") else f"gandl_lib.{module}"
    found = subprocess.run([sys.executable, "-c", LOADED.format(name)], capture_output=True, text=True, check=True)
    loaded = {m for m in found.stdout.split() if m not in ("gandl_lib", "gandl_book")}
    left_out = {m for _, m in sources.BYSTANDERS} | set(sources.REGISTRIES)
    listed = {m for r in sources.REGISTRIES for m in sources.graph().find_modules_directly_imported_by(r)}
    besides = sources.modules(*(m.removeprefix("gandl_lib.") for m in left_out | listed if m not in sources.REGISTRIES))
    assert sources.modules(module) <= loaded | besides
    assert loaded <= sources.modules(module) | besides | set(sources.REGISTRIES)


def test_bystanders_and_registries_are_real() -> None:
    for module, other in sources.BYSTANDERS:
        assert other in sources.graph().find_modules_directly_imported_by(module), (module, other)
    for name, method in METHODS.items():
        assert sources.file_of(method.__module__) in sources.method(name)
    for name in EVALUATIONS:
        assert len(sources.evaluation(name)) > 1
    with pytest.raises(ValueError, match="no module is called gandl_lib.nonsense"):
        sources.closure("nonsense")


def test_a_method_is_one_line_of_the_configuration(empty: Path) -> None:
    path, before = empty / "config" / "tiny.yaml", jobs(empty)
    row = "  brand-new: { method: gandl, preset: tiny, images: 8 }\n"
    with edited(path, ""):
        path.write_text(path.read_text().replace("  intensity: {}\n", f"  intensity: {{}}\n{row}", 1))
        after = jobs(empty)
    assert after["train"] == before["train"] + 1
    assert after["embed"] == before["embed"] * 5 // 4


@pytest.mark.workflow
def test_a_killed_run_does_not_lock_the_next_one_out(tmp_path: Path) -> None:
    folder = copy_of_project(tmp_path / "project")
    command = [sys.executable, "-m", "snakemake", "--cores", "1", "tables", "--config", "profile=tiny"]
    run = subprocess.Popen(command, cwd=folder, start_new_session=True, stderr=subprocess.DEVNULL)
    locks = folder / ".snakemake" / "locks"
    while not (locks.is_dir() and any(locks.iterdir())):
        assert run.poll() is None, "it ended before it could be killed"
        time.sleep(0.1)
    target = "results/tiny/data/unseen/metadata.csv"
    refused = snakemake(folder, target, capture_output=True)
    os.killpg(run.pid, signal.SIGKILL)
    run.wait()
    assert refused.returncode != 0 and "cannot be locked" in refused.stderr, "two runs at once"
    assert any(locks.iterdir()) and snakemake(folder, target).returncode == 0


# ---- after a run ----


@pytest.mark.workflow
def test_the_tiny_profile_makes_every_table() -> None:
    results = tiny_book() / "results" / "tiny"
    for name, header in HEADERS.items():
        table = pd.read_csv(results / f"{name}.csv")
        assert list(table.columns)[: header.count(",") + 1] == header.split(","), name
        assert len(table) > 0, name
    methods = set(pd.read_csv(results / "separability.csv")["method"])
    assert {"gandl", "gandl-random", "texture", "intensity", "shuffled labels"} <= methods
    moa = pd.read_csv(results / "moa.csv").query("dataset == 'simulated'")
    assert set(moa["method"]) == {"dcgan", "gandl", "intensity"}
    provenance = json.loads((results / "provenance.json").read_text())
    assert provenance["profile"] == "tiny" and provenance["seed"] == 0
    for name, digest in provenance["sha256"].items():
        assert hashlib.sha256((results / name).read_bytes()).hexdigest() == digest, name
    assert set(provenance["methods"]) == {"gandl", "gandl-random", "texture", "intensity", "cell-count"}
    runs = {path.parent.name for path in results.glob("runs/*/weights.safetensors")}
    assert set(provenance["runs"]) == runs and provenance["runs"]["gandl"]["n_seen"] == 320
    assert not list(results.rglob("*.partial*"))


@pytest.mark.workflow
def test_nothing_runs_twice() -> None:
    assert jobs(tiny_book()) == {}


@pytest.mark.workflow
def test_new_dates_are_no_changes() -> None:
    """A fresh clone and a switch of branches give every file a new date and the same content."""
    now = time.time()
    for path in tiny_book().rglob("*"):
        if path.is_file() and not {"results", ".snakemake", "_build"} & set(path.parts):
            os.utime(path, (now, now))
    assert jobs(tiny_book()) == {}


@pytest.mark.workflow
@pytest.mark.parametrize("chapter", CHAPTERS)
def test_a_chapters_text_runs_that_chapter_alone(chapter: str) -> None:
    with edited(tiny_book() / "notebooks" / f"{chapter}.py", "\n# %% [markdown]\n# One more thing.\n"):
        assert jobs(tiny_book()) == {"chapter": 1, "html": 1, "book": 1}


@pytest.mark.workflow
@pytest.mark.parametrize(
    ("source", "runs", "leaves"),
    [
        ("evaluate/dose_response", {"dose_response"}, {"separability", "axes", "zero_shot", "embed", "train"}),
        ("evaluate/separability", {"separability", "zero_shot"}, {"dose_response", "axes", "embed", "train"}),
        (
            "plots/page",
            {"chapter"},
            {"separability", "dose_response", "axes", "zero_shot", "embed", "train", "shard"},
        ),
        ("profiles", {"separability", "dose_response", "axes", "zero_shot"}, {"embed", "train", "shard"}),
        ("methods/intensity", {"embed", "separability"}, {"train", "shard", "simulate"}),
        ("train", {"train", "embed", "separability"}, {"shard", "simulate"}),
        ("simulate/cells", {"simulate", "shard", "train", "embed", "separability"}, set()),
    ],
)
def test_a_change_runs_its_own_stage_and_what_follows(source: str, runs: set[str], leaves: set[str]) -> None:
    with edited(tiny_book() / "gandl_lib" / f"{source}.py"):
        planned = set(jobs(tiny_book()))
    assert runs <= planned and not leaves & planned


@pytest.mark.workflow
def test_a_setting_runs_its_own_stage() -> None:
    path = tiny_book() / "config" / "tiny.yaml"
    with edited(path, ""):
        path.write_text(re.sub(r"images: \d+", "images: 8", path.read_text()))
        planned = jobs(tiny_book())
    assert planned["train"] == 1 and "shard" not in planned


@pytest.mark.workflow
def test_an_interrupted_training_goes_on_and_an_outdated_one_starts_anew() -> None:
    """The last of these tests, because it leaves a run of another version behind."""
    run = tiny_book() / "results" / "tiny" / "runs" / "gandl"
    weights, left = run / "weights.safetensors", run / "left-behind"
    digest = hashlib.sha256(weights.read_bytes()).hexdigest()
    target = str(weights.relative_to(tiny_book()))
    left.touch()
    weights.unlink()  # as if killed between the last state and the end
    assert snakemake(tiny_book(), target).returncode == 0
    assert left.exists() and hashlib.sha256(weights.read_bytes()).hexdigest() == digest
    with edited(tiny_book() / "gandl_lib" / "losses.py"):
        assert snakemake(tiny_book(), target).returncode == 0
        assert not left.exists()
