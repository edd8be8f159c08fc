"""Models: the CLIP backbone, necks, heads, adapters."""
