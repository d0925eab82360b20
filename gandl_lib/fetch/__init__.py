"""Public screens from their homes: `screens` knows addresses, `transfer` brings a file, `archives` members of a zip."""
