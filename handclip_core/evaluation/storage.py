"""Scores on disk: a summary that people and programs read, and single query results that comparisons need."""

import dataclasses
import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar
from zipfile import BadZipFile

import numpy as np

from handclip_core.errors import InputError
from handclip_core.evaluation.protocol import GalleryKind, ProtocolScores, QueryScores, collect

FORMAT = 1
Read = TypeVar("Read")


def summary(scores: ProtocolScores) -> dict[str, Any]:
    """The figures as plain values for JSON: overall, by aspect, and of each gallery split; no single queries."""
    return {
        "gallery": scores.gallery.value,
        "num_queries": scores.num_queries,
        "num_unmatched": scores.num_unmatched,
        "without_query": list(scores.without_query),
        "overall": dataclasses.asdict(scores.overall),
        "per_aspect": {name: dataclasses.asdict(values) for name, values in scores.per_aspect.items()},
        "per_draw": {name: values.tolist() for name, values in scores.per_draw.items()},
    }


def save_scores(path: Path, scores: ProtocolScores) -> None:
    """Write all single query results to an ``.npz`` file, whole or not at all."""
    about = {
        "format": FORMAT,
        "gallery": scores.gallery.value,
        "aspects": scores.aspects,
        "without_query": scores.without_query,
    }
    columns = {name: getattr(scores.queries, name) for name in QueryScores.__dataclass_fields__}
    write_arrays(path, about, columns)


def write_arrays(path: Path, about: Mapping[str, Any], columns: Mapping[str, Any]) -> None:
    """Write ``columns``, and ``about`` as JSON beside them, to an ``.npz`` file, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with temporary.open("wb") as file:
            np.savez_compressed(file, about=np.array(json.dumps(about)), **columns)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def read_arrays(path: Path, build: Callable[[Mapping[str, Any], Mapping[str, Any]], Read], *, version: int) -> Read:
    """What ``build`` makes of what ``write_arrays`` wrote, the JSON and the arrays by name.

    Raises InputError if the file is missing, damaged or something else, or of another format than ``version``.
    """
    try:
        with np.load(path, allow_pickle=False) as stored:
            about = json.loads(str(stored["about"]))
            if about["format"] == version:
                return build(about, stored)
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; evaluate the model first") from None
    except (OSError, ValueError, KeyError, TypeError, EOFError, BadZipFile) as error:
        raise InputError(f"{path}: not a file of scores: {error}") from None
    raise InputError(f"{path}: scores in format {about['format']}, this version reads {version}; evaluate again")


def load_scores(path: Path) -> ProtocolScores:
    """Read what :func:`save_scores` wrote; raises InputError if the file is missing or is something else."""

    def build(about: Mapping[str, Any], stored: Mapping[str, Any]) -> ProtocolScores:
        return collect(
            QueryScores(**{name: stored[name] for name in QueryScores.__dataclass_fields__}),
            about["aspects"],
            gallery=GalleryKind(about["gallery"]),
            without_query=tuple(about["without_query"]),
        )

    return read_arrays(path, build, version=FORMAT)
