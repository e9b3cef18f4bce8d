"""Ridge regression from a beta to features."""
