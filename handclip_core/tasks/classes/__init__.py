"""Classifying images: each image has one class, whose name CLIP can read."""
