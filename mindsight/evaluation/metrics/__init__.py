"""One file per family of published metrics."""
