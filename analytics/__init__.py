"""Judgement: verdicts on latency, stability, SLOs and drift from roll-ups."""
