"""The workflow and the training command on a real Slurm cluster, which these tests start on this machine and end."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import yaml
from built import ROOT, copy_of_project, snakemake
from cluster import NODES, Cluster, missing

from gandl_lib import checkpoints, shards

pytestmark = [pytest.mark.cluster, pytest.mark.skipif(bool(missing()), reason=missing() or "there is a cluster")]
pytest.importorskip("snakemake_executor_plugin_slurm", reason="no plugin here: pip install 'gandl[cluster]'")
RUNS = ("minutes", "train_seconds", "peak_memory_MB")  # columns that no two runs share
PATIENCE_S = 900  # on a machine that others work on, too


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with Cluster() as running:
        yield running


def submit(cluster: Cluster, folder: Path, *arguments: str, **options) -> subprocess.Popen:
    """The workflow in `folder` by the repository's own profile; asked for the state of its jobs every few seconds."""
    command = [sys.executable, "-m", "snakemake", "--workflow-profile", "slurm", *arguments]
    command += ["--slurm-init-seconds-before-status-checks", "3", "--config", "profile=tiny", "parts=4"]
    environment = cluster.environment | {
        "GANDL_DATA": os.environ["GANDL_DATA"],
        "PYTHONPATH": f"{folder}:{folder}/book",
    }
    return subprocess.Popen(command, cwd=folder, env=environment, text=True, start_new_session=True, **options)


@pytest.fixture(autouse=True)
def no_real_data(tmp_path_factory, monkeypatch) -> None:
    """The same jobs on every machine."""
    monkeypatch.setenv("GANDL_DATA", str(tmp_path_factory.getbasetemp() / "none"))


def project(folder: Path) -> Path:
    shutil.copytree(ROOT / "slurm", copy_of_project(folder) / "slurm")
    return folder


def without(rows: tuple[str, ...], folder: Path) -> Path:
    """Profile tiny with all of its tables and some rows less, which four parts of two screens each would embed."""
    path = folder / "config" / "tiny.yaml"
    profile = yaml.safe_load(path.read_text())
    profile["methods"] = {name: row for name, row in profile["methods"].items() if name not in rows}
    path.write_text(yaml.safe_dump(profile, sort_keys=False))
    return folder


def tables(folder: Path) -> dict[str, object]:
    import pandas as pd

    found = {}
    for path in sorted(Path(folder, "results", "tiny").glob("*.csv")):
        table = pd.read_csv(path, dtype=str, keep_default_na=False)
        found[path.name] = table.drop(columns=[c for c in RUNS if c in table]).to_csv()
    return found


def test_every_table_of_the_cluster_is_that_of_one_machine(cluster, tmp_path):
    left_out = ("gandl-random", "cell-count")
    far, near = without(left_out, project(tmp_path / "far")), without(left_out, copy_of_project(tmp_path / "near"))
    assert submit(cluster, far, "tables").wait() == 0
    assert {job["node"] for job in cluster.jobs("COMPLETED")} == set(NODES), "both nodes worked"
    assert snakemake(near, "tables").returncode == 0
    found, expected = tables(far), tables(near)
    assert len(expected) > 10 and found.keys() == expected.keys()
    assert [name for name in expected if found[name] != expected[name]] == []


DATA, TARGET = "results/tiny/data/unseen/metadata.csv", "results/tiny/shards/unseen.zarr/zarr.json"


def bits(folder: Path) -> dict[str, bytes]:
    store = folder / Path(TARGET).parent
    return {str(p.relative_to(store)): p.read_bytes() for p in sorted(store.rglob("*")) if p.is_file()}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory) -> dict[str, bytes]:
    folder = copy_of_project(tmp_path_factory.mktemp("near") / "project")
    assert snakemake(folder, TARGET, capture_output=True).returncode == 0
    return bits(folder)


def running(cluster: Cluster, process: subprocess.Popen) -> dict[str, str]:
    """A job of the workflow, as soon as one runs."""
    begun = time.monotonic()
    while not (jobs := [j for j in cluster.jobs("RUNNING") if j["comment"].startswith("rule_")]):
        assert process.poll() is None and time.monotonic() - begun < 120, "no job ran"
        time.sleep(0.1)
    return jobs[0]


def test_a_node_that_dies_under_a_job(cluster, tmp_path, undisturbed):
    folder = project(tmp_path / "project")
    process = submit(cluster, folder, TARGET, stderr=subprocess.PIPE)
    job = running(cluster, process)
    working = at_work(cluster, job)  # asked of the node, while it answers
    dying = keepers(working) + working
    cluster.kill(job["node"])
    for pid in dying:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    try:
        _, said = process.communicate(timeout=PATIENCE_S)
    finally:
        cluster.start_node(job["node"])
        cluster.wait_for_nodes()
    assert process.returncode == 0, said
    assert bits(folder) == undisturbed


def pids(cluster: Cluster, job: dict[str, str]) -> list[int]:
    """Processes that work for a job, as its node knows them; none where it is over."""
    lines = cluster.run("scontrol", "listpids", job["id"], job["node"], check=False).splitlines()[1:]
    return [pid for line in lines if (pid := int(line.split()[0])) > 1]


def at_work(cluster: Cluster, job: dict[str, str]) -> list[int]:
    """Its processes, as soon as there are more than its shell."""
    begun = time.monotonic()
    while len(found := pids(cluster, job)) < 3:
        assert time.monotonic() - begun < 60, f"job {job['id']} has but the processes {found}"
        time.sleep(0.1)
    return found


def keepers(pids: list[int]) -> list[int]:
    """The processes of Slurm's that look after these, and would tell the controller how they ended."""
    found = set()
    for pid in pids:
        with contextlib.suppress(OSError):  # ended meanwhile
            parent = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
            if Path(f"/proc/{parent}/comm").read_text().startswith("slurmstepd"):
                found.add(parent)
    return [*found]


@pytest.mark.parametrize("limit", ["mem_mb=40", "runtime=1"])
def test_a_job_over_its_limit_says_so_and_the_next_run_ends_in_the_same_bits(cluster, tmp_path, undisturbed, limit):
    folder = project(tmp_path / "project")
    process = submit(cluster, folder, TARGET, "--retries=0", "--set-resources", f"simulate:{limit}", stderr=-1)
    if limit.startswith("runtime"):  # a minute is the shortest that Slurm knows: the job hangs
        job = running(cluster, process)
        at_work(cluster, job)
        while cluster.jobs("RUNNING") and process.poll() is None:
            for pid in pids(cluster, job):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGSTOP)
            time.sleep(1)
    _, said = process.communicate(timeout=PATIENCE_S)
    state = "TIMEOUT" if limit.startswith("runtime") else "SLURM status is"
    assert process.returncode != 0 and state in said, said
    assert not (folder / TARGET).exists()
    assert submit(cluster, folder, TARGET).wait(PATIENCE_S) == 0
    assert bits(folder) == undisturbed


def test_a_full_disk_is_named_and_the_next_run_ends_in_the_same_bits(cluster, tmp_path, undisturbed):
    folder = project(tmp_path / "project")
    disk = folder / "results"
    disk.mkdir()
    small = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(disk)]
    mounted = subprocess.run(small, capture_output=True, text=True)
    if mounted.returncode:
        pytest.skip(f"no small disk can be had here: {mounted.stderr.strip()}")
    try:
        process = submit(cluster, folder, TARGET, "--retries=0", stderr=subprocess.PIPE)
        _, said = process.communicate(timeout=PATIENCE_S)
        logs = [path.read_text() for path in Path(folder, ".snakemake", "slurm_logs").rglob("*.log")]
        assert process.returncode != 0 and "SLURM status is" in said, said
        assert "No space left on device" in "".join(logs), logs
        assert not (folder / TARGET).exists() and not (folder / DATA).exists()
        subprocess.run(["mount", "-o", "remount,size=1g", str(disk)], check=True)
        assert submit(cluster, folder, TARGET).wait(PATIENCE_S) == 0
        assert bits(folder) == undisturbed
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_a_controller_that_is_restarted(cluster, tmp_path, undisturbed):
    """As an administrator does it: one killed in the seconds before it writes its state forgets that a job runs."""
    folder = project(tmp_path / "project")
    process = submit(cluster, folder, TARGET)
    running(cluster, process)
    cluster.kill("slurmctld", signal.SIGTERM)
    time.sleep(3)
    cluster.start_controller()
    assert process.wait(PATIENCE_S) == 0
    assert bits(folder) == undisturbed


def test_a_killed_submission_is_started_again_and_its_jobs_do_not_work_twice(cluster, tmp_path, undisturbed):
    folder = project(tmp_path / "project")
    process = submit(cluster, folder, TARGET)
    orphan = running(cluster, process)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    again = submit(cluster, folder, TARGET, stderr=subprocess.PIPE)
    _, said = again.communicate(timeout=PATIENCE_S)
    assert again.returncode == 0, said
    assert f"job {orphan['id']}" in said, "the orphan is named"
    assert bits(folder) == undisturbed


# ---- one training run on several processes ----


def trained(cluster: Cluster, store: Path, run: Path, devices: int, *launcher: str) -> dict[str, torch.Tensor]:
    """Weights after two steps on `devices` processes, which `launcher` starts; the command itself where it is empty."""
    command = [*(launcher or [sys.executable]), "-m", "gandl_lib.cli", "train", "gandl", str(store), str(run)]
    options = ["--preset", "tiny", "--images", "16", "--ticks", "1", "--accelerator", "cpu", "--devices", str(devices)]
    environment = cluster.environment | {"PYTHONPATH": f"{ROOT}:{ROOT}/book", "OMP_NUM_THREADS": "1"}
    command += [*options, "--threads", "1"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=PATIENCE_S)
    assert done.returncode == 0, done.stderr
    assert "`srun`" not in done.stderr, "a machine that has Slurm is not a mistake"
    assert json.loads((run / "config.json").read_text())["train"]["devices"] == devices
    return checkpoints.read(run / "weights.safetensors")[0]


def test_srun_and_torchrun_train_the_weights_of_one_process_on_the_joined_batch(cluster, make_screen, tmp_path):
    store = shards.write(make_screen(size=(32, 32)), tmp_path / "screen.zarr")
    expected = trained(cluster, store, tmp_path / "one", 1)
    tasks = ["--nodes=1", "--ntasks=2", "--ntasks-per-node=2", "--mem=4000"]
    launchers = {
        "srun": ["srun", *tasks, sys.executable],
        "torchrun": [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"],
    }
    for how, launcher in launchers.items():
        found = trained(cluster, store, tmp_path / how, 2, *launcher)
        assert found.keys() == expected.keys()
        for name in expected:  # sums in another order, magnified by Adam where a gradient is near zero
            torch.testing.assert_close(found[name], expected[name], rtol=1e-3, atol=1e-5)
