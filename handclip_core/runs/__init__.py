"""Experiments as they run."""
