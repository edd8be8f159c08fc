"""Tasks: what labels mean and how good an answer is. A new one is a folder here and a line in AnyTask."""

from typing import Annotated

from pydantic import Field

from handclip_core.tasks.captions.task import Captions
from handclip_core.tasks.classes.task import Classes
from handclip_core.tasks.identities.task import Identities

AnyTask = Annotated[Identities | Classes | Captions, Field(discriminator="name")]
"""Any task's settings, told apart by ``name``."""

IDENTITIES = Identities()
"""The task of settings that name none."""
