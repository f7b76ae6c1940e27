"""From a decoded request to a durable segment."""
