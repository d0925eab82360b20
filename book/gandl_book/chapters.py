"""What the chapters of the book call, so that they hold text, parameters and figures, and no logic.

A chapter is `notebooks/NN_name.py` in py:percent. It says once which files of a run it shows,

    table, truth = need(profile, "dose_response.csv", "dose_truth.csv?")

and that line is all there is to it: inside the workflow these files are the chapter's inputs, so they are there; alone,
on Colab or under papermill, they are taken from the prebuilt results (`bundle`), or the workflow is run for whatever is
missing. A trailing `?` marks what not every profile can make (nobody knows the truth of a real screen); it comes back
as None.

`python -m gandl_book.chapters notebooks` writes the paired NN_name.ipynb: no outputs, and the same bytes every time.
"""

from __future__ import annotations

import ast
import difflib
import hashlib
import os
import re
import shutil
import subprocess
import sys
from collections import deque
from collections.abc import Iterable, Mapping
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
import yaml

import gandl_lib
from gandl_book import bundle, devices, origins

if TYPE_CHECKING:
    from anndata import AnnData

LAST_WRITTEN = {"data": "metadata.csv", "shards": "zarr.json", "runs": "weights.safetensors"}
"""Results that are folders, by the first part of their name: the file that says one is complete."""

INSIDE = "GANDL_WORKFLOW"
"""Set in the environment of chapters that the workflow runs: what it can make for them is there already."""


REPOSITORY = "https://github.com/gandl-executable/gandl"
WORKFLOW = ("snakemake>=9", "grimp>=3.5")
"""What running the workflow takes beyond the library. Colab's newer packages and Snakemake cannot live together."""

# In a clone these lie beside this package, in an installed wheel inside it.
REFERENCE = next(
    p / "reference" for p in (Path(__file__).parent, Path(__file__).parents[1]) if (p / "reference").is_dir()
)
CONFIG = next(p / "config" for p in (Path(__file__).parent, Path(__file__).parents[2]) if (p / "config").is_dir())


# ---- results ----


def root() -> Path:
    """The project: the nearest folder upwards that has a Snakefile, one called gandl here, or the library's own.

    Raises:
        ValueError: there is none, as where the library was installed and nothing was cloned.
    """
    here = Path.cwd()
    for folder in (here, *here.parents, here / "gandl", Path(__file__).resolve().parents[2]):
        if (folder / "Snakefile").exists() and (folder / "config").is_dir():
            return folder
    raise ValueError(f"no Snakefile in {here} or above it; run this in a clone of the project.")


def config() -> Path:
    """The folder of the profiles' configurations: the project's, or without one those that came with the library."""
    try:
        return root() / "config"
    except ValueError:
        return CONFIG


def profiles() -> list[str]:
    """Names of the workflow's profiles, config/*.yaml."""
    return sorted(path.stem for path in config().glob("*.yaml"))


def target(name: str) -> str:
    """The file that stands for result `name`: itself, or the last one written where it is a folder."""
    kind, *rest = name.split("/")
    return f"{name}/{LAST_WRITTEN[kind]}" if len(rest) == 1 and kind in LAST_WRITTEN else name


EVALUATED = {
    "separability": ("separability.csv", "paired.csv", "confusion.csv", "cost.csv"),
    "axes": ("axes.csv", "efficacy.csv"),
    "dose-response": ("dose_response.csv", "dose_points.csv"),
    "probe-size": ("probe_size.csv",),
    "replicates": ("replicates.csv",),
}
"""The tables each evaluation writes, for those who bring profiles and no images."""


def need(profile: str, *names: str, cores: str = "all", published: str = "", fresh: bool = False) -> list[Path | None]:
    """Paths of results: the workflow's own if they are there, else prebuilt ones, else made by the workflow now.

    All are of one kind: prebuilt results never stand beside others.

    Args:
        profile: one of config/*.yaml.
        names: results, as the Snakefile names them, say `separability.csv`, `shards/screen.zarr` or `runs/gandl`; one
            that ends in `?` may be missing.
        cores: processor cores the workflow may use.
        published: profiles (.h5ad, see `gandl profiles`) to evaluate here and now: beside the rows that the workflow
            has made of a real screen (`folder` in its configuration), on the sites that these have; else alone.
        fresh: take nothing prebuilt.

    Returns:
        one path a name, in order; None for an optional result that this profile does not have, and for everything that
        takes images where there are only `published` profiles.

    Raises:
        ValueError: unknown profile, a result that no rule makes or whose making failed, or `published` profiles that
            are of another screen than the rows they are to stand beside.
    """
    choose("profile", profile, profiles())
    origins.opened(config() / f"{profile}.yaml")
    if published:
        results = config().parent / "results" if config() != CONFIG else Path.cwd() / "results"
        return _evaluated(results, profile, Path(published).absolute(), [n.rstrip("?") for n in names])
    results = Path("results", profile)
    wanted = {name: results / target(name.rstrip("?")) for name in names}
    inside = INSIDE in os.environ
    try:
        top = root()
    except ValueError:
        top = None
    complete = top and all((top / path).exists() for name, path in wanted.items() if not name.endswith("?"))
    # Of a folder that the workflow has begun, what is optional may be yet to come; of nothing, all can be prebuilt.
    if not (complete or inside or fresh) and (taken := bundle.take(profile, names, config() / f"{profile}.yaml")):
        return taken
    top = top or clone()

    missing = [path for path in wanted.values() if not (top / path).exists()]
    if missing and not inside:
        optional = {path for name, path in wanted.items() if name.endswith("?")}
        python = with_snakemake()

        def snakemake(paths: Iterable[Path], *options: str) -> list[str]:
            return [python, "-m", "snakemake", *options, "--cores", cores, "--rerun-incomplete", *map(str, paths),
                    "--config", f"profile={profile}"]  # fmt: skip

        def makeable(path: Path) -> bool:
            return subprocess.run(snakemake([path], "--dry-run"), cwd=top, capture_output=True).returncode == 0

        if asked := [path for path in missing if path not in optional or makeable(path)]:
            print(f"{', '.join(map(str, asked))} not made yet; running the workflow.", file=sys.stderr, flush=True)
            follow(snakemake(asked), top, top / results / "workflow.log")
    lacking = [str(path) for name, path in wanted.items() if not name.endswith("?") and not (top / path).exists()]
    if lacking:
        raise ValueError(f"the workflow could not make {', '.join(lacking)}; its message is above.")
    return [top / results / name.rstrip("?") if (top / path).exists() else None for name, path in wanted.items()]


def follow(command: list[str], folder: Path, log: Path) -> bool:
    """Run the workflow with one bar on stderr, a step a job; returns whether it succeeded.

    All that it says goes to `log`, and the end of it to stderr if it fails.
    """
    from tqdm import tqdm

    log.parent.mkdir(parents=True, exist_ok=True)
    last: deque[str] = deque(maxlen=40)
    with open(log, "w") as file, tqdm(unit="step", desc="workflow", leave=True) as bar:
        with subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as run:
            for line in run.stdout:
                file.write(line)
                file.flush()
                if rule := re.match(r"(?:local)?rule (\w+):", line):
                    bar.set_description(rule[1])
                elif done := re.match(r"(\d+) of (\d+) steps", line):
                    bar.total = int(done[2])
                    bar.update(int(done[1]) - bar.n)
                elif not re.search(r"\d+%\|", line):  # a job's own bar
                    last.append(line)
    if run.returncode:
        print(f"{''.join(last)}The whole log is {log}.", file=sys.stderr, flush=True)
    return run.returncode == 0


def clone() -> Path:
    """The project with its workflow, cloned into ./gandl at the library's own version.

    Raises:
        ValueError: it cannot be had; says what to do.
    """
    to = Path.cwd() / "gandl"
    print(f"The workflow is not here; cloning {REPOSITORY} into {to}.", file=sys.stderr, flush=True)
    command = ["git", "clone", "--quiet", "--depth", "1", "-c", "advice.detachedHead=false"]
    for branch in (f"v{gandl_lib.__version__}", "main"):
        if to.exists() or not shutil.which("git"):
            break
        if not subprocess.run([*command, "--branch", branch, REPOSITORY, str(to)], capture_output=True).returncode:
            return to
    raise ValueError(
        f"results have to be made, and {REPOSITORY} could not be cloned into {to}; clone it and run there."
    )


def with_snakemake() -> str:
    """A Python that has Snakemake: this one, or one made for it that sees all packages of this one and replaces none.

    Raises:
        ValueError: it cannot be made.
    """
    if find_spec("snakemake") and int(metadata.version("snakemake").split(".")[0]) >= 9 and find_spec("grimp"):
        return sys.executable
    home = bundle.cache() / f"workflow-{sys.version_info[0]}.{sys.version_info[1]}"
    python = home / "bin" / "python"
    if not (home / ".whole").exists():
        print("Making a small environment for the workflow.", file=sys.stderr, flush=True)
        # Without pip of its own: Colab's and Debian's Python cannot put one there.
        make = [sys.executable, "-m", "venv", "--clear", "--without-pip", "--system-site-packages", str(home)]
        install = [sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet", *WORKFLOW]
        for step in (make, install):
            done = subprocess.run(step, capture_output=True, text=True)
            if done.returncode:
                why = (done.stderr.strip().splitlines() or ["no message"])[-1]
                raise ValueError(f"results have to be made, and Snakemake cannot be installed for it ({why}).")
        (home / ".whole").touch()
    return str(python)


def _rows_of_real_screen(settings: Mapping[str, Any], results: Path) -> list[Path]:
    """Profiles of the profile's own rows, in order; none of a simulated screen, or, aloud, where one is not made."""
    if "folder" not in settings["screen"]:
        return []
    rows = settings["methods"]
    there = {row: path for row in rows if (path := results / "profiles" / f"{row}.h5ad").is_file()}
    # As in the Snakefile: rows of ImageNet networks are left out where their weights cannot be had.
    if lacking := [r for r, s in rows.items() if r not in there and not s.get("method", r).startswith("imagenet")]:
        print(f"{results} has no profiles of {', '.join(lacking)}, so the published profiles are judged alone.")
        return []
    return list(there.values())


def _same_sites(published: AnnData, own: AnnData) -> AnnData:
    """The rows of `published` that are sites (or wells) of `own`; both have to say the same of their wells."""
    unit = "site_id" if "site_id" in published.obs else "well_id"
    chosen = published[published.obs[unit].isin(own.obs[unit]).to_numpy()].copy()
    if not chosen.n_obs:
        raise ValueError(
            f"the published profiles share no {unit} with this profile's own; the first are "
            f"{published.obs[unit].iloc[0]} and {own.obs[unit].iloc[0]}. Take the published ones of this screen."
        )
    says = ["cell_type", "role", "compound", "concentration_uM"]
    theirs, ours = (p.obs.drop_duplicates("well_id").set_index("well_id")[says] for p in (chosen, own))
    ours = ours.loc[theirs.index]
    differ = ~(theirs.eq(ours) | (theirs.isna() & ours.isna())).all(axis=1)
    if differ.any():
        well = differ.idxmax()
        raise ValueError(
            f"{differ.sum()} of {len(differ)} wells are other ones in the published profiles than in this profile's "
            f"own, first {well}: {dict(theirs.loc[well])} and {dict(ours.loc[well])}. These are two screens."
        )
    if lacking := own.obs[unit].nunique() - chosen.obs[unit].nunique():
        print(f"{lacking} of {own.obs[unit].nunique()} have no published profile ({unit}).")
    return chosen


def _evaluated(results: Path, profile: str, published: Path, names: list[str]) -> list[Path | None]:
    """Tables of published profiles, alone or beside the profile's own, in a folder named after the content of all.

    Alone, the file of published profiles stands for the first of `profiles/`.
    """
    from gandl_lib.evaluate import EVALUATIONS
    from gandl_lib.files import sha256
    from gandl_lib.profiles import read

    if not published.is_file():
        raise ValueError(f"{published}: no such profiles; `gandl profiles EMBEDDINGS METADATA OUT.h5ad` makes some.")
    settings = yaml.safe_load((config() / f"{profile}.yaml").read_text())
    own = _rows_of_real_screen(settings, results / profile)
    normalisation, seed = (tuple(settings["normalisation"]), settings["seed"]) if own else (("all",), 0)
    content = hashlib.sha256("\n".join([*map(sha256, [published, *own]), *normalisation, str(seed)]).encode())
    folder = results / "published" / f"{published.stem}-{content.hexdigest()[:12]}"
    folder.mkdir(parents=True, exist_ok=True)
    profiles = None
    for evaluation, tables in EVALUATED.items():
        wanted = [name for name in names if name in tables]
        # A table that an evaluation of one method does not have (nobody to be paired with) is not asked for again.
        if wanted and not (folder / tables[0]).exists():
            if profiles is None:
                mine = [read(path) for path in own]
                profiles = [*mine, _same_sites(read(published), mine[0]) if own else read(published)]
            for key, table in EVALUATIONS[evaluation](profiles, normalisation, None, seed).items():
                table.to_csv(folder / f"{key.format(out=Path(tables[0]).stem)}.csv", index=False)
    places = [folder, results / profile] if own else [folder]
    found = [next((p / n for p in places if (p / target(n)).exists()), None) for n in names]
    if own:
        return found
    first = next((k for k, name in enumerate(names) if name.startswith("profiles/")), None)
    return [published if k == first else path for k, path in enumerate(found)]


def needs(chapter: Path) -> list[str]:
    """The names that a chapter's source asks `need` for, read without running it."""
    calls = [node for node in ast.walk(ast.parse(chapter.read_text())) if isinstance(node, ast.Call)]
    called = [c for c in calls if getattr(c.func, "id", getattr(c.func, "attr", None)) == "need"]
    return [arg.value for call in called for arg in call.args[1:] if isinstance(arg, ast.Constant)]


def paper(table: str) -> pd.DataFrame:
    """The numbers of a published table: `table1`, `zero_shot`, `hit_scores`, `plate25`; accuracies as fractions.

    Raises:
        ValueError: naming the known tables.
    """
    files = {path.stem.removeprefix("paper_"): path for path in REFERENCE.glob("paper_*.csv")}
    choose("table", table, files)
    return origins.mark(pd.read_csv(files[table], keep_default_na=False, na_values=["-"]), origins.PUBLISHED)


def recorded(name: str) -> pd.DataFrame:
    """A table of a recorded long run, book/reference/<name>.csv; its provenance lies beside it."""
    files = {path.stem: path for path in REFERENCE.glob("*.csv")}
    return origins.mark(pd.read_csv(files[choose("recorded table", name, files)]), origins.RECORDED)


# ---- parameters ----


def choose(name: str, value: Any, known: Iterable[Any]) -> Any:
    """`value` if it is among `known`; else a ValueError that lists what is and guesses what was meant."""
    known = sorted(known, key=str)
    if value not in known:
        near = difflib.get_close_matches(str(value), map(str, known), 1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise ValueError(f"unknown {name} {value!r}.{hint} Known: {', '.join(map(str, known))}.")
    return value


def check_parameters(namespace: Mapping[str, Any], *known: str) -> None:
    """Refuse an unknown profile, and parameters that a chapter does not have: papermill only warns of a misspelt `-p`.
    On a GPU it also says which profile to take there.

    To be called as `check_parameters(globals(), "profile", …)` right after the parameters cell, when the notebook has
    defined nothing else.

    Raises:
        ValueError: naming the first such parameter and those that the chapter has.
    """
    plain = (str, int, float, bool, list, dict, type(None))
    for name, value in namespace.items():
        if isinstance(value, plain) and not name.startswith("_") and name not in {"In", "Out", *known}:
            choose("parameter", name, known)
    if "profile" in known:
        choose("profile", namespace["profile"], profiles())
    if "fresh" in known and INSIDE not in os.environ and (advice := devices.advice(devices.gpu())):
        print(advice)


# ---- the paired notebooks ----


def pair(source: Path) -> str:
    """The text of the .ipynb beside `source` (py:percent): no outputs, and the same text on every call.

    A cell's id is a hash of its text, so that moving or adding cells leaves the others' ids alone.
    """
    import jupytext
    import nbformat

    notebook = jupytext.read(source, fmt="py:percent")
    seen: dict[str, int] = {}
    for cell in notebook.cells:
        text = f"{cell.cell_type}\n{cell.source}"
        seen[text] = seen.get(text, 0) + 1
        cell["id"] = hashlib.sha256(f"{seen[text]}\n{text}".encode()).hexdigest()[:12]
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    notebook.metadata = nbformat.from_dict({"kernelspec": kernel, "language_info": {"name": "python"}})
    nbformat.validate(notebook)
    return nbformat.writes(notebook, version=4) + "\n"


if __name__ == "__main__":
    for folder in sys.argv[1:]:
        for chapter in sorted(Path(folder).glob("[0-9][0-9]_*.py")):
            chapter.with_suffix(".ipynb").write_text(pair(chapter))
            print(chapter.with_suffix(".ipynb"))
