"""YAML and JSON from outside, read so that nothing in them is taken for something else without a word."""

import json
from collections.abc import Hashable
from pathlib import Path
from typing import Any

import yaml
from yaml import SafeLoader

from handclip_core.errors import InputError
from handclip_core.paths import read_file

MAX_BYTES, MAX_VALUES, MAX_DEPTH = 2**20, 100_000, 50
"""A YAML document of more holds no settings; of values those count that a name (``*name``) stands for, too."""
MAX_JSON_BYTES = 2**28
"""Results of long runs are JSON, too."""
TAG = "tag:yaml.org,2002:"
MERGE, NUMBERS = f"{TAG}merge", (f"{TAG}int", f"{TAG}float")
PLAIN = (*NUMBERS, MERGE, *(f"{TAG}{kind}" for kind in ("null", "bool", "str", "seq", "map")))


class _Loader(SafeLoader):
    """Plain values only; what YAML would take for a date stays a text."""

    yaml_implicit_resolvers = {  # noqa: RUF012 - PyYAML declares it so
        first: [pair for pair in pairs if pair[0] in PLAIN]
        for first, pairs in SafeLoader.yaml_implicit_resolvers.items()
    }


def read_document(path: Path) -> Any:
    """The contents of a YAML file, or of a JSON file named ``.json``; raises InputError if it cannot be read."""
    is_json = path.suffix.lower() == ".json"
    data = read_file(path, max_bytes=MAX_JSON_BYTES if is_json else MAX_BYTES)
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise InputError(f"{path}: not readable: not a text in UTF-8") from None
    if is_json:
        return parse_json(text, source=str(path))
    return parse_yaml(text, source=str(path))


def parse_yaml(text: str, *, source: str) -> Any:
    """The value of the one YAML document in ``text``.

    Raises InputError, which names ``source`` and the line, for a text that is no YAML, several documents, a key given
    twice, tags, values that hold themselves, numbers that readers of YAML disagree on (``020``, ``1:30``), and more
    values or deeper ones than settings have.
    """
    loader = None
    try:
        loader = _Loader(text)
        node = loader.get_single_node()
        if node is None:
            return None
        _Check(source).value(node, ())
        return loader.construct_document(node)
    except yaml.YAMLError as error:
        raise InputError(f"{source}: {_yaml_fault(error)}") from None
    except RecursionError:
        raise InputError(f"{source}: not readable: nested too deep for settings") from None
    except ValueError as error:  # of a tag: !!int "text"
        raise error if isinstance(error, InputError) else InputError(f"{source}: holds a number that is none") from None
    finally:
        if loader is not None:
            loader.dispose()


class _Check:
    """Walks over a document before anything is made of it."""

    def __init__(self, source: str) -> None:
        self._source, self._num_values = source, 0

    def value(self, node: yaml.Node, above: tuple[int, ...]) -> None:
        self._num_values += 1
        if id(node) in above:
            raise self._wrong(node, "a value that holds itself; write it out")
        if len(above) > MAX_DEPTH or self._num_values > MAX_VALUES:
            raise self._wrong(node, "nested too deep for settings" if len(above) > MAX_DEPTH else "too many values")
        if node.tag not in PLAIN:
            raise self._wrong(node, f"'{shortened(node.tag)}' is no plain value, list or mapping")
        within = (*above, id(node))
        if isinstance(node, yaml.ScalarNode):
            self._number(node)
        elif isinstance(node, yaml.SequenceNode):
            for item in node.value:
                self.value(item, within)
        elif isinstance(node, yaml.MappingNode):
            self._keys(node)
            for key, item in node.value:
                self.value(key, within)
                self.value(item, within)

    def _keys(self, node: yaml.MappingNode) -> None:
        first_line: dict[Hashable, int] = {}
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise self._wrong(key, "a key has to be a word")
            line = key.start_mark.line + 1
            if key.tag != MERGE and key.value in first_line:
                raise self._wrong(key, f"'{shortened(key.value)}' is given again after line {first_line[key.value]}")
            first_line[key.value] = line

    def _number(self, node: yaml.ScalarNode) -> None:
        if node.tag not in NUMBERS:
            return
        digits = node.value.lstrip("+-").replace("_", "")
        if ":" in digits:
            raise self._wrong(node, f"{node.value} would be read as a number of base 60; write a plain number")
        if len(digits) > 1 and digits[0] == "0" and digits[1] not in ".eExXbB":
            raise self._wrong(node, f"{shortened(node.value)} has a leading zero, which means octal; leave it out")
        if len(digits) > 100:
            raise self._wrong(node, f"{shortened(node.value)} is no number for settings")

    def _wrong(self, node: yaml.Node, fault: str) -> InputError:
        return InputError(f"{self._source}: line {node.start_mark.line + 1}: {fault}")


def _yaml_fault(error: yaml.YAMLError) -> str:
    if isinstance(error, yaml.composer.ComposerError) and error.context == "expected a single document in the stream":
        return "holds several YAML documents (---); settings are one"
    mark = getattr(error, "problem_mark", None)
    where = f"line {mark.line + 1}: " if mark else ""
    problem = getattr(error, "problem", None) or getattr(error, "reason", None) or "damaged"
    return f"{where}not readable as YAML or JSON ({shortened(' '.join(problem.split()), 100)})"


def parse_json(text: str, *, source: str) -> Any:
    """The value of the JSON document in ``text``; raises InputError, which names ``source``, for anything else."""

    def mapping(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for key, value in pairs:
            if key in found:
                raise InputError(f"{source}: '{shortened(key)}' is given twice")
            found[key] = value
        return found

    try:
        return json.loads(text, object_pairs_hook=mapping)
    except InputError:
        raise
    except json.JSONDecodeError as error:
        raise InputError(f"{source}: line {error.lineno}: not readable as JSON ({error.msg})") from None
    except (ValueError, RecursionError):  # thousands of digits, or of brackets
        raise InputError(f"{source}: not readable as JSON (a number too long, or nested too deep)") from None


def shortened(text: str, length: int = 40) -> str:
    """``text`` for a message: no longer than ``length``."""
    return text if len(text) <= length else f"{text[: length - 3]}..."
