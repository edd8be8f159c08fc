"""Exports of a run: a folder with weights in another program's form, a model card, and, for ONNX, a script."""

import shutil
from pathlib import Path
from typing import Literal

from safetensors.torch import save_file

from handclip_core.errors import InputError
from handclip_core.models.names import CONFIG_FILE
from handclip_core.runs.ensemble_file import ENSEMBLE, MEMBERS
from handclip_core.runs.model_file import MODEL_FILE
from handclip_core.runs.run_folder import CONFIG, write_text
from handclip_core.runs.validation import TEST_FILE, VALIDATION_FILE
from handclip_core.serving.card import model_card
from handclip_core.serving.model import EXPORTED, HASH, ServedEnsemble, ServedModel, weights_for_use
from handclip_core.serving.onnx_file import write_onnx
from handclip_core.serving.open_clip_file import write_open_clip

Kind = Literal["onnx", "safetensors", "open_clip"]
CARD, ONNX, SCRIPT = "MODEL_CARD.md", "model.onnx", "identify.py"
STANDALONE = Path(__file__).with_name("standalone.py")


def export_run(served: ServedModel, folder: Path, *, kind: Kind) -> str:
    """Write an export and its model card into ``folder``, whole or not at all; says in words what was done.

    Raises InputError, with the reason in one line, for a model that cannot be exported so.
    """
    if kind != "safetensors" and not served.ranks_by_cosine:
        raise InputError(
            f"{kind}: cannot hold this model: it compares embeddings by a score of its own, not by their cosine; "
            "choose --to safetensors"
        )
    partial = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        said = _write(served, partial, kind)
        write_text(partial / CARD, model_card(served))
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    folder.mkdir(exist_ok=True)
    for file in partial.iterdir():
        if (folder / file.name).is_dir():
            shutil.rmtree(folder / file.name)
        file.replace(folder / file.name)
    partial.rmdir()
    return f"wrote {', '.join(sorted(path.name for path in folder.iterdir()))} into {folder}\n{said}".replace(
        str(partial), str(folder)
    )


def _write(served: ServedModel, folder: Path, kind: Kind) -> str:
    if kind == "open_clip":
        return write_open_clip(served, folder)
    if kind == "onnx":
        shutil.copy(STANDALONE, folder / SCRIPT)
        return write_onnx(served, folder / ONNX)
    if isinstance(served, ServedEnsemble):
        for name in (ENSEMBLE, VALIDATION_FILE, TEST_FILE):
            _copy(served.folder / name, folder)
        for member in served.members:
            (folder / MEMBERS / member.folder.name).mkdir(parents=True)
            _write_safetensors(member, folder / MEMBERS / member.folder.name)
    else:
        _write_safetensors(served, folder)
    return "the folder is a run's: embed, enrol, identify and verify take it"


def _write_safetensors(served: ServedModel, folder: Path) -> None:
    for name in (CONFIG, MODEL_FILE, CONFIG_FILE, VALIDATION_FILE, TEST_FILE):
        _copy(served.folder / name, folder)
    weights = {name: value.cpu().contiguous() for name, value in weights_for_use(served.model).items()}
    save_file(weights, folder / EXPORTED, metadata={"format": "pt", HASH: served.hash})


def _copy(file: Path, folder: Path) -> None:
    """Put a file of the run into ``folder``; one that may be missing is left out."""
    if file.name not in (VALIDATION_FILE, TEST_FILE) or file.is_file():
        shutil.copy(file, folder / file.name)
