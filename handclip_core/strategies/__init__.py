"""Strategies: one short file each."""
