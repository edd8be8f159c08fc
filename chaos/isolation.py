"""A network and a disk of a node's own, on this machine: made by root alone, and taken away from the node by faults."""

import errno
import os
import secrets
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

DISK_BYTES = 1024 * 2**20
"""A node's disk, for Ray's logs and the states of a small CLIP; it takes no more memory than is written."""
PART_BYTES = (2**20, 2**12, 1)
"""Sizes of the pieces that a disk is filled with, one after the other."""
FILLER = "filler"


def can_isolate() -> bool:
    """Whether this process may make networks and disks."""
    return os.geteuid() == 0 and shutil.which("ip") is not None


@dataclass(frozen=True)
class Network:
    """A bridge, and on it a namespace with an address for each node; programs outside are at the bridge's address."""

    name: str
    prefix: str
    """The first three numbers of every address."""

    @classmethod
    def make(cls) -> "Network":
        """A new one, where there is none yet; raises RuntimeError where the system refuses it."""
        taken = _run("ip", "-o", "route", "show")
        while (prefix := f"10.{128 + secrets.randbelow(128)}.{secrets.randbelow(256)}") in taken:
            pass
        network = cls(f"hc{secrets.token_hex(3)}", prefix)
        _run("ip", "link", "add", network.name, "type", "bridge")
        try:
            _run("ip", "addr", "add", f"{network.host}/24", "dev", network.name)
            _run("ip", "link", "set", network.name, "up")
        except RuntimeError:
            network.remove()
            raise
        return network

    @property
    def host(self) -> str:
        """The address of this machine itself."""
        return f"{self.prefix}.1"

    def join(self, place: int) -> str:
        """Make the namespace of a place, counted from 1; returns its address."""
        name, address = self._namespace(place), f"{self.prefix}.{place + 1}"
        _run("ip", "netns", "add", name)
        _run("ip", "link", "add", name, "type", "veth", "peer", "name", "eth0", "netns", name)
        _run("ip", "link", "set", name, "master", self.name, "up")
        _run("ip", "-n", name, "addr", "add", f"{address}/24", "dev", "eth0")
        for device in ("lo", "eth0"):
            _run("ip", "-n", name, "link", "set", device, "up")
        return address

    def within(self, place: int) -> list[str]:
        """What a command is preceded by so that it runs in a place's namespace."""
        return ["ip", "netns", "exec", self._namespace(place)]

    def cut(self, place: int) -> None:
        """Let nothing through to a place any more, nor from it."""
        _run("ip", "link", "set", self._namespace(place), "down")

    def mend(self, place: int) -> None:
        """Let everything through again."""
        _run("ip", "link", "set", self._namespace(place), "up")

    def remove(self) -> None:
        """Take it all away."""
        for line in _run("ip", "netns", "list").splitlines():
            if line.startswith(f"{self.name}-"):
                _run("ip", "netns", "delete", line.split()[0])
        _run("ip", "link", "delete", self.name)

    def _namespace(self, place: int) -> str:
        return f"{self.name}-{place}"


def mount_disk(folder: Path) -> None:
    """Put a small disk, in memory, at ``folder``; raises RuntimeError where the system refuses it."""
    folder.mkdir()
    _run("mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "tmpfs", str(folder))


def unmount_disk(folder: Path) -> None:
    """Take it away with all that is on it."""
    _run("umount", "--lazy", str(folder))


def fill_disk(folder: Path) -> None:
    """Leave no room on the disk at ``folder``."""
    with (folder / FILLER).open("wb", buffering=0) as file:
        for size in PART_BYTES:
            _write_until_full(file.fileno(), b"\0" * size)


def _write_until_full(file: int, part: bytes) -> None:
    try:
        while os.write(file, part):
            pass
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise


def _run(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(command)}: {done.stderr.strip()}")
    return done.stdout
