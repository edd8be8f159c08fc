"""Strategies that train both towers on images with texts."""
