"""What a process keeps of the experiments that it ran."""

import gc
import weakref

import torch

from handclip_core.data.framing import Framing
from handclip_core.models.backbone import BackboneSettings
from handclip_core.runs.context import open_context
from tests.conftest import TINY_DATA

CPU = torch.device("cpu")


def test_the_two_backbones_that_were_used_last_stay_in_memory(tiny_backbones: dict[str, BackboneSettings]) -> None:
    kinds = [tiny_backbones["vit"].model_copy(update={"framing": one}) for one in (Framing.CROP, Framing.PAD)]
    first = weakref.ref(open_context(TINY_DATA, kinds[0], CPU).pretrained)
    second = open_context(TINY_DATA, kinds[1], CPU)
    gc.collect()
    assert first() is not None
    assert open_context(TINY_DATA, tiny_backbones["resnet"], CPU) is not second
    gc.collect()
    assert first() is None
    assert open_context(TINY_DATA, kinds[1], CPU) is second
