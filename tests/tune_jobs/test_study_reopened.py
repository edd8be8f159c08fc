"""A study that is opened again: it goes on as if it had never been closed, and learns from others."""

from pathlib import Path

import optuna
import pytest
from optuna.trial import TrialState

from handclip_core.errors import InputError
from tune_jobs.config.search import Allocation, SamplerKind, Search
from tune_jobs.search.study import Asked, SweepStudy

STRATEGIES = ("zero_shot", "linear_probe", "adapters")


def sqlite(folder: Path) -> str:
    return f"sqlite:///{folder / 'study.db'}"


def opened(url: str, search: Search, *, reopen: bool = False, name: str = "sweep") -> SweepStudy:
    return SweepStudy(url, name=name, strategies=STRATEGIES, seed=5, search=search, reopen=reopen)


def ask(study: SweepStudy) -> Asked:
    asked = study.ask()
    assert asked is not None
    return asked


def play(study: SweepStudy, asked: Asked) -> None:
    """A made-up trial: every third one is stopped, every seventh fails, others end with a score of their rate."""
    score = float(asked.params.get("strategy/optim/lr", 0.001)) * 50  # type: ignore[arg-type]
    study.report(asked.number, unit=1, value=score)
    if asked.number % 7 == 6:
        study.fail(asked.number, reason="RuntimeError: bad luck")
    elif asked.number % 3 == 2:
        study.prune(asked.number)
    else:
        study.report(asked.number, unit=2, value=score * 1.1)
        study.complete(asked.number, value=score * 1.1)


def run(study: SweepStudy, trials: int) -> list[Asked]:
    done = []
    for _ in range(trials):
        asked = ask(study)
        play(study, asked)
        done.append(asked)
    return done


@pytest.mark.parametrize(
    ("sampler", "allocation", "trials"),
    [
        (SamplerKind.TPE, Allocation.ADAPTIVE, 16),
        (SamplerKind.TPE, Allocation.EQUAL, 16),
        (SamplerKind.RANDOM, Allocation.ADAPTIVE, 9),
        (SamplerKind.GP, Allocation.EQUAL, 9),
    ],
)
def test_a_reopened_study_asks_what_it_would_have_asked(
    tmp_path: Path, sampler: SamplerKind, allocation: Allocation, trials: int
) -> None:
    search = Search(
        sampler=sampler, allocation=allocation, startup_trials=4, points=({"strategy": "adapters", "optim/lr": 1e-4},)
    )
    whole = run(SweepStudy(None, name="s", strategies=STRATEGIES, seed=5, search=search), trials)
    (tmp_path / "cut").mkdir()
    url = sqlite(tmp_path / "cut")
    pieces = run(opened(url, search), 2)
    while len(pieces) < trials:
        pieces += run(opened(url, search, reopen=True), min(4, trials - len(pieces)))
    assert pieces == whole


def test_another_seed_asks_for_something_else() -> None:
    def draws(seed: int) -> list[object]:
        study = SweepStudy(None, name="s", strategies=STRATEGIES, seed=seed, search=Search())
        return [asked.params for asked in run(study, 8)[3:]]

    assert draws(1) == draws(1) != draws(2)


def running(study: SweepStudy) -> list[int]:
    return [trial.number for trial in study.trials() if trial.state is TrialState.RUNNING]


def test_running_trials_are_taken_back_with_the_same_settings_and_told(tmp_path: Path) -> None:
    first = opened(sqlite(tmp_path), Search())
    asked = [ask(first) for _ in range(5)]
    first.report(3, unit=1, value=0.3)
    play(first, asked[0])

    second = opened(sqlite(tmp_path), Search(), reopen=True)
    assert running(second) == [1, 2, 3, 4]
    assert [second.adopt(number) for number in (1, 2, 3, 4)] == asked[1:]
    second.report(3, unit=1, value=0.9)
    second.report(3, unit=2, value=0.5)
    second.complete(3, value=0.5)
    stored = second.trials()[3]
    assert stored.intermediate_values == {1: 0.3, 2: 0.5}
    assert stored.state is TrialState.COMPLETE
    assert ask(second).number == 5


def test_only_running_trials_can_be_taken_back(tmp_path: Path) -> None:
    study = opened(sqlite(tmp_path), Search())
    play(study, ask(study))
    for number in (0, 1):
        with pytest.raises(InputError, match=f"trial {number} is not running"):
            opened(sqlite(tmp_path), Search(), reopen=True).adopt(number)


def test_a_trial_of_another_space_is_refused_with_the_place(tmp_path: Path) -> None:
    study = opened(sqlite(tmp_path), Search())
    for _ in range(2):
        ask(study)
    narrower = Search(ranges={"linear_probe/optim/lr": (1e-5, 2e-5)})
    with pytest.raises(InputError, match=r"trial 1 was drawn from another space: linear_probe/optim/lr: .* outside"):
        opened(sqlite(tmp_path), narrower, reopen=True).adopt(1)


def test_a_driver_that_dies_while_it_asks_leaves_the_whole_trial_or_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every write of an ask is one transaction: the trial with its strategy and all its draws."""
    study = opened(sqlite(tmp_path), Search())
    added: list[optuna.trial.FrozenTrial] = []
    real = optuna.study.Study.add_trial

    def count(self: optuna.study.Study, trial: optuna.trial.FrozenTrial) -> None:
        added.append(trial)
        real(self, trial)
        raise KeyboardInterrupt

    monkeypatch.setattr(optuna.study.Study, "add_trial", count)
    for _ in range(5):
        with pytest.raises(KeyboardInterrupt):
            study.ask()
    monkeypatch.undo()
    again = opened(sqlite(tmp_path), Search(), reopen=True)
    assert [again.adopt(number).origin for number in running(again)] == ["default"] * 3 + ["sampled"] * 2
    assert [trial.params for trial in again.trials()] == [trial.params for trial in added]


def teacher(url: str, *, trials: int, good: str = "adapters") -> list[optuna.trial.FrozenTrial]:
    """Another sweep, whose last trial never ended."""
    study = SweepStudy(url, name="old", strategies=("zero_shot", "full", "adapters"), seed=0, search=Search())
    for _ in range(trials):
        asked = ask(study)
        score = 0.9 if asked.strategy.name == good else 0.1
        study.report(asked.number, unit=1, value=score)
        study.complete(asked.number, value=score)
    ask(study)
    return study.trials()


def test_a_warm_start_takes_what_agrees_and_says_what_it_dropped(tmp_path: Path) -> None:
    old = teacher(sqlite(tmp_path), trials=16)
    name = "adapters/optim/lr"
    fits = [trial.number for trial in old[:-1] if trial.params.get(name, 1.0) <= 2e-3]
    assert 0 < len(fits) < sum(name in trial.params for trial in old)
    study = SweepStudy(None, name="s", strategies=STRATEGIES, seed=1, search=Search(ranges={name: (1e-5, 2e-3)}))
    found = study.learn_from(sqlite(tmp_path), name="old")
    assert len(found.taken) == len(fits)
    assert sorted(found.dropped) == [trial.number for trial in old if trial.number not in fits]
    reasons = set(found.dropped.values())
    assert {"strategy 'full' is not in this sweep", "zero_shot has nothing to search", "never ended"} <= reasons
    assert any(reason.startswith(f"{name}: ") and reason.endswith("lies outside 1e-05 to 0.002") for reason in reasons)
    assert found.lines()[0] == f"{len(fits)} of 17 trials are used"
    lost = sum(reason == "strategy 'full' is not in this sweep" for reason in found.dropped.values())
    assert f"  {lost} dropped: strategy 'full' is not in this sweep" in found.lines()


def test_what_was_learned_steers_the_search_but_is_no_trial_of_this_study(tmp_path: Path) -> None:
    teacher(sqlite(tmp_path), trials=24)
    url, search = f"sqlite:///{tmp_path / 'new.db'}", Search(startup_trials=5)
    study = opened(url, search)
    study.learn_from(sqlite(tmp_path), name="old")
    assert study.trials() == []
    names = [ask(study).strategy.name for _ in range(7)]
    assert names[:3] == list(STRATEGIES)
    names += [ask(opened(url, search, reopen=True)).strategy.name for _ in range(3)]
    straight = SweepStudy(None, name="s", strategies=STRATEGIES, seed=5, search=search)
    straight.learn_from(sqlite(tmp_path), name="old")
    assert [ask(straight).strategy.name for _ in range(10)] == names
    names += [ask(straight).strategy.name for _ in range(20)]
    unlearned = SweepStudy(None, name="s", strategies=STRATEGIES, seed=5, search=search)
    assert names.count("adapters") > [ask(unlearned).strategy.name for _ in range(30)].count("adapters") + 4


def test_two_studies_can_be_learned_from(tmp_path: Path) -> None:
    teacher(sqlite(tmp_path), trials=5)
    study = SweepStudy(None, name="s", strategies=STRATEGIES, seed=1, search=Search())
    taken = [len(study.learn_from(sqlite(tmp_path), name="old").taken) for _ in range(2)]
    assert taken[0] == taken[1] > 0


def test_learning_from_a_study_that_is_not_there_is_refused(tmp_path: Path) -> None:
    study = opened(sqlite(tmp_path), Search())
    with pytest.raises(InputError, match="no study 'old'; it holds sweep"):
        study.learn_from(sqlite(tmp_path), name="old")
