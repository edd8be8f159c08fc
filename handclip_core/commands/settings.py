"""``settings``: what an experiment can be told, with meaning, default and bounds."""

from typing import Annotated

import typer

Key = Annotated[
    str | None,
    typer.Argument(
        help="A key or a part of one, as in lr or strategy.optim, or a strategy; none for all.", show_default=False
    ),
]
Schema = Annotated[bool, typer.Option("--schema", help="Print the JSON schema of all of it, for editors.")]


def settings(key: Key = None, schema: Schema = False) -> None:
    """Print the settings of an experiment with kind, bounds, default and meaning.

    Of a group that is given in part, the other keys have their own defaults, not those of the group as a whole.
    """
    from handclip_core.runs.experiment import Experiment
    from handclip_core.settings_reference import describe_settings, json_schema

    print(json_schema(Experiment) if schema else describe_settings(Experiment, key))
