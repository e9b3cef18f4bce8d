"""Work that no volume and no result waits for."""
