"""What the theme lacks: launch links to where the notebooks lie, one for Kaggle, and MathJax without a network."""

from importlib.metadata import files
from pathlib import Path
from shutil import copy2

MATHJAX = "mathjax/tex-svg.js"


def launch_links(app, pagename, templatename, context, doctree):
    """Chapters are built from book/chapters/ (executed, not committed), but are launched from notebooks/."""
    theme = app.config.html_theme_options
    repository, branch = theme["repository_url"], theme["repository_branch"]
    for button in context.get("header_buttons", []):
        if button.get("label") == "launch-buttons":
            for link in button["buttons"]:
                link["url"] = link["url"].replace(f"{theme['path_to_docs']}/chapters/".lstrip("/"), "notebooks/")
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
    app.connect("build-finished", ship_mathjax)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
