"""Faults on purpose: a small sweep is disturbed, and its results are compared with those of one left in peace."""
