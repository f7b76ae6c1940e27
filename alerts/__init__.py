"""Alerts: verdict rows become states, states become notices, all of it in an append-only ledger."""
