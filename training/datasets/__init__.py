"""Trials to train on, of one type, from archives, released files, BIDS derivatives, live sessions and simulators."""
