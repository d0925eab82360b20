"""Networks that know nothing of plates."""
