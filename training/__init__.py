"""Commands that make models: each writes a folder that the library loads, with the figures that judge it."""
