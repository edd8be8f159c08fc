"""How the small CLIP that comes with the package was made."""
