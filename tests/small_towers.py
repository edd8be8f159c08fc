"""Architectures of open_clip and timm made small: one of each kind of image tower, with random weights."""

import json
from functools import partial
from pathlib import Path
from typing import Any

import timm
import torch

from handclip_core.models.backbone import Backbone, BackboneSettings, load_backbone

CREATE = timm.create_model
TOKENS = {"embed_dim": 32, "depth": 2, "num_heads": 2, "img_size": 32, "patch_size": 16}
"""What makes a transformer of timm small."""
MAPS: dict[str, Any] = {"depths": (1, 2, 1, 1), "dims": (8, 16, 16, 24)}
FASTVIT: dict[str, Any] = {"layers": (1, 2, 1, 1), "embed_dims": (8, 16, 16, 32)}
TEXT = {"context_length": 16, "vocab_size": 49408, "width": 8, "heads": 2, "layers": 1}

OF_TIMM: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    "siglip": ("vit_base_patch16_siglip_224", TOKENS, {"timm_pool": "map", "timm_proj": "none"}),
    "vit": ("vit_large_patch14_clip_224", TOKENS, {"timm_pool": "token", "timm_proj": None, "timm_drop_path": 0.5}),
    "vit_gap": ("vit_medium_patch16_gap_256", TOKENS, {"timm_pool": "", "timm_proj": "linear"}),
    "relpos": ("vit_relpos_medium_patch16_cls_224", TOKENS, {"timm_pool": "", "timm_proj": "linear"}),
    "eva02": ("eva02_base_patch16_clip_224", TOKENS, {"timm_pool": "token", "timm_proj": None}),
    "eva01": ("eva_giant_patch14_224", {**TOKENS, "mlp_ratio": 2}, {"timm_pool": "token", "timm_proj": None}),
    "pe": ("vit_pe_core_base_patch16_224", TOKENS, {"timm_pool": "map", "timm_proj": None}),
    "convnext": ("convnext_base", MAPS, {"timm_pool": "", "timm_proj": "linear", "timm_drop_path": 0.5}),
    "convnext_mlp": ("convnext_large", MAPS, {"timm_pool": "", "timm_proj": "mlp"}),
    "fastvit": ("fastvit_mci0", FASTVIT, {"timm_pool": "avg", "timm_proj": None}),
    "swin": (
        "swin_base_patch4_window7_224",
        {"embed_dim": 8, "depths": (1, 2), "num_heads": (2, 2), "img_size": 32, "window_size": 4},
        {"timm_pool": "", "timm_proj": "linear"},
    ),
    "vitamin": (
        "vitamin_small_224",
        {"depth": 1, "num_heads": 2, "img_size": 64},
        {"timm_pool": "", "timm_proj": "linear"},
    ),
}
"""Towers of timm by kind: the model that open_clip names, what makes it small, and how open_clip ends it."""
OWN: dict[str, dict[str, Any]] = {
    "own_vit": {"image_size": 32, "patch_size": 16, "width": 32, "layers": 2, "head_width": 16},
    "own_vit_mean": {
        "image_size": 32, "patch_size": 16, "width": 32, "layers": 2, "head_width": 16, "no_ln_pre": True,
        "pool_type": "avg", "final_ln_after_pool": True,
    },
    "own_vit_pool": {
        "image_size": 32, "patch_size": 16, "width": 32, "layers": 2, "head_width": 16, "attentional_pool": True,
        "attn_pooler_heads": 2, "output_tokens": True,
    },
    "own_resnet": {"image_size": 64, "layers": [1, 1, 2, 1], "width": 8, "head_width": 32, "patch_size": None},
}  # fmt: skip
IMAGES_ONLY: dict[str, tuple[str, dict[str, Any]]] = {
    "dinov2": ("vit_small_patch14_reg4_dinov2", TOKENS),
    "dinov3": ("vit_small_patch16_dinov3", TOKENS),
    "only_resnet": ("test_resnet", {}),
}
"""Towers of timm by themselves: the model, and what makes it small."""
KINDS = (*OWN, *OF_TIMM, *IMAGES_ONLY)


def small(kind: str, folder: Path, patch: Any, **changes: Any) -> BackboneSettings:
    """Settings of a small random member of ``kind``; ``patch`` makes timm build it small while it lasts."""
    if kind in IMAGES_ONLY:
        name, shrunk = IMAGES_ONLY[kind]
        overlay = {"pretrained_cfg_overlay": {"input_size": (3, 32, 32)}} if shrunk else {}
        patch.setattr("timm.create_model", partial(_shrunk, {**shrunk, **overlay}))
        return BackboneSettings.model_validate({"name": f"timm/{name}", "pretrained": "random", **changes})
    vision = OWN.get(kind)
    if vision is None:
        name, shrunk, ends = OF_TIMM[kind]
        patch.setattr("open_clip.timm_model.timm.create_model", partial(_shrunk, shrunk))
        vision = {"image_size": shrunk.get("img_size", 64), "timm_model_name": name, **ends}
    model = {"embed_dim": 12, "vision_cfg": vision, "text_cfg": TEXT}
    folder.mkdir(exist_ok=True)
    config = {"model_cfg": model, "preprocess_cfg": {"mean": [0.5] * 3, "std": [0.25] * 3}}
    (folder / "open_clip_config.json").write_text(json.dumps(config), encoding="utf-8")
    return BackboneSettings.model_validate({"name": f"local-dir:{folder}", "pretrained": "random", **changes})


def _shrunk(shrunk: dict[str, Any], name: str, **given: Any) -> Any:
    return CREATE(name, **{**given, **shrunk})


def small_backbone(kind: str, folder: Path, patch: Any, **changes: Any) -> Backbone:
    """A small random member of ``kind``, every weight of which has a part in its output."""
    backbone = load_backbone(small(kind, folder, patch, **changes), text=kind not in IMAGES_ONLY)
    generator = torch.Generator().manual_seed(3)
    for tensor in backbone.parameters():
        tensor.data.add_(0.1 * torch.randn(tensor.shape, generator=generator))
    return backbone
