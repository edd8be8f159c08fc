import json

import pytest

from tune_jobs.replicas import Replicas, Run


def test_the_seeds_of_a_trial_follow_each_other_and_only_the_first_is_judged() -> None:
    book = Replicas(count=3, seed=10)
    runs = []
    for value in (0.4, 0.6, 0.8):
        runs.append(book.next_run(7))
        average = book.end(7, value=value, measures={"seconds": 100 * value})
    assert runs == [Run(7, 0, 10), Run(7, 1, 11), Run(7, 2, 12)]
    assert [run.judged for run in runs] == [True, False, False]
    assert average is not None
    assert average.value == pytest.approx(0.6)
    assert average.sd == pytest.approx(0.2)
    assert average.measures == {"seconds": pytest.approx(60.0)}
    assert average.values == (0.4, 0.6, 0.8)


def test_trials_in_between_do_not_mix_and_share_their_seeds() -> None:
    book = Replicas(count=2, seed=0)
    assert book.end(1, value=0.1) is None
    assert book.end(2, value=0.9) is None
    assert book.next_run(1).seed == book.next_run(2).seed == 1
    first, second = book.end(1, value=0.3), book.end(2, value=0.7)
    assert first is not None
    assert second is not None
    assert [first.value, second.value] == pytest.approx([0.2, 0.8])


def test_one_seed_is_an_average_of_its_own_without_a_spread() -> None:
    average = Replicas(count=1, seed=5).end(0, value=0.5)
    assert average is not None
    assert (average.value, average.sd) == (0.5, None)


def test_a_book_that_went_through_json_goes_on_with_the_next_seed() -> None:
    book = Replicas(count=3, seed=0)
    book.end(4, value=0.25, measures={"seconds": 3.0})
    copy = Replicas(count=3, seed=0)
    copy.load(json.loads(json.dumps(book.state())))
    assert copy == book
    assert copy.next_run(4) == Run(4, 1, 1)
