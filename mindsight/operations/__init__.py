"""Programs that run the service as a whole."""
