"""The demo's encoder and generator: training and figures."""
