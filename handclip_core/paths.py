"""Where this package keeps what can be made again and what cannot, and what marks the folder of a sweep."""

import os
from pathlib import Path

SWEEP_SETTINGS = "sweep.yaml"
"""The complete settings in a sweep's folder, which mark it as one."""
CACHE_VARIABLE, STATE_VARIABLE = "HANDCLIP_CACHE", "HANDCLIP_STATE"


def cache_root() -> Path:
    """The cache folder: ``$HANDCLIP_CACHE``, else ``handclip`` in the user's cache folder."""
    chosen = os.environ.get(CACHE_VARIABLE)
    if chosen:
        return Path(chosen).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")).expanduser() / "handclip"


def state_root() -> Path:
    """The folder of what must not get lost: ``$HANDCLIP_STATE``, else ``handclip`` in the user's state folder."""
    chosen = os.environ.get(STATE_VARIABLE)
    if chosen:
        return Path(chosen).expanduser()
    return Path(os.environ.get("XDG_STATE_HOME", "~/.local/state")).expanduser() / "handclip"
