"""Who is it, and are two images of one person: ranked people, scores, and decisions at a stated false accept rate."""

import shlex
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

from handclip_core.errors import InputError
from handclip_core.evaluation.thresholds import Threshold
from handclip_core.serving.gallery import Gallery
from handclip_core.serving.images import Squares
from handclip_core.serving.model import Embeddings, ServedModel
from handclip_core.serving.search import Candidate, search


class Decision(StrEnum):
    """What a score means at a threshold: at or above its interval, below it, or within it.

    ``none`` if the model has no threshold.
    """

    ACCEPT = "accept"
    REJECT = "reject"
    UNKNOWN = "unknown"
    NONE = "none"


@dataclass(frozen=True)
class Identified:
    """An image, the best ``candidates`` for who it shows, and whether the first is accepted."""

    image: str
    candidates: tuple[Candidate, ...]
    decision: Decision


@dataclass(frozen=True)
class Answer:
    """What a gallery says of images; ``far`` is of one comparison, ``far_of_search`` bounds that of a whole search.

    ``no_threshold`` says why there is none, ``origin`` which other model it was measured with, if with another one.
    """

    run: str
    model: str
    threshold: Threshold | None
    no_threshold: str
    origin: str
    num_identities: int
    num_enrolled: int
    results: tuple[Identified, ...]
    unreadable: dict[str, str]

    @property
    def far_of_search(self) -> float | None:
        """A stranger is accepted in at most this share of searches: once a comparison, with every enrolled image."""
        return None if self.threshold is None else min(1.0, self.threshold.far * self.num_enrolled)

    def values(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "run": self.run,
            "model": self.model,
            "threshold": self.threshold.model_dump() if self.threshold else None,
            "no_threshold": self.no_threshold,
            "threshold_origin": self.origin,
            "far_of_search": self.far_of_search,
            "num_identities": self.num_identities,
            "num_enrolled": self.num_enrolled,
            "results": [asdict(result) for result in self.results],
            "unreadable": self.unreadable,
        }

    def rows(self) -> list[dict[str, Any]]:
        """A row a query and candidate, for CSV."""
        return [
            {
                "image": result.image,
                "decision": result.decision.value,
                "rank": rank,
                "identity": candidate.identity,
                "score": candidate.score,
                "enrolled_image": candidate.image,
            }
            for result in self.results
            for rank, candidate in enumerate(result.candidates, start=1)
        ]

    def text(self) -> str:
        """A line an image, and what the decisions mean."""
        lines = [
            f"{result.decision:<8} {result.candidates[0].identity}  {result.candidates[0].score:.4f}  {result.image}"
            for result in self.results
        ]
        return "\n".join([*lines, self.meaning])

    @property
    def meaning(self) -> str:
        """How to read the decisions."""
        if self.threshold is None:
            return f"no decisions: {self.no_threshold}"
        of_search = f"a stranger is accepted in at most {self.far_of_search:.1%} of searches"
        return f"{meaning(self.threshold, self.origin)}; with {self.num_enrolled} enrolled images {of_search}"


def meaning(threshold: Threshold, origin: str = "") -> str:
    """What a threshold decides, in words, and where it is from."""
    measured = f", {origin}" if origin else ""
    return (
        f"accept from {threshold.high:.4f}, reject below {threshold.low:.4f}, unknown between: one false accept in "
        f"{1 / threshold.far:,.0f} comparisons (threshold {threshold.value:.4f}, 95 % interval over people{measured})"
    )


def identify(
    model: ServedModel, squares: Squares, embeddings: Embeddings, gallery: Gallery, *, top: int, far: float | None
) -> Answer:
    """The ``top`` people for each image with ``embeddings`` [n, W]; decisions at ``far``, by default the lowest rate.

    Raises InputError if ``far`` is given and no threshold was set for it.
    """
    threshold, reason = threshold_of(model, far)
    found = search(model, embeddings, gallery, top=top)
    results = tuple(
        Identified(name, tuple(candidates), decide(candidates[0].score, threshold))
        for name, candidates in zip(squares.names, found, strict=True)
    )
    return Answer(
        run=model.name,
        model=model.hash,
        threshold=threshold,
        no_threshold=reason,
        origin=model.validation.thresholds.origin,
        num_identities=len(gallery.identities),
        num_enrolled=len(gallery.entries),
        results=results,
        unreadable=squares.unreadable,
    )


def threshold_of(model: ServedModel, far: float | None) -> tuple[Threshold | None, str]:
    """The model's threshold at ``far``, or None and why it has none, if no rate is asked for.

    Raises InputError if ``far`` is given and no threshold was set for it.
    """
    thresholds = model.validation.thresholds
    mend = f"set some by images of your own: handclip calibrate {shlex.quote(str(model.folder))} PEOPLE"
    if far is None and not thresholds.points:
        return None, "; ".join([*thresholds.refused, mend])
    try:
        return thresholds.at(far), ""
    except InputError as error:
        raise InputError(f"{error}; {mend}") from None


def decide(score: float, threshold: Threshold | None) -> Decision:
    """What ``score`` means at ``threshold``."""
    if threshold is None:
        return Decision.NONE
    if score >= threshold.high:
        return Decision.ACCEPT
    return Decision.REJECT if score < threshold.low else Decision.UNKNOWN


def verify(model: ServedModel, pair: Embeddings, *, far: float | None) -> dict[str, Any]:
    """Score and decision for the two embeddings ``pair`` [2, W], as plain values."""
    threshold, reason = threshold_of(model, far)
    score = float(model.scores(pair[:1], pair[1:])[0, 0])
    return {
        "score": score,
        "decision": decide(score, threshold).value,
        "threshold": threshold.model_dump() if threshold else None,
        "threshold_origin": model.validation.thresholds.origin,
        "meaning": meaning(threshold, model.validation.thresholds.origin) if threshold else f"no decision: {reason}",
    }
