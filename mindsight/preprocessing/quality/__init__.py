"""Figures of data quality, and the rules that turn them into alerts."""
