"""What several rooms' tests share: files written small, harnesses, oracles, simulated worlds."""
