"""The errors a user can cause or meet; the command line prints them without a traceback.

An error text says what is wrong, where, and what to do. It never quotes a row of patient data.
"""


class MimicRegError(Exception):
    """Something failed although the request was sound: a full disk, a lock (exit code 1)."""

    exit_code = 1


class InputError(MimicRegError, ValueError):
    """The request or its input is wrong: a bad option, a broken file (exit code 2)."""

    exit_code = 2
