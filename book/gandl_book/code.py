"""The library's own source on a page: what is read there is what ran."""

from __future__ import annotations

import inspect
from collections.abc import Callable

from IPython.display import Markdown


def source(*things: Callable) -> Markdown:
    """The source of functions or classes, highlighted as the page highlights its cells."""
    texts = [inspect.getsource(inspect.unwrap(thing)).rstrip() for thing in things]
    return Markdown("```python\n" + "\n\n\n".join(inspect.cleandoc("\n" + text) for text in texts) + "\n```")
