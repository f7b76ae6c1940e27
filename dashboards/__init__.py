"""Pages for SREs and on-call people, drawn from the query API only."""
