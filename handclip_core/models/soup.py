"""Averages of weights: WiSE-FT (Wortsman 2022, arXiv 2109.01903) and model soups (Wortsman 2022, arXiv 2203.05482).

Averages take and give state dicts, of merged models if these have low-rank updates: the mean of products B A is not
the product of the mean factors. Numbers with a fraction are averaged, running statistics of batch normalisation among
them; all other entries (counters) are those of the first.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import reduce

import torch
from torch import Tensor

from handclip_core.errors import InputError

State = Mapping[str, Tensor]


def interpolate(zero_shot_state: State, state: State, alpha: float) -> dict[str, Tensor]:
    """(1 - alpha) zero_shot + alpha state (arXiv 2109.01903, section 4), for every entry that both have.

    Entries of ``state`` alone stay as they are. For models of this package ``zero_shot_state`` is the model before
    training: the backbone as pretrained, adapters and necks at their start, at which they are the identity or nearly
    so. So the neck moves along with the backbone that it was trained on, and alpha 0 embeds like the untrained model;
    the head moves, too, and nothing of retrieval reads it. Raises InputError if an entry has two shapes, or ``alpha``
    lies outside 0 to 1.
    """
    if not 0 <= alpha <= 1:
        raise InputError(f"alpha = {alpha:g}: choose from 0 (zero-shot) to 1 (fine-tuned)")
    shared = zero_shot_state.keys() & state.keys()
    for name in sorted(shared):
        _refuse_other_shape(name, zero_shot_state[name], state[name])
    mixed = {name: _mean([zero_shot_state[name], state[name]], [1 - alpha, alpha]) for name in shared}
    return {name: mixed[name] if name in shared else value.clone() for name, value in state.items()}


def uniform_soup(states: Sequence[State]) -> dict[str, Tensor]:
    """The mean of ``states`` (arXiv 2203.05482, table 2); raises InputError if their names or shapes differ."""
    if not states:
        raise InputError("a soup needs at least one set of weights")
    refuse_incompatible(states)
    share = 1 / len(states)
    return {name: _mean([state[name] for state in states], [share] * len(states)) for name in states[0]}


def greedy_members(num: int, score: Callable[[tuple[int, ...]], float]) -> tuple[tuple[int, ...], float]:
    """The members of the greedy soup (recipe 1 of arXiv 2203.05482) of the positions 0 to ``num`` - 1, and its score.

    Positions join in the order of their own ``score``, best first, if that does not lower the score of the soup.
    ``score`` evaluates the soup of some positions, the higher the better; it is asked once a position, and once a
    position but the first.
    """
    if num < 1:
        raise InputError("a soup needs at least one set of weights")
    alone = [score((position,)) for position in range(num)]
    first, *others = sorted(range(num), key=lambda position: -alone[position])
    members: tuple[int, ...] = (first,)
    best = alone[first]
    for position in others:
        found = score((*members, position))
        if found >= best:
            members, best = (*members, position), found
    return members, best


def refuse_incompatible(states: Sequence[State]) -> None:
    """Raise InputError if ``states`` do not all have the names and shapes of the first."""
    first = states[0]
    for number, state in enumerate(states[1:], start=2):
        odd = sorted(first.keys() ^ state.keys())
        if odd:
            raise InputError(f"'{odd[0]}' is not in both weights 1 and {number}: only models of one shape make a soup")
        for name in first:
            _refuse_other_shape(name, first[name], state[name])


def _refuse_other_shape(name: str, one: Tensor, other: Tensor) -> None:
    if one.shape != other.shape:
        raise InputError(
            f"'{name}' has the shapes {tuple(one.shape)} and {tuple(other.shape)}: only equal ones can be averaged"
        )


def _mean(tensors: Sequence[Tensor], shares: Sequence[float]) -> Tensor:
    """The weighted sum, summed up in float32 or whatever is finer, in the first's type and on its device."""
    first = tensors[0]
    if not first.is_floating_point():
        return first.clone()
    fine = reduce(torch.promote_types, (tensor.dtype for tensor in tensors), torch.float32)
    total = torch.zeros_like(first, dtype=fine)
    for tensor, share in zip(tensors, shares, strict=True):
        total += tensor.to(first.device, fine) * share
    return total.to(first.dtype)
