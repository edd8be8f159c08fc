"""A CLIP as transformers saves it: its config.json as a configuration of open_clip."""

from typing import Any

from handclip_core.errors import InputError

VISION_ALONE = "clip_vision_model"
"""The ``model_type`` of an image tower that transformers saved without its text tower."""
_VISION = {
    "hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12,
    "image_size": 224, "patch_size": 32, "hidden_act": "quick_gelu", "layer_norm_eps": 1e-5,
}  # fmt: skip
_TEXT = {
    "hidden_size": 512, "intermediate_size": 2048, "num_hidden_layers": 12, "num_attention_heads": 8,
    "max_position_embeddings": 77, "vocab_size": 49408, "hidden_act": "quick_gelu", "layer_norm_eps": 1e-5,
}  # fmt: skip
"""What transformers takes for the settings of a CLIP that its config.json leaves out."""
_PROJECTION_DIM = 512
_RESAMPLE = {2: "bilinear", 3: "bicubic"}


def open_clip_config(config: dict[str, Any], *, source: str) -> dict[str, Any]:
    """The ``model_cfg`` of open_clip for the config.json of a ``CLIPModel``; raises InputError if there is none.

    That of its image tower alone gets a text tower of the usual size, for which such a folder has no weights.
    """
    alone = config.get("model_type") == VISION_ALONE
    vision = {**_VISION, **(config if alone else _section(config, "vision_config"))}
    text = {**_TEXT, **({"hidden_act": vision["hidden_act"]} if alone else _section(config, "text_config"))}
    acts = {vision["hidden_act"], text["hidden_act"]}
    if config.get("model_type") not in ("clip", VISION_ALONE) or not acts <= {"gelu", "quick_gelu"} or len(acts) > 1:
        raise InputError(
            f"{source}: model_type {config.get('model_type')} with {', '.join(sorted(map(str, acts)))}; "
            "a CLIPModel with gelu or quick_gelu in both towers is needed"
        )
    return {
        "embed_dim": config.get("projection_dim", _PROJECTION_DIM),
        "quick_gelu": acts == {"quick_gelu"},
        "vision_cfg": {
            "image_size": vision["image_size"],
            "patch_size": vision["patch_size"],
            "head_width": vision["hidden_size"] // vision["num_attention_heads"],
            **_tower(vision),
        },
        "text_cfg": {
            "context_length": text["max_position_embeddings"],
            "vocab_size": text["vocab_size"],
            "heads": text["num_attention_heads"],
            **_tower(text),
        },
    }


def preprocessing(config: dict[str, Any]) -> dict[str, Any]:
    """The ``preprocess_cfg`` of open_clip for a preprocessor_config.json, as far as it says something."""
    found = {"mean": config.get("image_mean"), "std": config.get("image_std")}
    found["interpolation"] = _RESAMPLE.get(config.get("resample", 3), "bicubic")
    return {key: value for key, value in found.items() if value is not None}


def _section(config: dict[str, Any], name: str) -> dict[str, Any]:
    found = config.get(name)
    return found if isinstance(found, dict) else {}


def _tower(section: dict[str, Any]) -> dict[str, Any]:
    return {
        "width": section["hidden_size"],
        "layers": section["num_hidden_layers"],
        "mlp_ratio": section["intermediate_size"] / section["hidden_size"],
        "norm_kwargs": {"eps": section["layer_norm_eps"]},
    }
