import pytest

from handclip_core.evaluation.metrics import hardly_moved


@pytest.mark.parametrize(
    ("scores", "hardly"),
    [
        ([0.5, 0.504], True),
        ([0.5, 0.506], False),
        ([0.98, 0.981], False),
        ([0.98, 0.9801], True),
        ([1.0, 1.0], False),
        ([0.5], False),
        ([], False),
    ],
)
def test_a_run_has_hardly_moved_by_what_it_lacks_to_one(scores: list[float], hardly: bool) -> None:
    assert hardly_moved(scores) == hardly
