"""One line around an inference session: latency, drift and crash summaries over OTLP, never raw data."""
