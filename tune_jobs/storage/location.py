"""Where a sweep is kept: a folder, or a bucket of an object store, which is named by a URI.

A bucket has no file that could be added to or locked, so a driver works in a local copy, a folder of its host's cache,
and keeps the bucket in step with it. What is in the bucket counts.
"""

import hashlib
import re
import secrets
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Annotated, TypeVar
from urllib.parse import urlsplit

from pyarrow import ArrowException, NativeFile, fs  # type: ignore[import-untyped]
from pydantic import BeforeValidator, PlainSerializer, WithJsonSchema

from handclip_core.errors import InputError
from handclip_core.paths import cache_root, user_path
from handclip_core.scratch import scratch_folder

Value = TypeVar("Value")
SCHEME = re.compile(r"(s3|gs|gcs|abfss?|az|hdfs|viewfs|file|https?):/*", re.IGNORECASE)
"""How a URI begins; a folder is hardly called so."""
ANSWER_S = 30.0
"""Seconds within which a bucket has to answer when a sweep begins."""


@dataclass(frozen=True)
class BucketLocation:
    """A place in a bucket: any URI that ``pyarrow.fs.FileSystem.from_uri`` knows, whose ``?options`` hold below it."""

    uri: str

    def __str__(self) -> str:
        return self.uri

    def __truediv__(self, below: str) -> "BucketLocation":
        path, mark, options = self.uri.partition("?")
        return BucketLocation(f"{path.rstrip('/')}/{below}{mark}{options}")

    @property
    def parent(self) -> "BucketLocation":
        """The place that this one lies in."""
        path, mark, options = self.uri.partition("?")
        return BucketLocation(f"{path.rstrip('/').rpartition('/')[0]}{mark}{options}")

    @property
    def name(self) -> str:
        """The last part of the path."""
        return self.uri.partition("?")[0].rstrip("/").rpartition("/")[2]

    def read(self) -> bytes | None:
        """The object at this place, None if there is none; raises OSError if the bucket does not answer."""
        store = open_location(self)
        try:
            with store.filesystem.open_input_file(store.path) as stream:
                data: bytes = stream.read()
        except FileNotFoundError:
            return None
        return data

    def write(self, data: bytes) -> None:
        """Put an object here whole, in the place of what is there; raises OSError if that cannot be."""
        with _output(self) as stream:
            stream.write(data)

    def send(self, file: Path) -> None:
        """Put the contents of ``file`` here; raises OSError if that cannot be."""
        with file.open("rb") as source, _output(self) as stream:
            shutil.copyfileobj(source, stream, 2**24)

    def delete(self) -> None:
        """Remove the object at this place, if there is one; raises OSError if the bucket does not answer."""
        store = open_location(self)
        with suppress(FileNotFoundError):
            store.filesystem.delete_file(store.path)

    def fetch(self, folder: Path) -> None:
        """Copy all objects below this place into ``folder``; raises OSError, FileNotFoundError if there are none."""
        store = open_location(self)
        folder.mkdir(parents=True, exist_ok=True)
        fs.copy_files(store.path, str(folder), source_filesystem=store.filesystem)

    def check(self) -> None:
        """Raise InputError, within half a minute, if the bucket cannot be written to and read from."""
        try:
            problem = within(ANSWER_S, self._problem)
        except TimeoutError:
            problem = f"does not answer within {ANSWER_S:g} s"
        if problem is not None:
            raise InputError(f"storage: {self}: {problem}")

    def _problem(self) -> str | None:
        probe = self / f".probe-{secrets.token_hex(4)}"
        try:
            store = open_location(self)
            root = store.path.partition("/")[0]
            if root and store.filesystem.get_file_info(root).type is fs.FileType.NotFound:
                return f"there is no bucket '{root}'; make it first"
            # Who may look into a bucket need not be allowed to write.
            probe.write(b"")
            probe.delete()
        except (OSError, ValueError, ArrowException) as error:
            return f"cannot be used ({' '.join(str(error).split())}); look at its name, endpoint and keys"
        return None


StorageLocation = Path | BucketLocation


@dataclass(frozen=True)
class Store:
    """A file system, and a path in it."""

    filesystem: fs.FileSystem
    path: str


def as_location(given: object) -> object:
    """A folder or a bucket from what stands in settings or on a command line; raises ValueError for keys in a URI."""
    if isinstance(given, BucketLocation):
        return given
    if isinstance(given, Path):
        return user_path(given)
    if not isinstance(given, str) or not given:
        raise ValueError(f"{given!r} is neither a folder nor a URI")
    if "://" not in given:
        if scheme := SCHEME.match(given):
            raise ValueError(f"{given!r} is neither a folder nor a URI; a URI begins with {scheme[0].rstrip('/')}//")
        return user_path(given)
    if urlsplit(given).password is not None:
        raise ValueError("a URI with keys would be written down; put them into the environment, as AWS_ACCESS_KEY_ID")
    return BucketLocation(given)


def parse_location(given: str) -> StorageLocation:
    """A folder or a bucket by what stands on a command line; raises InputError if it cannot be one."""
    try:
        found = as_location(given)
    except ValueError as error:
        raise InputError(str(error)) from None
    assert isinstance(found, Path | BucketLocation)
    return found


LocationSetting = Annotated[
    StorageLocation,
    BeforeValidator(as_location),
    PlainSerializer(str, when_used="json"),
    WithJsonSchema({"type": "string", "format": "path"}),
]
"""A setting that is a folder or the URI of a bucket."""


def open_location(where: StorageLocation) -> Store:
    """The file system of a place and its path there; raises OSError or ValueError if the URI names none."""
    if isinstance(where, Path):
        return Store(fs.LocalFileSystem(), str(where))
    address, mark, options = where.uri.partition("?")
    scheme, _, rest = address.partition("://")
    root, _, path = rest.partition("/")
    filesystem, base = _root(f"{scheme}://{root}/{mark}{options}")
    return Store(filesystem, f"{base.rstrip('/')}/{path.rstrip('/')}" if path else base)


# A client keeps connections open, which a new one would have to make again.
@lru_cache(maxsize=16)
def _root(uri: str) -> tuple[fs.FileSystem, str]:
    if uri.startswith("s3://"):
        # One request for a small object instead of three.
        uri += f"{'&' if '?' in uri else '?'}allow_delayed_open=true"
    found: tuple[fs.FileSystem, str] = fs.FileSystem.from_uri(uri)
    return found


def _output(where: BucketLocation) -> NativeFile:
    store = open_location(where)
    try:
        return store.filesystem.open_output_stream(store.path)
    except FileNotFoundError:  # a file system with folders
        store.filesystem.create_dir(store.path.rpartition("/")[0])
        return store.filesystem.open_output_stream(store.path)


def absolute(where: StorageLocation) -> StorageLocation:
    """A folder's absolute path; a bucket as it is."""
    return where.expanduser().resolve() if isinstance(where, Path) else where


def exists(where: StorageLocation) -> bool:
    """Whether there is anything at a place; raises OSError if it does not answer."""
    store = open_location(where)
    return store.filesystem.get_file_info(store.path).type is not fs.FileType.NotFound


def is_folder(where: StorageLocation) -> bool:
    """Whether a place can have anything below it; raises OSError if it does not answer."""
    store = open_location(where)
    return store.filesystem.get_file_info(store.path).type is fs.FileType.Directory


def files_below(where: StorageLocation) -> list[str]:
    """Paths of all files below a place, relative to it; raises OSError if it does not answer."""
    store = open_location(where)
    found = store.filesystem.get_file_info(fs.FileSelector(store.path, allow_not_found=True, recursive=True))
    return [info.path.removeprefix(store.path).lstrip("/") for info in found if info.is_file]


def folder_of(where: StorageLocation) -> Path:
    """The folder itself, or the local copy of what is in a bucket: under ``sweeps`` in this host's cache."""
    if isinstance(where, Path):
        return where
    # Several buckets may have sweeps of one name.
    key = hashlib.sha256(str(where.parent).encode()).hexdigest()[:16]
    return cache_root().absolute() / "sweeps" / key / where.name


def location_of(storage: StorageLocation, folder: Path) -> StorageLocation:
    """Where a sweep in ``storage`` is kept, given its folder or local copy."""
    return folder if isinstance(storage, Path) else storage / folder.name


@contextmanager
def local_copy(where: StorageLocation) -> Iterator[Path]:
    """A folder with the files at a place: itself, or a copy that is there within the block.

    Raises FileNotFoundError if there is nothing in the bucket, OSError if it does not answer.
    """
    if isinstance(where, Path):
        yield where
        return
    with scratch_folder() as folder:
        where.fetch(folder)
        yield folder


def within(seconds: float, action: Callable[[], Value]) -> Value:
    """What ``action`` returns; raises TimeoutError if that takes longer."""
    found: list[Value] = []
    thread = threading.Thread(target=lambda: found.append(action()), daemon=True)
    thread.start()
    thread.join(seconds)
    if not found:
        raise TimeoutError
    return found[0]
