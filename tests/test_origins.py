"""Where a figure or a table is from, said in front of its caption; and what the first page takes from chapters."""

from __future__ import annotations

import ast
import sys
from types import SimpleNamespace

import jupytext
import nbformat
import pandas as pd
import pytest
from built import ROOT
from docutils import nodes
from docutils.utils import new_document
from gandl_book import chapters, figures, origins

from gandl_lib.plots.page import live, tell

sys.path.insert(0, str(ROOT / "book" / "_ext"))
import first_page

CAPTION = "What `a.csv` has, <so> far."


def page(frame: pd.DataFrame, of: object = None) -> str:
    return figures.table(frame, CAPTION, of=of).bundle["text/html"]


def words(text: str) -> list[str]:
    return [word for word in origins.EXPLAINED if f">{word}</span>" in text]


def test_a_table_says_which_of_its_rows_came_with_the_project(tmp_path):
    configuration = tmp_path / "some.yaml"
    configuration.write_text("methods:\n  gandl: { weights: a.safetensors }\n  intensity: {}\n  mae: { images: 9 }\n")
    origins.opened(configuration)
    frame = pd.DataFrame({"method": ["intensity", "mae"], "value": 1})
    assert words(page(frame)) == ["this build"]
    assert words(page(frame.replace("mae", "gandl"))) == ["this build", "shipped weights"]
    assert words(page(frame.replace("mae", "GAN-DL"))) == ["this build", "shipped weights"]  # as tables call it
    assert words(page(frame, of="gandl")) == ["this build", "shipped weights"]
    assert words(page(frame, of=["mae"])) == ["this build"]
    assert words(page(frame.assign(other="gandl"))) == ["this build", "shipped weights"]  # paired.csv


def test_recorded_and_published_tables_carry_their_mark():
    assert words(page(chapters.recorded("fresh_screen"))) == ["recorded"]
    assert words(page(chapters.recorded("fresh_screen").query("split == 'well'"))) == ["recorded"]
    assert words(page(chapters.paper("table1"))) == ["published"]
    assert words(page(pd.DataFrame({"x": [1]}), of="recorded")) == ["recorded"]


def test_a_figure_is_of_the_table_it_was_drawn_from():
    scores = chapters.recorded("fresh_screen")
    assert words(figures.show(figures.accuracy_plot(scores), CAPTION).bundle["text/html"]) == ["recorded"]
    shown = figures.show(figures.accuracy_plot(scores), CAPTION, of=["intensity"])
    assert words(shown.bundle["text/html"]) == ["this build"]
    assert words(figures.show(figures.accuracy_plot(None), CAPTION).bundle["text/html"]) == ["this build"]


def test_code_is_set_in_captions_only():
    """The script that makes a figure answer lies behind its caption, and quotes with the same sign."""
    figure = figures.probe_curve(
        pd.DataFrame({"n_seen": [0, 8], "probe_accuracy": [0.5, 0.6], "probe_balanced_accuracy": [0.5, 0.6]}), 0.6
    )
    tell(figure.axes[0].scatter([1, 2], [0.5, 0.6]), ["one", "two"])
    shown = figures.show(figure, CAPTION).bundle["text/html"]
    assert "<code>a.csv</code>" in shown and shown.count("<code>") == 1
    assert live() in shown


def test_a_caption_keeps_its_words_and_sets_code():
    text = page(pd.DataFrame({"x": [1]}))
    assert "What <code>a.csv</code> has, &lt;so&gt; far.</figcaption>" in text
    assert figures.ABSENT in page(None) and not words(page(None))


def document(text: str) -> nodes.document:
    made = new_document("x")
    made += nodes.paragraph("", "", nodes.Text(text), nodes.literal("", "chapter 04"))
    return made


@pytest.mark.parametrize(
    ("text", "linked"),
    [
        ("see chapter 04 for it", ["chapter 04"]),
        ("Chapters 04, 10 and 99 do", ["Chapters 04", "10", "99"]),
        ("chapter 05 is this one, chapter 77 is none", []),
        ("nothing here, 04", []),
    ],
)
def test_mentions_of_chapters_are_links_and_the_words_stay(text, linked):
    made = document(text)
    before = made.astext()
    docs = {"chapters/04_a", "chapters/05_b", "chapters/10_c", "chapters/99_d", "index"}
    builder = SimpleNamespace(get_relative_uri=lambda here, there: there + ".html")
    app = SimpleNamespace(env=SimpleNamespace(found_docs=docs), builder=builder)
    first_page.mentions(app, made, "chapters/05_b")
    assert made.astext() == before
    found = list(made.findall(nodes.reference))
    assert [one.astext() for one in found] == linked
    assert all(one["refuri"].startswith("chapters/" + one.astext()[-2:]) for one in found)


def test_the_first_page_takes_from_cells_that_exist():
    """Each tag it names belongs to one cell of the chapter it names."""
    index = (ROOT / "book" / "index.md").read_text()
    asked = [line.split()[1:] for line in index.splitlines() if line.startswith("```{from-chapter}")]
    assert len(asked) == 3
    for name, tag in asked:
        cells = nbformat.read(ROOT / "notebooks" / f"{name}.ipynb", as_version=4).cells
        assert sum(tag in cell.metadata.get("tags", []) for cell in cells) == 1


@pytest.mark.parametrize("source", sorted((ROOT / "notebooks").glob("[0-9][0-9]_*.py")), ids=lambda path: path.stem)
def test_what_is_recorded_is_called_so(source):
    """A table made from a recorded one says so, for such a mark does not survive every transformation."""
    trees = [ast.parse(cell.source) for cell in jupytext.read(source).cells if cell.cell_type == "code"]
    nodes = [node for tree in trees for node in ast.walk(tree)]

    def used(node: ast.AST) -> set[str]:
        return {one.id for one in ast.walk(node) if isinstance(one, ast.Name)}

    marked = {n.targets[0].id for n in nodes if isinstance(n, ast.Assign) and isinstance(n.targets[0], ast.Name)
              and "recorded" in used(n.value)}  # fmt: skip
    for node in nodes:
        if (
            isinstance(node, ast.Call)
            and getattr(node.func, "id", "") == "table"
            and isinstance(node.args[0], ast.Call)
        ):
            if used(node.args[0]) & {"recorded", *marked}:
                assert any(keyword.arg == "of" for keyword in node.keywords), ast.unparse(node)
