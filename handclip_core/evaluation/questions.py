"""What a model was asked and what it answered, question by question, as people look at it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]
Bools = NDArray[np.bool_]


@dataclass(frozen=True)
class Item:
    """An image, at a ``row`` of the manifest, with a line of ``text``; without a row the text alone.

    ``right`` says whether an answer is right, None of what is neither.
    """

    text: str
    row: int | None = None
    right: bool | None = None


@dataclass(frozen=True)
class Panel:
    """A ``question`` with the first ``answers`` to it, best first; ``outcome`` says in few words what came of it."""

    question: Item
    answers: tuple[Item, ...]
    outcome: str


@dataclass(frozen=True, eq=False)
class Questions:
    """All questions: whether the first answer is ``right`` [M], and how good all are, ``quality`` [M] from 0 to 1.

    ``panel`` shows one of them. ``parts`` are kinds of questions by name. ``decisions`` are questions with a yes or a
    no, by what they are about: the truth [N], and a score [N] from 0 to 1.
    """

    right: Bools
    quality: Values
    panel: Callable[[int], Panel]
    parts: Mapping[str, range]
    decisions: Mapping[str, tuple[Bools, Values]] = field(default_factory=dict)
