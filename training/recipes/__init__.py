"""Commands that made each shipped model."""
