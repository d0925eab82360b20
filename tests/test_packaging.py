"""One truth about versions, names and addresses, however many files have to state them."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tomllib
from importlib import metadata
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version

import gandl_lib

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
LINES = [line for line in (ROOT / "requirements.lock.txt").read_text().splitlines() if not line.startswith("#")]
LOCK = {canonicalize_name(Requirement(line).name): Requirement(line) for line in LINES}
# The others, `s3` and `cluster`, are installed beside the lock by those who want them, with it as a constraint.
LOCKED_EXTRAS = re.search(r"-e '\.\[([\w,]+)\]' sphinx", (ROOT / "Makefile").read_text())[1].split(",")
EXTRAS = [r for extra in LOCKED_EXTRAS for r in PROJECT["optional-dependencies"][extra]]


def locked(name: str) -> Version:
    (pin,) = LOCK[canonicalize_name(name)].specifier
    return Version(pin.version)


def test_the_lock_pins_every_package_once() -> None:
    assert len(LOCK) == len(LINES)
    for line in LINES:
        assert re.fullmatch(r"[\w.-]+==[\w.]+", line), f"{line!r} is not `name==version`"


@pytest.mark.parametrize("text", PROJECT["dependencies"] + EXTRAS)
def test_the_lock_satisfies_every_requirement(text: str) -> None:
    requirement = Requirement(text)
    assert canonicalize_name(requirement.name) in LOCK, f"{text} is missing in requirements.lock.txt; run `make lock`"
    assert requirement.specifier.contains(locked(requirement.name))


def test_the_lock_is_complete() -> None:
    """Everything that a locked package needs is locked too, so that two installations are the same."""
    for name in LOCK:
        for text in metadata.distribution(name).requires or []:
            needed = Requirement(text)
            if needed.marker is None or needed.marker.evaluate({"extra": ""}):
                assert canonicalize_name(needed.name) in LOCK, f"{name} needs {text}, which is not in the lock"
                assert needed.specifier.contains(locked(needed.name), prereleases=True), f"{name} needs {text}"


def test_what_is_tested_is_what_is_locked() -> None:
    found = {name: Version(metadata.version(name)).public for name in LOCK}
    assert found == {name: locked(name).public for name in LOCK}


def test_environment_yml_repeats_no_version() -> None:
    python, *others = yaml.safe_load((ROOT / "environment.yml").read_text())["dependencies"]
    assert Requirement(PROJECT["name"] + PROJECT["requires-python"]).specifier.contains(python.removeprefix("python="))
    assert others[-1] == {"pip": ["-r requirements.lock.txt", "-e ."]}
    assert not any("=" in other for other in others[:-1])
    for workflow in (ROOT / ".github" / "workflows").glob("*.yml"):
        for version in re.findall(r'python-version: "(.*?)"', workflow.read_text()):
            assert version == python.removeprefix("python="), workflow


def test_one_version_of_ours() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert PROJECT["version"] == gandl_lib.__version__ == citation["version"]
    assert f"## {PROJECT['version']}" in (ROOT / "CHANGELOG.md").read_text()
    assert PROJECT["license"] == citation["license"]
    assert (ROOT / "LICENSE").read_text().startswith("BSD 3-Clause License")


def test_one_address_of_ours() -> None:
    address = yaml.safe_load((ROOT / "CITATION.cff").read_text())["repository-code"]
    owner = address.split("/")[-2]
    assert yaml.safe_load((ROOT / "_config.yml").read_text())["repository"]["url"] == address
    for path in [ROOT / "README.md", *(ROOT / "notebooks").glob("*.py")]:
        owners = re.findall(r'/([\w-]+)/gandl(?=[ /\s)"]|$)', path.read_text(), re.MULTILINE)
        assert owners and set(owners) == {owner}, path


def test_continuous_integration_fails_when_make_test_fails(tmp_path: Path) -> None:
    script = ROOT / ".ci" / "run"
    assert os.access(script, os.X_OK)
    (tmp_path / ".ci").mkdir()
    (tmp_path / ".ci" / "run").write_text(script.read_text())
    for status in (0, 1):
        (tmp_path / "Makefile").write_text(f"test:\n\t@exit {status}\n")
        assert (os.system(f"bash {tmp_path}/.ci/run >{os.devnull} 2>&1") == 0) == (status == 0)


def test_commands_start_without_what_takes_seconds() -> None:
    """Each job of the workflow is a command, and most never touch a network."""
    slow = "{'torch', 'lightning_fabric', 'sklearn', 'anndata', 'pandas'}"
    code = f"import gandl_lib.cli, sys; print(*sorted({slow} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split() == []


def test_every_package_is_in_the_wheel() -> None:
    tools = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    folders = {path.parent for top in ("gandl_lib", "book/gandl_book") for path in (ROOT / top).rglob("__init__.py")}
    named = {str(f.relative_to(ROOT)).removeprefix("book/").replace("/", ".") for f in folders}
    assert named | {"gandl_book.config", "gandl_book.reference"} == set(tools["packages"])
    assert all((ROOT / folder).is_dir() for folder in tools["package-dir"].values())


def test_an_installed_wheel_is_all_it_takes(tmp_path: Path) -> None:
    """In an environment that has the dependencies and nothing of the clone: the paper's numbers, profiles, a plate of
    somebody's own, and a shipped network where the channels are those that it knows."""
    source = tmp_path / "source"
    for part in ("gandl_lib", "book", "config"):
        shutil.copytree(ROOT / part, source / part, ignore=shutil.ignore_patterns("__pycache__", "chapters", "mathjax"))
    for part in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / part, source)
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
    build = [*pip, "wheel", "--quiet", "--no-build-isolation", "--no-deps", "--wheel-dir", str(tmp_path), str(source)]
    subprocess.run(build, check=True)
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "env"], check=True)
    python = tmp_path / "env" / "bin" / "python"
    (wheel,) = tmp_path.glob("gandl-*.whl")
    subprocess.run([*pip, "--python", str(python), "install", "--quiet", "--no-deps", str(wheel)], check=True)
    packages = "import sysconfig; print(sysconfig.get_path('purelib'))"
    env = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}

    def run(*command: str | Path, ok: bool = True) -> str:
        done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True)
        assert not ok or done.returncode == 0, done.stderr
        return done.stdout + done.stderr

    borrowed = sysconfig.get_path("purelib")
    Path(run(python, "-c", packages).strip(), "borrowed.pth").write_text(borrowed + "\n")  # no .pth of its own is read
    look = (
        "import gandl_lib; from gandl_book import chapters; from gandl_lib.screen import run;"
        "print(gandl_lib.__file__); print(len(chapters.paper('table1')), chapters.profiles())"
    )
    where, rest = run(python, "-c", look).splitlines()
    assert Path(where).is_relative_to(tmp_path / "env") and "quick" in rest
    gandl = python.with_name("gandl")
    run(gandl, "simulate", "plate", "--layout", "own", "--screen", "tiny", "--jobs", "1")
    found = run(gandl, "screen", "plate", "--out", "out", "--images", "16", "--threads", "1")
    assert (tmp_path / "out" / "report.html").exists() and "no shipped one" in found, found
    run(gandl, "simulate", "known", "--layout", "rxrx19a", "--screen", "tiny", "--jobs", "1")
    found = run(gandl, "screen", "known", "--out", "out2", "--dry-run")
    assert "with gandl-quick32.safetensors, which knows these channels" in found, found


def test_the_first_cell_names_this_version() -> None:
    (released,) = set(
        re.findall(r"releases/download/(\S+?)\.whl", "".join(p.read_text() for p in (ROOT / "notebooks").glob("*.py")))
    )
    assert released == f"v{PROJECT['version']}/gandl-{PROJECT['version']}-py3-none-any"


# ---- the container file ----


def test_the_container_is_built_of_the_lock_and_leaves_out_what_runs_make() -> None:
    lines = (ROOT / "Dockerfile").read_text().replace("\\\n", " ").splitlines()
    steps = [line.split(maxsplit=1) for line in lines if line and not line.startswith("#")]
    (base,) = [rest for step, rest in steps if step == "FROM"]
    version = re.fullmatch(r"python:(3\.\d+)-slim", base)[1]
    assert SpecifierSet(PROJECT["requires-python"]).contains(version)
    assert version in (ROOT / ".github" / "workflows" / "tests.yml").read_text(), "the Python that is tested"
    installs = [rest for step, rest in steps if step == "RUN" and rest.startswith("pip install")]
    assert installs[0].split()[-2:] == ["-r", "requirements.lock.txt"]
    # Whatever comes after the lock must not move it.
    assert installs and all("--no-deps" in line or "-c requirements.lock.txt" in line for line in installs[1:])
    order = [rest for step, rest in steps if step in ("COPY", "RUN")]
    assert order.index("requirements.lock.txt ./") < order.index(installs[0]) < order.index(". .") < len(order) - 1
    ignored = set((ROOT / ".dockerignore").read_text().split())
    made = {"results", "_build", ".snakemake", "book/chapters", "book/_static/mathjax", "**/__pycache__", ".venv*"}
    assert made | {".git"} <= ignored
    assert not ignored & {"weights", "gandl_lib", "book", "config", "notebooks", "slurm", "Snakefile", "_toc.yml"}


def test_threads_that_wait_do_not_spin() -> None:
    """PyTorch reads this when it is first loaded, so it has to be there before; what a user has set stays."""
    code = "import gandl_lib.cli, os, sys; assert 'torch' not in sys.modules; print(os.environ['OMP_WAIT_POLICY'])"
    environment = {name: value for name, value in os.environ.items() if name != "OMP_WAIT_POLICY"}
    for named, expected in (({}, "PASSIVE"), ({"OMP_WAIT_POLICY": "ACTIVE"}, "ACTIVE")):
        run = subprocess.run(
            [sys.executable, "-c", code], env=environment | named, capture_output=True, text=True, check=True
        )
        assert run.stdout.strip() == expected
