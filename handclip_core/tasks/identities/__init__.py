"""Recognising identities: each query image is searched in a gallery."""
