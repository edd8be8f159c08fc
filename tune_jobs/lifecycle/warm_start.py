"""A search that begins with what another sweep has found out."""

import optuna

from tune_jobs.config.settings import SweepSettings
from tune_jobs.reporting import summary as review
from tune_jobs.search.study import SweepStudy, learned_name
from tune_jobs.search.study_storage import find_beside
from tune_jobs.storage.location import Place


def learn(study: SweepStudy, where: Place, other: SweepSettings, *, url: str) -> None:
    """Let the search of ``study`` learn from the sweep ``other`` at ``where``, its study at ``url``; say what it uses.

    What a driver that died has copied before is copied again. Raises InputError where there is no such study.
    """
    copies = find_beside(study.study, learned_name(study.study.study_name))
    if copies is not None:
        optuna.delete_study(study_name=copies.study_name, storage=copies._storage)
    found = study.learn_from(url, name=other.name)
    review.say(f"learning from {review.shown(where)}: {found.lines()[0]}")
    for line in found.lines()[1:]:
        print(line, flush=True)
