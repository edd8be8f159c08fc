"""The winner in use: any finished run as a model that embeds, enrols, identifies, verifies, and exports."""
