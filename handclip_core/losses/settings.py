"""Which losses a strategy combines, with which weights."""

from enum import StrEnum
from typing import Self

from pydantic import Field, model_validator

from handclip_core.config import Config
from handclip_core.losses.center import CenterLoss
from handclip_core.losses.contrastive import infonce
from handclip_core.losses.identity import cross_entropy
from handclip_core.losses.image_text import image_text_cross_entropy, image_text_supcon
from handclip_core.losses.margin import arcface, cosface
from handclip_core.losses.memory import CrossBatchMemory
from handclip_core.losses.metric import circle, supcon, triplet
from handclip_core.losses.mining import Mining
from handclip_core.losses.own import NAME as OWN
from handclip_core.losses.own import OwnLoss
from handclip_core.losses.pairs import PairLoss, within_batch
from handclip_core.losses.reading import Read, ReadFrom, reader
from handclip_core.losses.term import Loss, Term


class IdentityKind(StrEnum):
    """How the identity head is trained: plain softmax, or with a margin on cosines."""

    SOFTMAX = "softmax"
    ARCFACE = "arcface"
    COSFACE = "cosface"


class Contrast(StrEnum):
    """Which contrastive loss: supervised (all positives of an anchor at once) or InfoNCE (one at a time)."""

    SUPCON = "supcon"
    INFONCE = "infonce"


class ImageTextKind(StrEnum):
    """Which loss between images and texts: to find each image's text, or the contrastive one in both directions."""

    CROSS_ENTROPY = "cross_entropy"
    SUPCON = "supcon"


class IdentitySettings(Config):
    """Cross-entropy of the identity head."""

    weight: float = Field(1.0, ge=0, le=1000)
    """Weight of the loss; 0 turns it off."""
    smoothing: float = Field(0.0, ge=0, lt=1)
    """Label smoothing."""
    kind: IdentityKind = IdentityKind.SOFTMAX
    """``softmax``; ``arcface`` (Deng 2019, arXiv 1801.07698) or ``cosface`` (Wang 2018, arXiv 1801.09414)."""
    margin: float = Field(0.35, ge=0, le=1.5)
    """Margin of ``arcface``, an angle in radians (its paper: 0.5), or of ``cosface``, a cosine (its paper: 0.35)."""
    scale: float = Field(64.0, gt=0, le=1000)
    """What the cosines of ``arcface`` and ``cosface`` are multiplied by."""

    def build(self) -> Loss:
        """The loss on the output's logits."""
        if self.kind is IdentityKind.SOFTMAX:
            return cross_entropy(smoothing=self.smoothing)
        margin_loss = arcface if self.kind is IdentityKind.ARCFACE else cosface
        return margin_loss(margin=self.margin, scale=self.scale, smoothing=self.smoothing)


class TripletSettings(Config):
    """Triplet loss."""

    weight: float = Field(0.0, ge=0, le=1000)
    """Weight of the loss; 0 turns it off."""
    margin: float = Field(0.3, gt=0, le=10)
    """How much farther than the positive the negative has to be, in the distance of ``mining``."""
    mining: Mining = Mining.HARD
    """``hard``: farthest positive and nearest negative, Euclidean distance (Hermans 2017, arXiv 1703.07737);
    ``semihard``: negatives within the margin, squared distance of unit vectors (Schroff 2015, arXiv 1503.03832)."""

    def build(self) -> PairLoss:
        """The loss on pairs."""
        return triplet(margin=self.margin, mining=self.mining)


class CircleSettings(Config):
    """Circle loss (Sun 2020, arXiv 2002.10857) on pairs."""

    weight: float = Field(0.0, ge=0, le=1000)
    """Weight of the loss; 0 turns it off."""
    margin: float = Field(0.25, ge=0, lt=1)
    """Relaxation of the decision boundary, the paper's m."""
    scale: float = Field(128.0, gt=0, le=512)
    """What similarities are multiplied by, the paper's gamma (128 for person re-identification)."""

    def build(self) -> PairLoss:
        """The loss on pairs."""
        return circle(margin=self.margin, scale=self.scale)


class ContrastiveSettings(Config):
    """Contrastive loss of images of one class against those of others."""

    weight: float = Field(0.0, ge=0, le=1000)
    """Weight of the loss; 0 turns it off."""
    kind: Contrast = Contrast.SUPCON
    """``supcon`` (Khosla 2020, arXiv 2004.11362) or ``infonce`` (van den Oord 2018, arXiv 1807.03748)."""
    temperature: float = Field(0.1, ge=0.01, le=10)
    """What cosines are divided by (0.1 in Khosla 2020)."""

    def build(self) -> PairLoss:
        """The loss on pairs."""
        return (infonce if self.kind is Contrast.INFONCE else supcon)(temperature=self.temperature)


class CenterSettings(Config):
    """Center loss (Wen 2016)."""

    weight: float = Field(0.0, ge=0, le=1000)
    """Weight of the loss; 0 turns it off."""
    rate: float = Field(0.5, gt=0, le=1)
    """How far a batch moves its classes' centres, the paper's alpha."""


class ImageTextSettings(Config):
    """A loss between CLIP's embeddings of images and of texts: captions that the data give, or learned prompts.

    A caption names aspect, gender, skin tone and what is worn, so it is shared by many identities (FLYP: Goyal 2023,
    arXiv 2212.00638, with a frozen text tower). ``clip_reid`` learns a text for every identity instead.
    """

    weight: float = Field(0.0, ge=0, le=1000)
    """Weight of the loss; 0 turns it off."""
    kind: ImageTextKind = ImageTextKind.CROSS_ENTROPY
    """``cross_entropy`` of each image's cosines with all texts, or ``supcon``, from images to texts and back (Li
    2023, arXiv 2211.13977, second and first stage)."""
    smoothing: float = Field(0.0, ge=0, lt=1)
    """Label smoothing of ``cross_entropy``."""
    temperature: float = Field(1.0, gt=0, le=100)
    """What the cosines are divided by, relative to what the backbone was trained with (CLIP: 0.01)."""

    def build(self, *, trained_at: float) -> Loss:
        """The loss on outputs that have texts, for a backbone trained at temperature ``trained_at``."""
        temperature = self.temperature * trained_at
        if self.kind is ImageTextKind.SUPCON:
            return image_text_supcon(temperature=temperature)
        return image_text_cross_entropy(temperature=temperature, smoothing=self.smoothing)


class Losses(Config):
    """The losses of a phase and their weights; plain cross-entropy by default."""

    identity: IdentitySettings = IdentitySettings()
    """Cross-entropy of the identity head."""
    triplet: TripletSettings = TripletSettings()
    """Triplet loss."""
    circle: CircleSettings = CircleSettings()
    """Circle loss."""
    contrastive: ContrastiveSettings = ContrastiveSettings()
    """Supervised contrastive loss or InfoNCE."""
    center: CenterSettings = CenterSettings()
    """Center loss."""
    image_text: ImageTextSettings = ImageTextSettings()
    """Loss between images and texts."""
    own: OwnLoss | None = None
    """A loss of your own beside these."""
    memory: int = Field(0, ge=0, le=1_000_000)
    """Images of earlier batches that triplet, circle and contrastive loss compare with too (XBM: Wang 2020, arXiv
    1912.06798); 0 for none."""
    on: ReadFrom = ReadFrom.EMBEDDING
    """Which vector all losses but the identity loss read: ``embedding``, ``trunk`` or ``projected``."""
    unit_length: bool = False
    """Whether hard triplets and centres see it scaled to length one, as retrieval and the other losses do. Without, as
    published, a margin or a weight means something else for towers whose vectors are longer."""

    @model_validator(mode="after")
    def _something_is_learned(self) -> Self:
        if not (self.identity.weight or self.image_text.weight or self.reads_vectors or self.own):
            raise ValueError("every weight is 0: give one loss a weight")
        return self

    @property
    def margin_head(self) -> bool:
        """Whether the identity loss needs the cosines of a ``CosineHead`` as logits."""
        return self.identity.kind is not IdentityKind.SOFTMAX

    @property
    def reads_vectors(self) -> bool:
        """Whether a loss other than the identity loss reads the vector at ``on``."""
        return self._compares_pairs or self.center.weight > 0

    @property
    def needs_pairs(self) -> bool:
        """Whether a loss learns nothing from batches in which no two images share a class; none with a memory."""
        return not self.memory and self._compares_pairs

    def terms(self, *, num_classes: int, embedding: int, trunk: int, projected: int) -> tuple[Term, ...]:
        """The losses on images that are on, for ``num_classes`` = P and vectors of widths W, F and D.

        Center loss and losses with a memory are modules with buffers.
        """
        width = {ReadFrom.EMBEDDING: embedding, ReadFrom.TRUNK: trunk, ReadFrom.PROJECTED: projected}[self.on]
        read = reader(self.on, unit_length=self.unit_length)
        terms = [Term("identity", self.identity.build(), self.identity.weight)] if self.identity.weight else []
        for name, part in self._pair_losses().items():
            if part.weight:
                terms.append(Term(name, self._over_batches(part.build(), read, width), part.weight))
        if self.center.weight:
            center = CenterLoss(read, num_classes=num_classes, width=width, rate=self.center.rate)
            terms.append(Term("center", center, self.center.weight))
        if self.own:
            terms.append(Term(OWN, self.own.build(key="strategy.losses.own"), self.own.weight))
        return tuple(terms)

    @property
    def _compares_pairs(self) -> bool:
        return any(part.weight for part in self._pair_losses().values())

    def _pair_losses(self) -> dict[str, TripletSettings | CircleSettings | ContrastiveSettings]:
        return {"triplet": self.triplet, "circle": self.circle, "contrastive": self.contrastive}

    def _over_batches(self, loss: PairLoss, read: Read, width: int) -> Loss:
        """``loss`` within each batch, or with the memory."""
        return CrossBatchMemory(loss, read, size=self.memory, width=width) if self.memory else within_batch(loss, read)
