"""Which activation weights were trained with: OpenAI's and their kin need QuickGELU, and give worse figures without."""

from pathlib import Path

from handclip_core.models import architectures
from handclip_core.models.names import NANO, QUICK
from handclip_core.models.weights.files import CONTAINER, Tensors
from handclip_core.models.weights.origin import OPENAI_BUFFERS, Origin
from handclip_core.models.weights.torchscript import computes_gelu, is_torchscript


def quick_gelu_of(path: Path, tensors: Tensors, origin: Origin) -> bool | None:
    """Whether the weights of ``path`` were trained with QuickGELU; None if nothing says so."""
    if is_torchscript(path):
        return not computes_gelu(path)
    if any(name.rpartition(CONTAINER)[2].rpartition(".")[2] in OPENAI_BUFFERS for name in tensors):
        return True
    if origin.backbone is None:
        return origin.quick_gelu
    name, weights = origin.backbone.get("name", NANO), origin.backbone.get("pretrained")
    if architectures.twin_of(name) is None:
        return None
    if weights is None or architectures.is_tag(name, weights):
        return architectures.tag_quick_gelu(name, weights or "")
    archive = Path(weights)
    return name.endswith(QUICK) or (
        not computes_gelu(archive) if archive.is_file() and is_torchscript(archive) else None
    )


def activation_notes(name: str, path: Path, quick: bool | None) -> tuple[str, ...]:
    """What to say of the activation: that it is not the one of the name, or that nothing tells which is right."""
    twin = architectures.twin_of(name)
    if twin is None:
        return ()
    if quick is None and not name.endswith(QUICK):
        return (
            f"{path}: nothing in it says whether it was trained with GELU or QuickGELU; {name} computes GELU. Weights "
            f"of OpenAI, and what was fine-tuned from them, need QuickGELU: set backbone.name: {twin}",
        )
    if quick is not None and quick != name.endswith(QUICK):
        kind = "QuickGELU" if quick else "GELU"
        return (f"{path}: was trained with {kind}, so {kind} is computed, as if backbone.name were {twin}",)
    return ()
