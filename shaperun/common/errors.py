"""The one error that users see: something they gave us is wrong, and the message says what."""


class UserError(Exception):
    """A mistake that the user can mend; the command ends with exit status 2 and this message."""
