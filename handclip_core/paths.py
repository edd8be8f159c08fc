"""Where this package keeps what can be made again, and what marks the folder of a sweep."""

import os
from pathlib import Path

SWEEP_SETTINGS = "sweep.yaml"
"""The complete settings in a sweep's folder, which mark it as one."""
CACHE_VARIABLE = "HANDCLIP_CACHE"


def cache_root() -> Path:
    """The cache folder: ``$HANDCLIP_CACHE``, else ``handclip`` in the user's cache folder."""
    chosen = os.environ.get(CACHE_VARIABLE)
    if chosen:
        return Path(chosen).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")).expanduser() / "handclip"
