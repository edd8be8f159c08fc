"""Which spaces belong to which task: a strategy may be searched in another way, or not at all."""

from collections.abc import Mapping

from handclip_core.tasks import IDENTITIES
from handclip_core.tasks.base import Task
from handclip_core.tasks.captions.task import Captions
from handclip_core.tasks.classes.task import Classes
from handclip_core.tasks.identities.task import Identities
from search_spaces import captions, classes, spaces
from search_spaces.spaces import Space

SPACES: Mapping[type[Task], Mapping[str, Space]] = {
    Identities: spaces.SPACES,
    Classes: classes.SPACES,
    Captions: captions.SPACES,
}


def spaces_of(task: Task = IDENTITIES) -> Mapping[str, Space]:
    """The space of every strategy that is searched for ``task``, by its name."""
    return SPACES[type(task)]
