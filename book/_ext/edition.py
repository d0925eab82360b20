"""Which edition a page belongs to: version, date and commit below every page, and how to cite it.

All of it follows from the sources: the version and the citation from CITATION.cff, commit and date from git. So a build
of the same commit has the same pages, whenever it is made; outside a repository a page says its version alone.
"""

import functools
import subprocess
from html import escape
from pathlib import Path

import yaml
from bs4 import BeautifulSoup

ROOT = Path(__file__).parents[2]


def git(*command: str) -> str:
    """What git says about these sources; empty where there is no git, or the folder is no repository of its own."""
    try:
        run = subprocess.run(["git", *command], cwd=ROOT, capture_output=True, text=True)
    except OSError:
        return ""
    return run.stdout.strip() if run.returncode == 0 else ""


@functools.cache
def edition() -> dict[str, str]:
    """`version`, `title`, `authors`, `address`, `doi` of the paper, and `commit`, `date` (ISO) where git knows."""
    cff = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    whole = git("rev-parse", "--show-toplevel") == str(ROOT)
    changed = "+" if whole and git("status", "--porcelain", "--untracked-files=no") else ""
    commit = git("rev-parse", "--short=10", "HEAD") if whole else ""
    return {
        "version": str(cff["version"]),
        "title": cff["title"],
        "authors": ", ".join(a.get("name") or f"{a['given-names']} {a['family-names']}" for a in cff["authors"]),
        "address": cff["repository-code"],
        "doi": cff["references"][0]["doi"],
        "commit": commit and commit + changed,
        "date": git("show", "-s", "--format=%cs", "HEAD") if whole else "",
    }


def footer(e: dict[str, str], chapter: str = "") -> str:
    """HTML of one paragraph and one citation, of the chapter if its title is given, else of the whole."""
    e = {key: escape(value) for key, value in e.items()}
    part = f"“{escape(chapter)}”. In: " if chapter else ""
    link = f'<a href="{e["address"]}/commit/{e["commit"].rstrip("+")}">{e["commit"]}</a>'
    at = f", commit {link} of {e['date']}" if e["commit"] else ""
    year = f" ({e['date'][:4]})" if e["date"] else ""
    commit = f", commit {e['commit']}" if e["commit"] else ""
    return (
        f'<p class="edition">Version {e["version"]}{at}. Cite this{" chapter" * bool(chapter)}: '
        f"{e['authors']}{year}. {part}<cite>{e['title']}</cite>, "
        f"version {e['version']}{commit}. {e['address']}. And the paper: "
        f'<a href="https://doi.org/{e["doi"]}">doi:{e["doi"]}</a>.</p>'
    )


def of_the_page(app, pagename, templatename, context, doctree):
    """A chapter is cited by its own title."""
    title = BeautifulSoup(context.get("title", ""), "html.parser").get_text()
    if pagename.startswith("chapters/") and title:
        context["theme_extra_footer"] = footer(edition(), title)


def setup(app):
    app.connect("html-page-context", of_the_page)
    app.connect("config-inited", lambda app, config: config.html_theme_options.update(extra_footer=footer(edition())))
    return {"parallel_read_safe": True, "parallel_write_safe": True, "version": edition()["commit"]}
