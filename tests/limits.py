"""How long tests wait."""

LIMIT_S = 900.0
"""Seconds until a test gives up on what must come. A busy machine may be ten times as slow as a quiet one, and a limit
costs nothing until it is reached."""
