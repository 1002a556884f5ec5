"""The exception that is reported to users without a traceback."""


class UserError(Exception):
    """Error that the user can fix: the command prints its message and exits with status 2."""
