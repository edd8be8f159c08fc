"""What counts as one identity written in several ways."""

import pytest

from handclip_core.data.who import identity_key


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("1", "0000001"),
        ("1", "1.0"),
        ("1", "+1"),
        ("1", "\uff11"),
        ("p2", "P2 "),
        ("p2", "\uff50\uff12"),
        ("p2", "p2\u200b"),
        ("Zo\u00e9", "Zoe\u0301"),
        ("a  b", "a\u00a0b"),
        ("stra\u00dfe", "STRASSE"),
    ],
)
def test_spellings_of_one_identity_share_a_key(one: str, other: str) -> None:
    assert identity_key(one) == identity_key(other)


@pytest.mark.parametrize(("one", "other"), [("1", "10"), ("1.5", "1"), ("-1", "1"), ("p2", "p3"), ("a b", "ab")])
def test_other_identities_do_not(one: str, other: str) -> None:
    assert identity_key(one) != identity_key(other)
