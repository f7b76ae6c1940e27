"""The verbs of the command, a module for each kind of work."""
