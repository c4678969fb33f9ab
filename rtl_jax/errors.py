"""The exceptions that are no defects of ours."""


class UserError(Exception):
    """A mistake that the user can mend: a missing file, a wrong key, a bad checkpoint.

    The message is one clear sentence or a few that say what was expected, what was
    received and what to do. The command lines print it without a traceback and exit
    with code 2; any other exception is a defect of ours and exits with code 1.
    """


class Incomplete(Exception):  # noqa: N818 - all that could be done is done
    """What could be done is done and written; the message says what could not. Exit code 3."""
