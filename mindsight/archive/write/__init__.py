"""A session's archive written: BIDS raw data, and Mindsight's derivatives of it."""
