"""Evaluation: retrieval, verification, protocol, intervals."""
