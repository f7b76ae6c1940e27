"""A fleet that speaks only through the real SDK and the wire."""
