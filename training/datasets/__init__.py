"""Runs to train on: for now those of simulated participants."""
