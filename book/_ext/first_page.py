"""What the first page takes from the chapters, and links where a text mentions one.

**`{from-chapter} NAME TAG`** puts here what the cell with this tag of book/chapters/NAME.ipynb has shown: a sentence on
the first page is then made from the tables it speaks of, as in the chapter itself.

**"chapter 04"** in any text, also in sentences that chapters make, becomes a link to that chapter.
"""

import re
from pathlib import Path

import nbformat
from docutils import nodes
from docutils.parsers.rst import Directive
from docutils.statemachine import StringList

MENTION = re.compile(r"\b[Cc]hapters? \d\d(?:(?:, | and | to )\d\d)*")


class FromChapter(Directive):
    required_arguments = 2

    def run(self):
        env = self.state.document.settings.env
        name, tag = self.arguments
        file = Path(env.srcdir, "chapters", f"{name}.ipynb")
        env.note_dependency(str(file))
        cells = nbformat.read(file, as_version=4).cells
        found = [cell for cell in cells if tag in cell.metadata.get("tags", [])]
        texts = [
            out.data["text/markdown"]
            for cell in found
            for out in cell.outputs
            if "text/markdown" in out.get("data", {})
        ]
        if not texts:
            raise self.error(f"no cell of {file.name} that is tagged {tag} shows any text")
        box = nodes.container()
        lines = "\n\n".join("".join(text) for text in texts).splitlines()
        self.state.nested_parse(StringList(lines, source=str(file)), self.content_offset, box)
        return box.children


def mentions(app, doctree, docname):
    """Link every two-digit number of `MENTION` to the chapter of that number, but on the chapter itself."""
    chapters = {Path(doc).name[:2]: doc for doc in app.env.found_docs if re.match(r"chapters/\d\d_", doc)}
    for text in list(doctree.findall(nodes.Text)):
        around = text.parent
        if isinstance(
            around, nodes.literal | nodes.literal_block | nodes.reference | nodes.title | nodes.raw | nodes.math
        ):
            continue
        new, at = [], 0
        for mention in MENTION.finditer(text):
            for number in re.finditer(r"\d\d", mention.group()):
                target = chapters.get(number.group())
                if target is None or target == docname:
                    continue
                first = number.start() == re.search(r"\d\d", mention.group()).start()
                start = mention.start() + (0 if first else number.start())
                new.append(nodes.Text(text[at:start]))
                at = mention.start() + number.end()
                uri = app.builder.get_relative_uri(docname, target)
                new.append(nodes.reference("", text[start:at], internal=True, refuri=uri))
        if new:
            around.replace(text, [*new, nodes.Text(text[at:])])


def setup(app):
    app.add_directive("from-chapter", FromChapter)
    app.connect("doctree-resolved", mentions)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
