"""Names that backbones go by."""

from pathlib import Path

NANO = "handclip-nano"
"""The small CLIP that comes with the package."""
NANO_FOLDER = Path(__file__).parent / "nano"
CONFIG_FILE = "open_clip_config.json"
LOCAL_FOLDER = "local-dir:"
TIMM = "timm/"
"""Begins the name of an image tower of timm, which has no text tower."""
QUICK = "-quickgelu"
"""Ends the name of an architecture that computes QuickGELU, as OpenAI's weights need."""


def folder_of(name: str) -> Path | None:
    """The folder of a model that is none of open_clip's own."""
    if name == NANO:
        return NANO_FOLDER
    return Path(name.removeprefix(LOCAL_FOLDER)) if name.startswith(LOCAL_FOLDER) else None
