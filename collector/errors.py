"""Errors of the server: each says what, the value, and how to mend it."""

from __future__ import annotations


class StackError(Exception):
    """Root of the server's errors; shown to the operator without a traceback."""


class DataDirectoryError(StackError):
    """The data directory cannot be used (held by another process, newer version, not writable)."""


class UnknownQueryError(StackError):
    """A query of that name does not exist."""


class QueryTimeoutError(StackError):
    """A query ran longer than its limit and was interrupted."""


class ConfigError(StackError):
    """A rule, SLO, target or settings file is not valid; carries file and line where known."""
