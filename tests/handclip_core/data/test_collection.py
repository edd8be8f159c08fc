"""A refusal stays one line, however many problems there are."""

from handclip_core.data.collection import summary


def test_first_problems_and_the_number_of_others() -> None:
    assert summary(["a", "b"]) == "a; b"
    assert summary(list("abcde")) == "a; b; c; d; e"
    assert summary(list("abcdefgh")) == "a; b; c; d; e; and 3 more"
