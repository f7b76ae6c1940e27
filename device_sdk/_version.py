"""The one version number of both distributions (they are released in lockstep)."""

__version__ = "0.1.0"
