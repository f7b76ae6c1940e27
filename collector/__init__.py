"""Server core: takes OTLP in, keeps it exactly once, answers named queries."""
