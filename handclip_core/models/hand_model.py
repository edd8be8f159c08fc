"""The model that every strategy trains: a CLIP image tower, a neck and an identity head."""

from torch import Tensor, nn

from handclip_core.models.backbone import Backbone
from handclip_core.models.neck import Neck
from handclip_core.types import Batch, Encoded, Output

HEAD_STD = 0.001


class HandModel(nn.Module):
    """``backbone`` -> ``neck`` -> ``head``; retrieval reads the neck's embedding, the head serves training alone.

    ``num_classes`` is P, the identities of the training label space; 0 for a model without a head, whose logits mean
    nothing.
    """

    def __init__(self, backbone: Backbone, neck: Neck, *, num_classes: int) -> None:
        super().__init__()
        self.backbone = backbone
        self.neck = neck
        self.head = _head(neck.width, num_classes) if num_classes else nn.Identity()

    def forward(self, batch: Batch) -> Output:
        """Encoded pictures, embedding [B, W] and identity logits [B, P] of a batch."""
        encoded = self.encode(batch.inputs)
        neck = self.neck(encoded)
        return Output(encoded, embedding=neck.embedding, logits=self.head(neck.head_input))

    def encode(self, inputs: Tensor | Encoded) -> Encoded:
        """The image tower's view of pictures [B, 3, H, W]; cached activations pass through."""
        if isinstance(inputs, Encoded):
            return inputs
        encoded: Encoded = self.backbone(inputs)
        return encoded

    def embed(self, inputs: Tensor | Encoded) -> Tensor:
        """The embedding [B, W] that retrieval compares, before normalisation."""
        embedding: Tensor = self.neck(self.encode(inputs)).embedding
        return embedding


def _head(width: int, num_classes: int) -> nn.Linear:
    head = nn.Linear(width, num_classes, bias=False)
    nn.init.normal_(head.weight, std=HEAD_STD)
    return head
