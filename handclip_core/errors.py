"""The one exception for what a user can mend."""


class InputError(ValueError):
    """Wrong input from the user: one line that names the offending value, its place and the mend.

    Command lines print it without a traceback and exit with code 2.
    """
