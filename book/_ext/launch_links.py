"""What the theme lacks: launch links to the notebooks of this very build, one for Kaggle, figures that answer, heads
and buttons that readers of a screen can make sense of, and MathJax without a network."""

from importlib.metadata import files
from pathlib import Path
from shutil import copy2

from bs4 import BeautifulSoup
from edition import edition, git

MATHJAX = "mathjax/tex-svg.js"
LIVE = Path(__file__).parents[2] / "gandl_lib" / "plots"


def launch_links(app, pagename, templatename, context, doctree):
    """Chapters are built from book/chapters/ (executed, not committed), but are launched from notebooks/.

    They are launched as they were when this book was made, by its commit; where nobody knows it, from the branch.
    """
    theme = app.config.html_theme_options
    repository, named = theme["repository_url"], theme["repository_branch"]
    branch = (edition()["commit"] and git("rev-parse", "HEAD")) or named
    for button in context.get("header_buttons", []):
        if button.get("label") == "launch-buttons":
            for link in button["buttons"]:
                at = link["url"].replace(f"{theme['path_to_docs']}/chapters/".lstrip("/"), "notebooks/")
                for before, after in ((f"/blob/{named}/", f"/blob/{branch}/"), (f"/{named}?", f"/{branch}?")):
                    at = at.replace(before, after)
                link["url"] = at
            notebook = f"{repository}/blob/{branch}/notebooks/{Path(pagename).name}.ipynb"
            button["buttons"].append(
                {
                    "type": "link",
                    "text": "Kaggle",
                    "tooltip": "Launch on Kaggle",
                    "icon": "fab fa-kaggle",
                    "url": f"https://kaggle.com/kernels/welcome?src={notebook}",
                }
            )


def understood(app, pagename, templatename, context, doctree):
    """What is wrong for who listens to a page, in outputs and in the theme's own pieces, is put right in its HTML."""
    if "body" not in context:
        return
    page = BeautifulSoup(context["body"], "html.parser")
    for head in page.find_all("th"):
        if not head.get_text(strip=True) and not head.find("img"):
            head.name = "td"
            head.attrs.pop("scope", None)
        elif not head.get("scope"):
            head["scope"] = "col" if head.find_parent("thead") else "row"
    for summary in page.select("details.hide > summary[aria-label], details.toggle-details > summary[aria-label]"):
        del summary["aria-label"]  # what is read out is what is written there
    context["body"] = str(page)


def live_figures(app):
    for name in ("live.js", "live.css"):
        to = Path(app.outdir, "_static", name)
        to.parent.mkdir(parents=True, exist_ok=True)
        copy2(LIVE / name, to)


def ship_mathjax(app, exception):
    if exception is None and app.builder.format == "html":
        source = next(f for f in files("sphinx-mathjax-offline") if f.name == Path(MATHJAX).name)
        to = Path(app.outdir, "_static", MATHJAX)
        to.parent.mkdir(exist_ok=True)
        copy2(source.locate(), to)


def setup(app):
    app.config.mathjax_path = MATHJAX
    # Live cells would load their engine from a network; they are not offered, so their scripts are left out as well.
    for listeners in app.events.listeners.values():
        listeners[:] = [one for one in listeners if not one.handler.__module__.startswith("sphinx_thebe")]
    app.registry.css_files[:] = [one for one in app.registry.css_files if "thebe" not in one[0]]
    app.connect("html-page-context", launch_links, priority=900)
    app.connect("html-page-context", understood, priority=900)
    app.connect("builder-inited", live_figures)
    app.add_js_file("live.js", loading_method="defer")
    app.add_css_file("live.css")
    app.connect("build-finished", ship_mathjax)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
