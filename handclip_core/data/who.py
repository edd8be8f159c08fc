"""Who is who: identities that are written in several ways are one, so that nobody stands on both sides of a split."""

import re
import unicodedata
from collections.abc import Hashable

import pandas as pd

NUM_NAMED = 5
_WHOLE = re.compile(r"[+]?(\d+)([.]0*)?")


def identity_key(text: str) -> Hashable:
    """What spellings of one identity share: the whole number if it is one, else the text without case and edges.

    Other Unicode forms of a letter (NFKC) and signs that are not seen make no other identity.
    """
    seen = "".join(letter for letter in text if unicodedata.category(letter) != "Cf")
    normal = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", seen).casefold())
    number = _WHOLE.fullmatch(normal.strip())
    return int(number[1]) if number else " ".join(normal.split())


def _clean(text: str) -> str:
    return unicodedata.normalize("NFC", text).strip()


def fold_identities(identities: pd.Series) -> tuple[pd.Series, tuple[str, ...]]:
    """``identities`` [N] in one spelling each, and a note if some were written in several.

    The spelling of most images stays, of equally many the longest, in NFC. An identity in one spelling stays as it is.
    """
    texts = identities.map(_clean)
    keys = texts.map(identity_key)
    spelled: dict[Hashable, list[str]] = {}
    for text in pd.unique(identities):
        spelled.setdefault(identity_key(text), []).append(text)
    several = {key: forms for key, forms in spelled.items() if len(forms) > 1}
    if not several:
        return texts, ()
    counts = texts.value_counts()
    chosen = {
        key: max(set(map(_clean, forms)), key=lambda form: (counts[form], len(form), form))
        for key, forms in several.items()
    }
    folded = texts.where(~keys.isin(list(chosen)), keys.map(chosen))
    named = "; ".join(" = ".join(repr(form) for form in sorted(forms)) for forms in list(several.values())[:NUM_NAMED])
    more = f"; and {len(several) - NUM_NAMED} more" if len(several) > NUM_NAMED else ""
    note = f"{len(several)} identities are written in several ways and count as one person each ({named}{more}); "
    return folded, (note + "if they are different people, rename them",)
