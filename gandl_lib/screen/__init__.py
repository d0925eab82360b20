"""Own plates: `run` is `gandl screen`, `report` its page, `quality` controls and edges, `strip` cells
moved along the axis, `export` the way out.
"""
