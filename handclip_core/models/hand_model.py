"""The model that every strategy trains: a CLIP image tower, a neck and an identity head."""

from collections.abc import Callable, Sequence, Set

from torch import Tensor, nn

from handclip_core.data.framing import Form
from handclip_core.data.inputs import Inputs
from handclip_core.evaluation.fusion import Calibrator
from handclip_core.models.backbone import Backbone
from handclip_core.models.heads import CosineHead
from handclip_core.models.metric import Metric, MetricSettings
from handclip_core.models.neck import Neck
from handclip_core.models.readout import Readout
from handclip_core.types import Activations, Batch, Encoded, ModelInputs, Output, PerTower

HEAD_STD = 0.001

Classifier = Callable[[ModelInputs, Tensor], tuple[Tensor, Tensor]]
"""From images and their aspects [B] to logits [B, P] and CLIP's embedding [B, D]."""


class HandModel(nn.Module):
    """``backbone`` -> ``neck`` -> ``head``; retrieval reads the neck's embedding, the head serves training alone.

    ``num_classes`` is P, the identities of the training label space; 0 for a model without a head, whose logits mean
    nothing. ``margin_head`` makes the logits cosines. ``metric`` is what becomes of the embedding for retrieval. Models
    of another shape override ``forward_trunk``, ``forward_head`` and ``vectors``.
    """

    metric: Metric

    def __init__(self, backbone: Backbone, neck: Neck, *, num_classes: int, margin_head: bool = False) -> None:
        super().__init__()
        self.backbone = backbone
        self.neck = neck
        self.head = identity_head(neck.head_width, num_classes, margin=margin_head)
        self.metric = no_metric(neck.vector_widths)

    def forward(self, batch: Batch) -> Output:
        """Encoded images, embedding [B, W] and identity logits [B, P] of a batch."""
        return self.forward_head(self.forward_trunk(batch.inputs, batch.aspects), batch)

    def forward_trunk(self, inputs: ModelInputs, aspects: Tensor) -> Encoded:
        """The image tower's view of images [B, 3, H, W] with ``aspects`` [B]; activations are continued.

        Each image's view depends on nothing but the image and its aspect.
        """
        del aspects
        return encode_with(self.backbone, inputs, self.readout)

    def forward_head(self, encoded: Encoded, batch: Batch) -> Output:
        """All that stands on the image tower, for a whole batch."""
        del batch
        neck = self.neck(encoded)
        return Output(encoded, embedding=neck.embedding, logits=self.head(neck.head_input))

    def embed(self, inputs: ModelInputs, aspects: Tensor) -> Tensor:
        """The embedding [B, W] that retrieval compares, before normalisation."""
        embedding: Tensor = self.metric(self.vectors(inputs, aspects))
        return embedding

    def vectors(self, inputs: ModelInputs, aspects: Tensor) -> Tensor:
        """What the metric maps [B, V]: the neck's embedding."""
        embedding: Tensor = self.neck(self.forward_trunk(inputs, aspects)).embedding
        return embedding

    def static_vectors(self, pixels: Tensor, aspects: Tensor) -> Tensor:
        """``vectors`` of images by steps that do not depend on what they show, as a traced graph needs them."""
        return self.vectors(pixels, aspects)

    def classifier(self) -> Classifier:
        """The head's logits [B, P] of images, and CLIP's embedding [B, D] of them, with the weights as they are now."""

        def classify(inputs: ModelInputs, aspects: Tensor) -> tuple[Tensor, Tensor]:
            encoded = self.forward_trunk(inputs, aspects)
            logits: Tensor = self.head(self.neck(encoded).head_input)
            return logits, encoded.projected

        return classify

    def read_texts(self, texts: Sequence[str]) -> Tensor | None:
        """Embeddings [T, D] of texts by the model's own text tower; None for models that have the pretrained one."""
        del texts
        return None

    def calibrate(self, calibrator: Calibrator, inputs: Inputs) -> None:
        """Set what is fitted to validation images, as the model sees them by ``inputs``; nothing in most models."""

    @property
    def readout(self) -> Readout | None:
        """What the model reads inside of the tower."""
        return self.neck.readout

    @property
    def vector_names(self) -> tuple[str, ...]:
        """What each vector is that the metric maps."""
        return tuple(self.neck.vectors)

    @property
    def has_text_tower(self) -> bool:
        """Whether texts are read while the model trains."""
        return False

    @property
    def tells_aspects(self) -> bool:
        """Whether an image's aspect makes a difference to its embedding."""
        return False

    def predict_aspects(self, inputs: ModelInputs) -> Tensor | None:
        """The aspect [B], by ASPECT_INDEX, that the model sees in each image; None for models that do not tell."""
        del inputs
        return None

    @property
    def similarity(self) -> Callable[[Tensor, Tensor], Tensor] | None:
        """From embeddings of queries [Q, W] and gallery [G, W] to scores [Q, G]; None for their cosine."""
        return self.pairwise_similarity

    @property
    def pairwise_similarity(self) -> Callable[[Tensor, Tensor], Tensor] | None:
        """As ``similarity``, if a score depends on its pair alone, so that a threshold can be set on it."""
        return self.metric.similarity if self.metric.compares else None

    @property
    def forms(self) -> tuple[Form, ...]:
        """The forms in which the model reads an image: one, unless it has several towers that want different ones."""
        return (Form(self.architecture.frame, self.architecture.image_px),)

    @property
    def architecture(self) -> Backbone:
        """A backbone of the model's architecture, for its blocks and the widths F and D of ``forward_trunk``."""
        return self.backbone

    @property
    def width(self) -> int:
        """The width W of the embedding that retrieval compares."""
        return self.metric.width

    @property
    def output_width(self) -> int:
        """The width of an Output's embedding, which losses read."""
        return self.neck.width

    def untouched_blocks(self, pretrained: Backbone, trained: Set[str]) -> int:
        """How many leading blocks of the backbone are as ``pretrained``, while the parameters ``trained`` move."""
        return untouched_blocks(self.backbone, pretrained, trained, prefix="backbone.")


def identity_head(width: int, num_classes: int, *, margin: bool) -> nn.Module:
    """From the neck's output [B, H] to logits [B, P]: linear, or cosines for a margin loss; nothing for no classes."""
    if not num_classes:
        return nn.Identity()
    if margin:
        return CosineHead(width, num_classes)
    head = nn.Linear(width, num_classes, bias=False)
    nn.init.normal_(head.weight, std=HEAD_STD)
    return head


def no_metric(widths: tuple[int, ...]) -> Metric:
    """What leaves embeddings of vectors of ``widths`` as they are."""
    return MetricSettings().build(widths, num_images=0, num_classes=0)


def encode_with(backbone: Backbone, inputs: ModelInputs, readout: Readout | None = None) -> Encoded:
    """What ``backbone`` makes of ``inputs``, whatever its first blocks have done already."""
    if isinstance(inputs, Encoded):
        return inputs
    assert not isinstance(inputs, PerTower), "the images of an ensemble are handed to its members one by one"
    if isinstance(inputs, Activations):
        return backbone.tail_blocks(inputs.hidden, inputs.depth, readout=readout)
    encoded: Encoded = backbone(inputs, readout)
    return encoded


def untouched_blocks(backbone: Backbone, pretrained: Backbone, trained: Set[str], *, prefix: str) -> int:
    """Leading blocks of ``backbone`` without new modules, in which none of ``trained`` (under ``prefix``) lies."""
    towers = (backbone.visual, pretrained.visual)
    ours, theirs = ({f"visual.{name}" for name, _ in tower.named_parameters()} for tower in towers)
    moved = ours.symmetric_difference(theirs) | {name for name in theirs if prefix + name in trained}
    blocks = pretrained.blocks()
    depths = [[depth for depth, names in enumerate(blocks) if _lies_under(name, names)] for name in moved]
    return min((found[0] if found else 0 for found in depths), default=len(blocks))


def _lies_under(name: str, prefixes: tuple[str, ...]) -> bool:
    return any(name == prefix or name.startswith(f"{prefix}.") for prefix in prefixes)
