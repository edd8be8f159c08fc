"""Arms of a search, by name: a strategy on a backbone, ``full@ViT-B-32``; where there is one backbone, the strategy."""

AT = "@"


def arm_of(strategy: str, backbone: str) -> str:
    """The arm of a strategy on the backbone called ``backbone``; an empty one says that there is only one."""
    return f"{strategy}{AT}{backbone}" if backbone else strategy


def under(owner: str, name: str) -> str:
    """The hyperparameter ``name``, whatever stands before its path, as one of ``owner``: ``full@RN50/optim/lr``."""
    return f"{owner}/{name.partition('/')[2]}"


def strategy_in(arm: str) -> str:
    """The strategy of an arm."""
    return arm.partition(AT)[0]


def backbone_in(arm: str) -> str:
    """What the backbone of an arm is called; empty if there is only one."""
    return arm.partition(AT)[2]
