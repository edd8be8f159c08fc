"""A harmless payload: what code hidden in a pickle could do, shown by a file that it leaves."""

from pathlib import Path
from typing import Any


class Payload:
    """Leaves a file where it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> Any:
        return Path.touch, (self.mark,)
