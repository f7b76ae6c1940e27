"""What leaves the device: windows and events as OTLP bytes, and the sender that offers them until they are taken."""
