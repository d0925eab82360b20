"""Simulated screens with known truth: `screens` and `drugs` write them, `cells` and `mcf7` are their cells."""
