"""``pretrain``: how handclip-nano was made."""

from pathlib import Path
from typing import Annotated

import typer


def pretrain(settings: Annotated[Path, typer.Argument(help="YAML or JSON file of the pretraining settings.")]) -> None:
    """Pretrain a small CLIP on drawn hands with captions."""
    from handclip_core.pretraining.pretrain import PretrainSettings
    from handclip_core.pretraining.pretrain import pretrain as run

    folder = run(PretrainSettings.from_file(settings))
    print(f"wrote {folder}; use it as a backbone by the name local-dir:{folder}")
