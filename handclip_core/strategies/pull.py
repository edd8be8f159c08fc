"""A pull to the pretrained weights, as ProLIP (Fahes 2024, arXiv 2410.05270) has on projections and L2-SP on all."""

from handclip_core.engine.optim import choose
from handclip_core.engine.phase import Train
from handclip_core.losses.l2_sp import L2SP
from handclip_core.models.hand_model import HandModel


def pull_to_pretrained(model: HandModel, trained: tuple[Train, ...], *, strength: float) -> tuple[L2SP, ...]:
    """``strength`` * sum (theta - pretrained)^2 over what is ``trained`` of the backbone; nothing for strength 0.

    ``model`` is as it was built: its weights are the pretrained ones.
    """
    if not strength:
        return ()
    chosen = {item.name: item.parameter for item in choose(model, trained) if item.name.startswith("backbone.")}
    return (L2SP({name: one.detach().clone() for name, one in chosen.items()}, strength=2 * strength),)
