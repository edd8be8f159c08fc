"""What the winner of the finals gets right and another one wrong, and the other way round, question by question."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from handclip_core.data.manifest import Prepared
from handclip_core.errors import InputError
from handclip_core.evaluation.questions import Bools, Item, Panel, Questions
from tune_jobs.finals.ranking import Standing, Standings
from tune_jobs.reporting.page import Section, Strip, Table, percent
from tune_jobs.reporting.panels import cards

TITLE = "What one gets right and the other wrong"
SHOWN = 8
"""Questions that are shown of each kind."""
Asked = tuple[Sequence[Questions], Sequence[Questions]]
"""What two finalists were asked, on each seed."""


def differences(standings: Standings, data: Prepared | None) -> list[Section]:
    """The winner beside the best of another strategy: questions whose first answer is right for one of them alone.

    Nothing if there is nobody beside the winner, or the task shows no questions.
    """
    if len(standings.rows) < 2:
        return []
    if data is None:
        return [Section(title=TITLE, missing="The data are not on this machine: hold the finals where they are.")]
    pair = standings.winner, _rival(standings)
    try:
        ours, theirs = ([scores.questions(data) for scores in one.entrant.scores] for one in pair)
    except InputError as error:
        return [Section(title=TITLE, missing=str(error))]
    left, right = ([one for one in asked if one is not None] for asked in (ours, theirs))
    return [_section(pair, left, right, data)] if left and right else []


def _rival(standings: Standings) -> Standing:
    """The best of another strategy, or on another backbone, than the winner; if there is none, the second."""
    arm = standings.winner.entrant.recipe.arm
    return next((row for row in standings.rows if row.entrant.recipe.arm != arm), standings.rows[1])


def _section(
    pair: tuple[Standing, Standing], ours: Sequence[Questions], theirs: Sequence[Questions], data: Prepared
) -> Section:
    names = [one.name for one in pair]
    left, right = (np.stack([one.right for one in asked]) for asked in (ours, theirs))  # [seeds, M]
    outcomes = {
        "both": left & right,
        f"{names[0]} alone": left & ~right,
        f"{names[1]} alone": ~left & right,
        "none": ~left & ~right,
    }
    columns = {
        "first answer is right": list(outcomes),
        "questions, %": [percent(float(found.mean())) for found in outcomes.values()],
        "on every seed": [f"{int(found.all(axis=0).sum()):,}" for found in outcomes.values()],
    }
    strips = [
        *_strips(f"Right with {names[0]}; wrong with {names[1]}", left & ~right, right & ~left, (ours, theirs), data),
        *_strips(f"Right with {names[1]}; wrong with {names[0]}", right & ~left, left & ~right, (theirs, ours), data),
    ]
    lines = (
        f"{names[0]}, the winner, beside {names[1]}, the best of the others: the same {left.shape[1]:,} questions, "
        f"each asked on {len(left)} seeds. Below are those that one alone answers on most seeds, its answer before the "
        "other's.",
    )
    return Section(title=TITLE, lines=lines, tables=(Table.of("First answers", columns),), strips=tuple(strips))


def _strips(caption: str, gained: Bools, lost: Bools, asked: Asked, data: Prepared) -> list[Strip]:
    """Questions that more seeds have ``gained`` [seeds, M] than ``lost``, those of most first, as one seed has them."""
    surplus = gained.sum(axis=0) - lost.sum(axis=0)
    items: list[Item] = []
    seen: set[Item] = set()
    for at in np.argsort(-surplus, kind="stable").tolist():
        if surplus[at] <= 0 or len(seen) == SHOWN:
            break
        both = [one[int(gained[:, at].argmax())].panel(at) for one in asked]
        question = both[0].question
        if question not in seen:  # an image asks in every gallery split
            seen.add(question)
            items += _compared(both)
    return [Strip(caption=f"{caption}:", images=cards(items, data))] if items else []


def _compared(both: Sequence[Panel]) -> list[Item]:
    """A question, and the first answers of the two; if these are not known, what came of it in words."""
    question, answers = both[0].question, [item for panel in both for item in panel.answers[:1]]
    if answers:
        return [replace(question, text=f"query: {question.text}" if question.text else "query"), *answers]
    return [replace(question, text=f"{question.text}: {' | '.join(panel.outcome for panel in both)}")]
