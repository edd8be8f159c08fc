from typing import Any

from handclip_core.engine.phase import Optim
from handclip_core.runs.experiment import Experiment
from handclip_core.strategies import Full, ZeroShot
from tune_jobs.scheduling.retries import Failure, FailureKind, after_failure, halved, largest_batch
from tune_jobs.state.events import Ended, Moved, Retried
from tune_jobs.state.trial import Status, TrialView
from tune_jobs.state.trials import Trials


def view(*, failures: int = 0, micro_batch: int | None = None, strategy: Any = None) -> TrialView:
    experiment = Experiment(strategy=strategy or Full(optim=Optim(batch_size=32)), micro_batch=micro_batch)
    return TrialView(3, "full", {}, experiment, failures=failures)


def follows(kind: FailureKind, *, retries: int = 2, **known: Any) -> Retried | Moved | Ended:
    return after_failure(view(**known), Failure("why", kind), retries=retries, at=1.0)


def test_chance_gets_so_many_more_tries_and_certainty_none() -> None:
    assert isinstance(follows(FailureKind.TRANSIENT, failures=0), Retried)
    assert isinstance(follows(FailureKind.TRANSIENT, failures=1), Retried)
    last = follows(FailureKind.TRANSIENT, failures=2)
    assert (last.event, last.reason) == ("ended", "why")
    assert isinstance(follows(FailureKind.TRANSIENT, retries=0), Ended)
    assert isinstance(follows(FailureKind.FATAL), Ended)


def test_a_state_that_is_lost_makes_the_trial_start_over() -> None:
    assert follows(FailureKind.LOST_CHECKPOINT) == Retried(at=1.0, trial=3, reason="why", anew=True)
    assert follows(FailureKind.TRANSIENT) == Retried(at=1.0, trial=3, reason="why", anew=False)


def test_too_little_memory_halves_the_pass_until_it_is_one_image() -> None:
    sizes, size = [], None
    while isinstance(found := follows(FailureKind.OUT_OF_MEMORY, failures=9, micro_batch=size), Retried):
        size = found.micro_batch
        sizes.append(size)
    assert sizes == [16, 8, 4, 2, 1]


def test_what_has_no_batch_is_tried_again_as_it_is() -> None:
    found = follows(FailureKind.OUT_OF_MEMORY, strategy=ZeroShot())
    assert found == Retried(at=1.0, trial=3, reason="why")
    assert halved(Experiment(strategy=ZeroShot())) is None


def test_the_largest_batch_is_found_at_any_depth() -> None:
    assert largest_batch({"a": {"batch_size": 8}, "b": [{"optim": {"batch_size": 64}}, 3], "batch_size": None}) == 64


def alone(**known: Any) -> Retried | Moved | Ended:
    status = known.pop("status", Status.RUNNING)
    on_cpu = known.pop("on_cpu", True)
    tried = view(micro_batch=known.pop("micro_batch", None))
    tried.status, tried.killed_alone = status, known.pop("killed_alone")
    failure = Failure("low", FailureKind.LOW_MEMORY, alone=known.pop("alone", True))
    return after_failure(tried, failure, retries=0, at=1.0, on_cpu=on_cpu)


def test_a_node_low_on_memory_uses_no_retries_up_unless_the_trial_does_not_fit_alone() -> None:
    again = Moved(at=1.0, trial=3, reason="low", alone=True)
    assert alone(killed_alone=5, alone=False) == Moved(at=1.0, trial=3, reason="low")
    assert alone(killed_alone=0) == again
    assert alone(killed_alone=1) == Retried(at=1.0, trial=3, reason="low", micro_batch=8)
    assert alone(killed_alone=1, micro_batch=8) == Retried(at=1.0, trial=3, reason="low", micro_batch=2)
    assert isinstance(alone(killed_alone=1, micro_batch=1), Ended)


def test_smaller_passes_help_neither_beside_a_gpu_nor_before_a_trial_has_begun() -> None:
    again = Moved(at=1.0, trial=3, reason="low", alone=True)
    assert alone(killed_alone=1, on_cpu=False) == again
    assert alone(killed_alone=1, micro_batch=8, status=Status.WAITING) == again
    assert isinstance(alone(killed_alone=2, on_cpu=False), Ended)
    assert isinstance(alone(killed_alone=2, status=Status.WAITING), Ended)


def test_retries_change_the_record_as_they_say_and_smaller_passes_use_none_up() -> None:
    tried = view()
    tried.checkpoint, tried.saved_unit, tried.checkpoint_bytes = "trials/x", 4, 9
    all_trials = Trials({3: tried})
    all_trials.apply(Retried(at=0, trial=3, reason="why", micro_batch=16))
    assert (tried.experiment.micro_batch, tried.failures, all_trials.holding()) == (16, 0, [tried])
    all_trials.apply(Retried(at=0, trial=3, reason="why", anew=True))
    assert (tried.experiment.micro_batch, tried.saved_unit, tried.failures) == (16, -1, 1)
    assert all_trials.holding() == []
