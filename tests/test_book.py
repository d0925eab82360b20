"""Chapters and their pairs, what chapters call, and the pages that come out."""

from __future__ import annotations

import ast
import importlib.util
import json
import os
import re
import subprocess
import sys
from functools import cache
from pathlib import Path
from urllib.parse import unquote, urlsplit

import jupytext
import nbformat
import papermill
import pytest
from bs4 import BeautifulSoup
from built import ROOT, tiny_book
from gandl_book import chapters

import gandl_lib

SOURCES = sorted((ROOT / "notebooks").glob("[0-9][0-9]_*.py"))
by_chapter = pytest.mark.parametrize("source", SOURCES, ids=[path.stem for path in SOURCES])


# ---- the notebooks ----


@by_chapter
def test_the_pair_is_in_step_and_has_no_outputs(source: Path) -> None:
    paired = source.with_suffix(".ipynb").read_text()
    assert paired == chapters.pair(source), "run `make notebooks`"
    notebook = nbformat.reads(paired, as_version=4)
    assert set(notebook.metadata) == {"kernelspec", "language_info"}
    assert all(not cell.get("outputs") and cell.get("execution_count") is None for cell in notebook.cells)


@by_chapter
def test_every_notebook_has_a_source_and_reads_back(source: Path) -> None:
    assert {p.stem for p in (ROOT / "notebooks").glob("*.ipynb")} == {p.stem for p in SOURCES}
    ours, theirs = jupytext.read(source), jupytext.read(source.with_suffix(".ipynb"))
    assert [cell.source for cell in ours.cells] == [cell.source for cell in theirs.cells]


def test_ids_of_cells_stay_when_others_come_and_go(tmp_path: Path) -> None:
    cells = ["# %% [markdown]\n# text\n", "# %%\n1 + 1\n", "# %%\n2 + 2\n", "# %%\n2 + 2\n"]
    path = tmp_path / "00_x.py"
    path.write_text("\n".join(cells))
    before = [c["id"] for c in json.loads(chapters.pair(path))["cells"]]
    path.write_text("\n".join([cells[2], "# %%\n3 + 3\n", cells[0], cells[1], cells[3]]))
    after = [c["id"] for c in json.loads(chapters.pair(path))["cells"]]
    assert len(set(before)) == 4 and len(set(after)) == 5
    assert set(before) < set(after)


@by_chapter
def test_chapters_begin_alike(source: Path) -> None:
    """A title with its number, the cell that works on Colab, parameters, and the check of those parameters."""
    notebook = jupytext.read(source)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert notebook.cells[0].source.startswith(f"# {source.name[:2]} · ") and notebook.cells[0].cell_type == "markdown"
    assert code[0].source == setup_cell() and code[0].metadata["tags"] == ["remove-cell"]
    assert code[1].metadata["tags"] == ["parameters"]
    known = papermill.inspect_notebook(str(source.with_suffix(".ipynb")))
    assert known["profile"]["default"] == '"quick"'
    (call,) = re.findall(r"^check_parameters\(globals\(\), (.*)\)", code[2].source, re.MULTILINE)
    assert set(ast.literal_eval(f"[{call}]")) == set(known)


PRIMITIVE = {
    "00_question": "infected[test].mean",
    "01_data": "np.quantile",
    "02_training": "losses.r1",
    "03_counterparts": "pretrained.network",
    "04_separability": "svm.fit",
    "05_dose_response": "dose_response.fit",
    "06_zero_shot": "LinearSVC",
    "07_cytogan": "likeness.argmax",
    "08_paradigms": "F.cosine_similarity",
    "09_own_screen": "screen.screen",
    "10_real_plate": "filters.threshold_otsu",
    "11_hits": "hits",
    "12_axis": "np.linalg.svd",
    "99_results": "narrate.on_simulated",
}
"""What a chapter is about, and calls where a reader sees it."""
HIDDEN = {"remove-cell", "remove-input", "hide-input", "hide-cell"}
LONGEST_CELL = 30


@by_chapter
def test_chapters_show_what_they_are_about(source: Path) -> None:
    """No shown cell is too long to read, none defines what the library has, and one calls the chapter's primitive."""
    cells = [cell for cell in jupytext.read(source).cells if cell.cell_type == "code" and cell.source != setup_cell()]
    library = library_names()
    calls = set()
    for cell in cells:
        nodes = list(ast.walk(ast.parse(cell.source)))
        defined = {n.name for n in nodes if isinstance(n, ast.FunctionDef | ast.ClassDef)}
        assert not defined & library, f"the library has {defined & library} already"
        if not HIDDEN & set(cell.metadata.get("tags", [])):
            assert len(cell.source.splitlines()) <= LONGEST_CELL, cell.source
        if not {"remove-cell", "remove-input"} & set(cell.metadata.get("tags", [])):
            calls |= {ast.unparse(n.func) for n in nodes if isinstance(n, ast.Call)}
    if source.stem in PRIMITIVE:
        assert PRIMITIVE[source.stem] in calls


def test_primitives_are_of_chapters_that_exist() -> None:
    assert set(PRIMITIVE) <= {source.stem for source in SOURCES}


@cache
def library_names() -> set[str]:
    """Functions and classes that the library and the book's package define at the top of a module."""
    files = [f for folder in ("gandl_lib", "book/gandl_book") for f in (ROOT / folder).rglob("*.py")]
    tops = [node for f in files for node in ast.parse(f.read_text()).body]
    return {node.name for node in tops if isinstance(node, ast.FunctionDef | ast.ClassDef)}


def setup_cell() -> str:
    return next(cell.source for cell in jupytext.read(SOURCES[0]).cells if cell.cell_type == "code")


def test_tables_that_chapters_ask_for_are_there() -> None:
    """In every profile: a chapter may read one only where there is a longer run to show."""
    asked = [m for source in SOURCES for m in re.findall(r'\b(paper|recorded)\("([^"]+)"\)', source.read_text())]
    assert {kind for kind, _ in asked} == {"paper", "recorded"}
    for kind, table in asked:
        assert len(getattr(chapters, kind)(table)), table


@pytest.mark.parametrize("fails", [0, 1, 2])
def test_the_first_cell_installs_and_upgrades_nothing(
    fails: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Run it as on Colab, with a stand-in for python that writes down how it was called and fails the first times."""
    log, python = tmp_path / "log", tmp_path / "python"
    python.write_text(
        f"""#!/bin/sh
if [ "$3" = freeze ]; then printf "numpy==1.0\\nodd @ file:///x\\n"; exit 0; fi
echo "$@" >> {log}
if [ $(wc -l < {log}) -le {fails} ]; then echo "ERROR: nothing fits" >&2; exit 1; fi
"""
    )
    python.chmod(0o755)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "executable", str(python))
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    if fails == 2:
        with pytest.raises(SystemExit, match="cannot be installed beside this kernel's packages: ERROR: nothing fits"):
            exec(setup_cell(), {})
    else:
        exec(setup_cell(), {})
    installs = log.read_text().splitlines()
    assert len(installs) == min(fails + 1, 2)
    version = gandl_lib.__version__
    for install, source in zip(installs, (f"/v{version}/gandl-{version}-py3", "git+https"), strict=False):
        assert "--constraint keep.txt" in install and source in install
        assert "upgrade" not in install and " -U" not in install
    assert (tmp_path / "keep.txt").read_text() == "numpy==1.0\n"
    # At home: nothing at all.
    monkeypatch.undo()
    here, before = Path.cwd(), log.read_text()
    exec(setup_cell(), {})
    assert Path.cwd() == here and log.read_text() == before and not Path("keep.txt").exists()


# ---- what chapters call ----


@pytest.fixture
def small_project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project whose workflow makes one table and one folder."""
    (tmp_path / "config").mkdir()
    for name in ("quick", "tiny"):
        (tmp_path / "config" / f"{name}.yaml").write_text("seed: 0\n")
    (tmp_path / "Snakefile").write_text(
        "rule a:\n    output: 'results/{p}/a.csv', 'results/{p}/runs/m/weights.safetensors'\n"
        "    shell: 'echo made >> log; touch {output}'\n"
        "rule b:\n    output: 'results/quick/b.csv'\n    shell: 'touch {output}'\n"
    )
    (tmp_path / "notebooks").mkdir()
    monkeypatch.chdir(tmp_path / "notebooks")
    monkeypatch.setenv("GANDL_BUNDLE", "none")
    return tmp_path


def test_need_makes_what_is_missing_once(small_project: Path) -> None:
    a, m, b, c = chapters.need("quick", "a.csv", "runs/m", "b.csv?", "c.csv?")
    assert a == small_project / "results/quick/a.csv" and a.exists()
    assert m == small_project / "results/quick/runs/m" and m.is_dir()
    assert b == small_project / "results/quick/b.csv" and b.exists()
    assert c is None
    b.unlink()
    assert chapters.need("quick", "a.csv", "b.csv?") == [a, b] and b.exists()
    assert (small_project / "log").read_text() == "made\n"


def test_need_runs_nothing_inside_the_workflow(small_project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(chapters.INSIDE, "1")
    assert chapters.need("quick", "b.csv?") == [None]
    with pytest.raises(ValueError, match=r"could not make results/quick/a\.csv"):
        chapters.need("quick", "a.csv")
    assert not (small_project / "results").exists()


def test_the_workflow_shows_a_bar_and_keeps_its_log(small_project: Path, capfd: pytest.CaptureFixture[str]) -> None:
    chapters.need("quick", "a.csv")
    shown, log = capfd.readouterr().err, (small_project / "results/quick/workflow.log").read_text()
    assert "1/1" in shown and "Building DAG" in log and "Building DAG" not in shown
    (small_project / "Snakefile").write_text(
        "rule c:\n    output: 'results/quick/c.csv'\n    shell: 'echo woe; exit 3'\n"
    )
    with pytest.raises(ValueError, match=r"could not make results/quick/c\.csv"):
        chapters.need("quick", "c.csv")
    assert "woe" in capfd.readouterr().err


def test_the_workflow_gets_an_environment_of_its_own_where_snakemake_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It sees the packages of this one and replaces none; made once, and only where Snakemake is missing."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert chapters.with_snakemake() == sys.executable
    monkeypatch.setattr(chapters, "find_spec", lambda name: None)
    monkeypatch.setattr(chapters, "WORKFLOW", ("no-such-package-of-anybody @ file:///nowhere.whl",))
    with pytest.raises(ValueError, match="Snakemake cannot be installed"):
        chapters.with_snakemake()
    monkeypatch.setattr(chapters, "WORKFLOW", ("--requirement=/dev/null",))
    python = chapters.with_snakemake()
    assert subprocess.run([python, "-c", "import torch"], check=False).returncode in (0, 1) and python != sys.executable
    assert "include-system-site-packages = true" in (Path(python).parents[1] / "pyvenv.cfg").read_text()
    monkeypatch.setattr(subprocess, "run", None)
    assert chapters.with_snakemake() == python


def test_need_says_what_it_cannot_do(small_project: Path) -> None:
    with pytest.raises(ValueError, match="unknown profile 'quikc'. Did you mean 'quick'. Known: quick, tiny"):
        chapters.need("quikc", "a.csv")
    with pytest.raises(ValueError, match=r"could not make results/quick/c\.csv"):
        chapters.need("quick", "c.csv")


def test_needs_reads_what_need_is_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "x.py"
    path.write_text(
        'import x\na, b = need(profile, "a.csv", "b.csv?")\n[c] = chapters.need(profile, "shards/s.zarr")\n'
    )
    assert chapters.needs(path) == ["a.csv", "b.csv?", "shards/s.zarr"]
    assert [chapters.target(name) for name in ("a.csv", "shards/s.zarr", "runs/gandl")] == [
        "a.csv",
        "shards/s.zarr/zarr.json",
        "runs/gandl/weights.safetensors",
    ]


def test_unknown_parameters_are_refused() -> None:
    namespace = {"profile": "quick", "compound": "Remdesivir", "_i": "", "In": [""], "Out": {}, "os": os}
    chapters.check_parameters(namespace, "profile", "compound")
    with pytest.raises(ValueError, match="unknown parameter 'compund'.*'compound'.* Known: compound, profile"):
        chapters.check_parameters(namespace | {"compund": "x"}, "profile", "compound")
    with pytest.raises(ValueError, match="unknown profile 'tinny'. Did you mean 'tiny'"):
        chapters.check_parameters(namespace | {"profile": "tinny"}, "profile", "compound")


def test_papermill_stops_at_a_misspelt_parameter(tmp_path: Path) -> None:
    """The whole way that a re-runner goes, not just the function."""
    command = [
        sys.executable,
        "-m",
        "papermill",
        str(ROOT / "notebooks" / "00_question.ipynb"),
        str(tmp_path / "o.ipynb"),
    ]
    run = subprocess.run([*command, "-k", "python3", "-p", "profil", "tiny"], cwd=ROOT, capture_output=True, text=True)
    assert run.returncode != 0 and "unknown parameter 'profil'. Did you mean 'profile'" in run.stderr


def test_unknown_published_tables_are_refused() -> None:
    with pytest.raises(ValueError, match="unknown table 'table9'"):
        chapters.paper("table9")


def test_published_tables_are_whole() -> None:
    assert chapters.paper("table1").pivot(index="task", columns="method", values="accuracy").notna().all(axis=None)
    assert chapters.paper("zero_shot")["accuracy"].between(0, 1).all()
    assert chapters.paper("hit_scores").groupby(["compound", "experiment"]).size().eq(1).all()


# ---- the pages ----


@cache
def pages() -> dict[Path, BeautifulSoup]:
    html = tiny_book() / "_build" / "html"
    found = [path for path in html.rglob("*.html") if "_static" not in path.parts]  # templates that themes ship
    return {path: BeautifulSoup(path.read_text(), "html.parser") for path in found}


@pytest.mark.workflow
def test_every_chapter_has_its_page_in_order() -> None:
    html = tiny_book() / "_build" / "html"
    listed = [urlsplit(a["href"]).path for a in pages()[html / "index.html"].select("nav.bd-links a[href*=chapters]")]
    assert listed == [f"chapters/{source.stem}.html" for source in SOURCES]
    assert {f"chapters/{source.stem}.html" for source in SOURCES} <= {str(p.relative_to(html)) for p in pages()}


@pytest.mark.workflow
def test_pages_fetch_nothing_from_elsewhere() -> None:
    """The book opens offline: no script, style, font, picture or frame has an address with a host."""
    fetched = {"script": "src", "link": "href", "img": "src", "iframe": "src", "source": "src", "video": "src"}
    for path, page in pages().items():
        for tag, attribute in fetched.items():
            for element in page.find_all(tag, attrs={attribute: True}):
                assert not urlsplit(element[attribute]).netloc, f"{path.name}: {element}"
    for style in (tiny_book() / "_build" / "html").rglob("*.css"):
        assert not re.search(r"(@import|url\()\s*['\"]?(https?:)?//", style.read_text()), style
    assert (tiny_book() / "_build" / "html" / "_static" / "mathjax" / "tex-svg.js").stat().st_size > 1e6


@pytest.mark.workflow
def test_internal_links_lead_somewhere() -> None:
    for path, page in pages().items():
        for element in page.select("a[href], link[href], script[src], img[src]"):
            link = urlsplit(element.get("href") or element.get("src"))
            if link.scheme or link.netloc:
                continue
            target = (path.parent / unquote(link.path)).resolve() if link.path else path
            assert target.exists(), f"{path.name} links to {link.path}"
            if link.fragment and element.name == "a" and target in pages():
                ids = {e.get("id") for e in pages()[target].find_all(id=True)}
                assert unquote(link.fragment) in ids, f"{path.name} links to {link.path}#{link.fragment}"


@pytest.mark.workflow
def test_every_image_says_what_it_shows() -> None:
    for path, page in pages().items():
        for image in page.select(".bd-article img"):
            text = image.get("alt", "")
            assert len(text.split()) >= 3 and not text.startswith(("../", "_images")), f"{path.name}: {image}"


@pytest.mark.workflow
@by_chapter
def test_every_chapter_has_launch_buttons(source: Path) -> None:
    page = pages()[tiny_book() / "_build" / "html" / "chapters" / f"{source.stem}.html"]
    links = [a["href"] for a in page.select(".dropdown-launch-buttons a[href]")]
    for host in ("colab.research.google.com", "mybinder.org", "kaggle.com"):
        (link,) = (a for a in links if urlsplit(a).netloc == host)
        assert link.endswith(f"notebooks/{source.stem}.ipynb") and "chapters" not in link
    assert (ROOT / "notebooks" / f"{source.stem}.ipynb").exists()


@pytest.mark.workflow
@by_chapter
def test_chapters_ran_without_errors(source: Path) -> None:
    notebook = nbformat.read(tiny_book() / "results" / "tiny" / "chapters" / f"{source.stem}.ipynb", as_version=4)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert all(cell.execution_count for cell in code)
    for output in [output for cell in code for output in cell.outputs]:
        assert output.output_type != "error"
        assert "Warning" not in output.get("text", ""), output.text
