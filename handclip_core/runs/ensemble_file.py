"""What the folder of an ensemble says of itself; copies of its members lie below it."""

from pathlib import Path
from typing import Self

from pydantic import Field, model_validator

from handclip_core.config import Config
from handclip_core.evaluation.fusion import ScoreFusion
from handclip_core.evaluation.joined import FusedBy
from handclip_core.runs.validation import Figure

ENSEMBLE, MEMBERS = "ensemble.json", "members"
ROUNDING = 1e-6
"""How far from 1 the sum of weights may be."""


class Member(Config):
    """A model of an ensemble."""

    name: str = Field(pattern=r"^[A-Za-z0-9_-][A-Za-z0-9_.-]*$", max_length=100)
    """Name of its folder below ``members``."""
    origin: str
    """Where its run was when the ensemble was made; nothing is read there any more."""
    hash: str
    """SHA-256 of the weights that its embeddings depend on, and of how images become its inputs."""
    file: str
    """SHA-256 of the file of all its weights, the classifier's among them."""


class Gain(Config):
    """What the ensemble was better by than its best member on the validation people: the objective, paired."""

    best: str
    """Name of the member that is best on validation."""
    difference: Figure
    """Of the ensemble as it is; if it was ``fitted``, to the same people, it flatters."""
    fitted: bool
    """Whether weights were fitted to these people."""
    crossed: Figure | None
    """With weights fitted to one half of the people and measured on the other, both ways; none of too few people."""
    probability: float
    """P(the ensemble beats that member): the share of resamples of the people in which it is better."""
    num_people: int
    """The validation people."""


class EnsembleFile(Config):
    """An ensemble: which models, and how they answer together."""

    by: FusedBy
    """What is fused."""
    weights: tuple[float, ...]
    """The members' weights, adding up to 1; equal for votes."""
    means: tuple[float, ...]
    """Means of the members' impostor scores in validation; 0 if scores are not brought to one scale."""
    deviations: tuple[float, ...]
    """Standard deviations of the same; 1 if scores are not brought to one scale."""
    members: tuple[Member, ...] = Field(min_length=2)
    """The models."""
    gain: Gain | None
    """What it is worth on validation; none if a member was trained on the validation people."""

    @model_validator(mode="after")
    def _numbers_fit_the_members(self) -> Self:
        names = [member.name for member in self.members]
        if len(set(names)) < len(names):
            raise ValueError("members: a name is there twice")
        for what in ("weights", "means", "deviations"):
            if len(getattr(self, what)) != len(names):
                raise ValueError(f"{what}: {len(getattr(self, what))} numbers for {len(names)} members")
        if min(self.weights) < 0 or abs(sum(self.weights) - 1) > ROUNDING:
            raise ValueError("weights: none may be negative, and they add up to 1")
        if min(self.deviations) <= 0:
            raise ValueError("deviations: must be above 0")
        return self

    @property
    def scores(self) -> ScoreFusion:
        """How the members' scores become one."""
        return ScoreFusion(self.weights, self.means, self.deviations)


def is_ensemble(folder: Path) -> bool:
    """Whether ``folder`` is that of an ensemble."""
    return (folder / ENSEMBLE).is_file()


def read_ensemble(folder: Path) -> EnsembleFile:
    """What ``folder`` says; raises InputError if the file is missing or wrong."""
    return EnsembleFile.from_file(folder / ENSEMBLE)


def member_folders(folder: Path) -> list[Path]:
    """The folders of the copies of an ensemble's members."""
    return [folder / MEMBERS / member.name for member in read_ensemble(folder).members]
