"""Commands that make models: each writes a folder that the library loads, with figures of its accuracy."""
