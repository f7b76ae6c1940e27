"""Receivers of notices: each module is one kind, all are ``base.Notifier``."""
