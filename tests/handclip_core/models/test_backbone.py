import json
from pathlib import Path

import open_clip
import pytest
import torch
from torch import Tensor, nn

from handclip_core.errors import InputError
from handclip_core.models.backbone import NANO, Backbone, BackboneSettings, load_backbone

TEXT = {"context_length": 16, "vocab_size": 49408, "width": 8, "heads": 2, "layers": 1}
VISION = {
    "vit": {"image_size": 32, "patch_size": 16, "width": 32, "layers": 2, "head_width": 16},
    "resnet": {"image_size": 64, "layers": [1, 1, 2, 1], "width": 8, "head_width": 32, "patch_size": None},
}
KINDS = tuple(VISION)


def write_model(folder: Path, kind: str, **vision: object) -> str:
    vision_cfg = {**VISION[kind], **vision}  # type: ignore[dict-item]
    config = {"model_cfg": {"embed_dim": 12, "vision_cfg": vision_cfg, "text_cfg": TEXT}, "preprocess_cfg": {}}
    folder.mkdir(exist_ok=True)
    (folder / "open_clip_config.json").write_text(json.dumps(config), encoding="utf-8")
    return f"local-dir:{folder}"


def random_backbone(tmp_path: Path, kind: str) -> Backbone:
    name = write_model(tmp_path / kind, kind)
    backbone = load_backbone(BackboneSettings(name=name, pretrained="random"), text=True)
    settle(backbone)
    return backbone


def settle(backbone: Backbone) -> None:
    """Give every parameter a part in the output: open_clip starts some at zero."""
    generator = torch.Generator().manual_seed(3)
    for tensor in backbone.parameters():
        tensor.data.add_(0.05 * torch.randn(tensor.shape, generator=generator))


def images(backbone: Backbone, count: int = 3) -> Tensor:
    return torch.rand(count, 3, backbone.image_px, backbone.image_px, generator=torch.Generator().manual_seed(1))


def save_weights(backbone: Backbone, path: Path) -> Path:
    torch.save(backbone.state_dict(), path)
    return path


def test_blocks_name_what_a_tower_has(tmp_path: Path) -> None:
    name = write_model(tmp_path / "vit", "vit", no_ln_pre=True)
    backbone = load_backbone(BackboneSettings(name=name, pretrained="random"))
    assert backbone.blocks()[0] == ("visual.conv1", "visual.class_embedding", "visual.positional_embedding")
    prefixes = [prefix for block in backbone.blocks() for prefix in block]
    for parameter, _ in backbone.visual.named_parameters():
        assert sum(f"visual.{parameter}.".startswith(f"{prefix}.") for prefix in prefixes) == 1


@pytest.mark.parametrize("kind", KINDS)
def test_embeddings_are_those_of_the_open_clip_tower_on_normalised_pixels(tmp_path: Path, kind: str) -> None:
    backbone = random_backbone(tmp_path, kind)
    pixels = images(backbone)
    mean = torch.tensor(open_clip.OPENAI_DATASET_MEAN).view(1, 3, 1, 1)
    std = torch.tensor(open_clip.OPENAI_DATASET_STD).view(1, 3, 1, 1)
    expected = backbone.visual((pixels - mean) / std)
    torch.testing.assert_close(backbone(pixels).projected, expected)
    assert backbone(pixels).projected.shape == (3, backbone.dim)


def test_features_of_a_transformer_are_what_its_projection_reads(tmp_path: Path) -> None:
    backbone = random_backbone(tmp_path, "vit")
    encoded = backbone(images(backbone))
    assert encoded.features.shape == (3, backbone.width) == (3, 32)
    torch.testing.assert_close(encoded.features @ backbone.visual.get_parameter("proj"), encoded.projected)


def test_features_of_a_resnet_are_the_mean_of_its_last_map(tmp_path: Path) -> None:
    backbone = random_backbone(tmp_path, "resnet")
    maps: list[Tensor] = []
    backbone.visual.get_submodule("layer4").register_forward_hook(lambda *call: maps.append(call[2]))
    pixels = images(backbone)
    backbone.visual((pixels - backbone.mean) / backbone.std)
    features = backbone(pixels).features
    assert features.shape == (3, backbone.width) == (3, 8 * 32)
    torch.testing.assert_close(features, maps[0].flatten(2).mean(dim=2))


@pytest.mark.parametrize("kind", KINDS)
def test_cut_anywhere_the_two_halves_give_the_very_same_numbers(tmp_path: Path, kind: str) -> None:
    backbone = random_backbone(tmp_path, kind)
    pixels = images(backbone)
    whole, last = backbone(pixels), len(backbone.blocks()) - 1
    for n in range(last + 1):
        cut = backbone.head_blocks(pixels, n)
        kept = cut.clone()
        joined = backbone.tail_blocks(cut, n)
        assert torch.equal(joined.features, whole.features)
        assert torch.equal(joined.projected, whole.projected)
        assert torch.equal(cut, kept)
    for n in (-1, last + 1):
        with pytest.raises(ValueError, match=f"possible are 0 to {last}"):
            backbone.head_blocks(pixels, n)


@pytest.mark.parametrize("kind", KINDS)
def test_every_parameter_lies_in_one_block_and_acts_there_first(tmp_path: Path, kind: str) -> None:
    backbone = random_backbone(tmp_path, kind)
    pixels, blocks = images(backbone), backbone.blocks()
    before = [backbone.head_blocks(pixels, n) for n in range(len(blocks))]
    owners: dict[str, int] = {}
    generator = torch.Generator().manual_seed(2)
    for name, tensor in backbone.visual.named_parameters(prefix="visual"):
        inside = [k for k, prefixes in enumerate(blocks) if any(f"{name}.".startswith(f"{p}.") for p in prefixes)]
        assert len(inside) == 1, name
        owners[name] = inside[0]
        if inside[0] + 1 == len(blocks):
            continue
        kept = tensor.detach().clone()
        tensor.data.add_(0.5 * torch.randn(tensor.shape, generator=generator))
        assert torch.equal(backbone.head_blocks(pixels, inside[0]), before[inside[0]]), name
        assert not torch.equal(backbone.head_blocks(pixels, inside[0] + 1), before[inside[0] + 1]), name
        tensor.data.copy_(kept)
    assert set(owners.values()) == set(range(len(blocks)))


def test_texts_are_encoded_as_the_whole_padded_ones(tmp_path: Path) -> None:
    backbone = random_backbone(tmp_path, "vit")
    tokens = backbone.tokenize(["a hand", "the palm of a left hand with deep creases"])
    assert tokens.shape == (2, TEXT["context_length"])
    assert backbone.text is not None
    torch.testing.assert_close(backbone.encode_text(tokens), backbone.text(tokens))


def test_words_are_single_tokens(tmp_path: Path) -> None:
    backbone = random_backbone(tmp_path, "vit")
    words = backbone.words()
    assert len(set(words)) == len(words) > 10_000
    assert set((backbone.tokenize(words[:500]) != 0).sum(dim=1).tolist()) == {3}


def test_frozen_blocks_give_the_same_in_training_mode(tmp_path: Path) -> None:
    """Batch statistics that move, and patches left out, belong to blocks that train."""
    for kind, dropping in (("resnet", {}), ("vit", {"patch_dropout": 0.5})):
        name = write_model(tmp_path / kind, kind, **dropping)
        settings = BackboneSettings.parse({"name": name, "pretrained": "random", "batch_norm": "moving"}, source="test")
        backbone = load_backbone(settings)
        trained = tuple(f"visual.{part}" for part in ("layer4", "attnpool", "transformer.resblocks.1", "proj"))
        for key, parameter in backbone.named_parameters():
            parameter.requires_grad_(key.startswith(trained))
        before = {key: tensor.clone() for key, tensor in backbone.state_dict().items()}
        shown = images(backbone)
        torch.testing.assert_close(backbone.train().head_blocks(shown, 2), backbone.eval().head_blocks(shown, 2))
        backbone.train()(shown)
        moved = {key for key, value in backbone.state_dict().items() if not torch.equal(before[key], value)}
        assert {key.split(".")[1] for key in moved} == ({"layer4"} if kind == "resnet" else set())


@pytest.mark.parametrize(("mode", "moves"), [("fixed", False), ("moving", True)])
def test_batch_statistics_move_only_where_told(tmp_path: Path, mode: str, moves: bool) -> None:
    name = write_model(tmp_path / "resnet", "resnet")
    settings = BackboneSettings.parse({"name": name, "pretrained": "random", "batch_norm": mode}, source="test")
    backbone = load_backbone(settings).train()
    before = {key: tensor.clone() for key, tensor in backbone.state_dict().items()}
    backbone(images(backbone)).projected.sum().backward()
    after = backbone.state_dict()
    moved = {key for key in before if not torch.equal(before[key], after[key])}
    assert {key.rsplit(".", 1)[1] for key in moved} == (
        {"running_mean", "running_var", "num_batches_tracked"} if moves else set()
    )
    assert backbone.get_parameter("visual.bn1.weight").grad is not None


def test_key_follows_weights_and_name(tmp_path: Path) -> None:
    backbone = random_backbone(tmp_path, "vit")
    key = backbone.key()
    assert key == random_backbone(tmp_path, "vit").key()
    backbone.get_parameter("visual.proj").data[0, 0] += 1e-3
    assert backbone.key() != key
    assert random_backbone(tmp_path, "resnet").key() != key


def test_loading_leaves_the_random_state_alone(tmp_path: Path) -> None:
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    random_backbone(tmp_path, "vit")
    assert torch.equal(torch.rand(3), expected)


@pytest.mark.parametrize("kind", KINDS)
def test_bfloat16_autocast_stays_near(tmp_path: Path, kind: str) -> None:
    backbone = random_backbone(tmp_path, kind)
    pixels = images(backbone)
    exact = backbone(pixels).projected
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rough = backbone(pixels).projected.float()
    assert torch.cosine_similarity(exact, rough).min().item() > 0.99


def test_the_text_tower_is_kept_only_where_asked_for() -> None:
    plain, full = load_backbone(BackboneSettings()), load_backbone(BackboneSettings(), text=True)
    assert plain.text is None
    assert not any(name.startswith("text.") for name in plain.state_dict())
    assert full.encode_text(full.tokenize(["a left palm"])).shape == (1, full.dim)


def test_nano_is_small_and_not_random() -> None:
    committed = load_backbone(BackboneSettings(), text=True)
    drawn_afresh = load_backbone(BackboneSettings(pretrained="random"), text=True)
    assert committed.key() != drawn_afresh.key()
    assert sum(tensor.numel() for tensor in committed.parameters()) < 6_000_000
    assert {tensor.dtype for tensor in committed.parameters()} == {torch.float32}


def test_a_file_gives_back_what_was_saved(tmp_path: Path) -> None:
    backbone = random_backbone(tmp_path, "vit")
    path = save_weights(backbone, tmp_path / "weights.pt")
    again = load_backbone(BackboneSettings(name=backbone.name, pretrained=str(path)), text=True)
    assert again.key() == backbone.key()


@pytest.mark.filterwarnings("ignore:.torch.jit:FutureWarning")
def test_an_archive_as_openai_published_them_gets_quick_gelu(tmp_path: Path) -> None:
    name = write_model(tmp_path / "vit", "vit")
    config = json.loads((tmp_path / "vit" / "open_clip_config.json").read_text(encoding="utf-8"))["model_cfg"]
    torch.manual_seed(5)
    published = open_clip.model.CLIP(**config, quick_gelu=True).eval()
    path = tmp_path / "ViT-X.pt"
    torch.jit.save(torch.jit.script(published), path)
    backbone = load_backbone(BackboneSettings(name=name, pretrained=str(path)), text=True)
    pixels = images(backbone)
    expected = published.encode_image((pixels - backbone.mean) / backbone.std)
    torch.testing.assert_close(backbone(pixels).projected, expected)
    tokens = backbone.tokenize(["a hand"])
    torch.testing.assert_close(backbone.encode_text(tokens), published.encode_text(tokens))


@pytest.mark.parametrize(("name", "width", "dim"), [("ViT-B-32", 768, 512), ("RN50", 2048, 1024)])
def test_published_architectures_load_from_a_local_file_and_a_tag(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, width: int, dim: int
) -> None:
    first = load_backbone(BackboneSettings(name=name, pretrained="random"), text=True).half()
    path = save_weights(first, tmp_path / f"{name}.pt")
    again = load_backbone(BackboneSettings(name=name, pretrained=str(path)))
    assert (again.width, again.dim, again.image_px) == (width, dim, 224)
    kept = first.get_parameter("visual.conv1.weight").float()
    assert torch.equal(again.get_parameter("visual.conv1.weight"), kept)
    encoded = again(images(again, 1))
    assert (encoded.features.shape, encoded.projected.shape) == ((1, width), (1, dim))
    monkeypatch.setattr("open_clip.factory.download_pretrained", lambda *_, **__: str(path))
    tagged = load_backbone(BackboneSettings(name=name, pretrained="openai"), text=True)
    assert tagged.text is not None
    assert quick_gelus(tagged.text) == 12
    assert quick_gelus(tagged.visual) == (12 if name == "ViT-B-32" else 0)
    assert quick_gelus(again.visual) == 0


def quick_gelus(tower: nn.Module) -> int:
    return sum(isinstance(module, open_clip.transformer.QuickGELU) for module in tower.modules())


@pytest.mark.parametrize(
    ("name", "pretrained", "message"),
    [
        ("ViT-X-99", None, "unknown model 'ViT-X-99'; choose handclip-nano"),
        ("ViT-B-32", None, r"ViT-B-32 needs weights: a tag \(openai, .*\) or the path of a weight file"),
        ("ViT-B-32", "opnai", r"'opnai' is neither a file nor a tag of ViT-B-32 \(openai, "),
        (NANO, "nowhere.pt", r"'nowhere.pt' is neither a file nor a tag of handclip-nano \(it has none\)"),
        ("local-dir:nowhere", "random", "nowhere"),
    ],
)
def test_wrong_names_are_refused_in_one_line(name: str, pretrained: str | None, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        load_backbone(BackboneSettings(name=name, pretrained=pretrained))
    assert "\n" not in str(caught.value)


def test_weights_that_cannot_be_fetched_say_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> str:
        raise OSError("network is\nunreachable")

    monkeypatch.setattr("open_clip.factory.download_pretrained", fail)
    with pytest.raises(InputError, match="connect to the network, or copy the weight file here") as caught:
        load_backbone(BackboneSettings(name="ViT-B-32", pretrained="openai"))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
@pytest.mark.parametrize("content", [b"", b"not weights at all" * 100])
def test_damaged_files_are_refused_by_name(tmp_path: Path, suffix: str, content: bytes) -> None:
    path = tmp_path / f"weights{suffix}"
    path.write_bytes(content)
    with pytest.raises(InputError, match=f"weights{suffix}: not a weight file, or damaged; fetch it again") as caught:
        load_backbone(BackboneSettings(name=write_model(tmp_path / "vit", "vit"), pretrained=str(path)))
    assert "\n" not in str(caught.value)


def test_files_of_another_model_or_cut_short_are_refused(tmp_path: Path) -> None:
    other = save_weights(random_backbone(tmp_path, "resnet"), tmp_path / "other.pt")
    empty, cut = tmp_path / "empty.pt", tmp_path / "cut.pt"
    torch.save({}, empty)
    cut.write_bytes(other.read_bytes()[:-2000])
    name = write_model(tmp_path / "vit", "vit")
    for path, message in (
        (other, "holds .* tensors"),
        (empty, "holds no tensor that has a name"),
        (cut, "not a weight file"),
    ):
        with pytest.raises(InputError, match=f"{path.name}: {message}"):
            load_backbone(BackboneSettings(name=name, pretrained=str(path)))


def test_a_broken_configuration_is_refused(tmp_path: Path) -> None:
    (tmp_path / "open_clip_config.json").write_text("{", encoding="utf-8")
    with pytest.raises(InputError, match=r"no usable open_clip_config\.json"):
        load_backbone(BackboneSettings(name=f"local-dir:{tmp_path}", pretrained="random"))
