"""What the book and the report of a screen share: style, figures, and sentences made from tables.

`page` has colours, style and captions; `words` how scores are put; the others a topic each.
"""
