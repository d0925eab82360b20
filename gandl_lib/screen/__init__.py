"""Own plates: `run` is `gandl screen`, `report` its page, `quality` controls and edges, `export` the way out."""
