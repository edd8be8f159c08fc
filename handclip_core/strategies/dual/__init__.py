"""Strategies that train both towers on captions."""
