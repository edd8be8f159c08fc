"""Code of the user's own, which settings name by where Python finds it."""

from importlib import import_module
from typing import Annotated, Any

from pydantic import Field

from handclip_core.errors import InputError

DottedPath = Annotated[str, Field(pattern=r"^[^\W\d]\w*(\.[^\W\d]\w*)+$", max_length=200)]
"""A module and what is meant in it, as in ``my_package.losses.Focal``; installed, or on ``PYTHONPATH``, wherever the
settings are used."""


def imported(path: str, *, key: str) -> Any:
    """What ``path`` names, which the settings have at ``key``; its module runs.

    Raises InputError if it cannot be had.
    """
    module, _, name = path.rpartition(".")
    try:
        found = import_module(module)
    except ModuleNotFoundError as error:
        mend = "install its package, or add the folder that holds it to PYTHONPATH"
        raise InputError(f"{key}: {path}: no module '{error.name}'; {mend}") from None
    except Exception as error:
        # Whatever the user's module raises while it is run, it is theirs to mend.
        raise InputError(f"{key}: {path}: {type(error).__name__} while importing {module}: {one_line(error)}") from None
    if not hasattr(found, name):
        raise InputError(f"{key}: {path}: the module {module} has no '{name}'")
    return getattr(found, name)


def one_line(error: Exception) -> str:
    """What an error of the user's own code says, on one line."""
    return " ".join(str(error).split())
