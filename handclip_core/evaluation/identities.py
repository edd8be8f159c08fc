"""Identities of queries and galleries as small integers, without ever taking a number for a text."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from handclip_core.errors import InputError

Ids = NDArray[Any] | Tensor | Sequence[int] | Sequence[str]
Ints = NDArray[np.int64]


def identity_codes(*columns: Ids, names: Sequence[str]) -> tuple[Ints, ...]:
    """Each column [N] of identities as codes from 0 that are shared between the columns.

    Identities are integers of any width or texts; raises InputError, with the column's name, for other types and for
    integers in one column and texts in another, which would never match.
    """
    arrays = [_ids(column, name) for column, name in zip(columns, names, strict=True)]
    texts = [array.dtype.kind == "U" for array in arrays if len(array)]
    if any(texts) and not all(texts):
        raise InputError(f"{' and '.join(names)}: some identities are integers and some are texts; convert one of them")
    codes = np.unique(np.concatenate([array for array in arrays if len(array)] or arrays), return_inverse=True)[1]
    return tuple(np.split(codes.astype(np.int64, copy=False), np.cumsum([len(array) for array in arrays])[:-1]))


def _ids(column: Ids, name: str) -> NDArray[Any]:
    """A column as int64 or text [N]."""
    array = column.detach().cpu().numpy() if isinstance(column, Tensor) else np.asarray(column)
    if array.ndim != 1:
        raise InputError(f"{name}: identities have the shape {array.shape}; they need one dimension")
    if array.dtype.kind == "O":
        array = _plain(array, name)
    if array.dtype.kind in "ST":
        array = array.astype(np.str_)
    if array.dtype.kind == "u" and array.size and int(array.max()) > np.iinfo(np.int64).max:
        raise InputError(f"{name}: the identity {array.max()} does not fit a signed 64-bit integer; give it as text")
    if array.dtype.kind in "iu" or not array.size:
        return array.astype(np.int64)
    if array.dtype.kind != "U":
        raise InputError(f"{name}: identities are {array.dtype}; they need to be integers or texts")
    return array


def _plain(array: NDArray[Any], name: str) -> NDArray[Any]:
    """An array of Python objects as integers or texts."""
    values = array.tolist()
    if all(isinstance(value, str) for value in values):
        return np.array(values, dtype=np.str_)
    if all(isinstance(value, int) and not isinstance(value, bool) for value in values):
        try:
            return np.array(values, dtype=np.int64)
        except OverflowError:
            raise InputError(f"{name}: an identity does not fit a signed 64-bit integer; give it as text") from None
    odd = [value for value in values if not isinstance(value, (str, int)) or isinstance(value, bool)]
    found = f"{odd[0]!r}" if odd else "integers and texts mixed"
    raise InputError(f"{name}: found {found}; identities need to be all integers or all texts")
