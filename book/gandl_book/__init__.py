"""What only the chapters of the book call; nothing in `gandl_lib` imports it."""
