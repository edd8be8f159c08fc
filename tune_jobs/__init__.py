"""The search service: the only package that imports Ray."""
