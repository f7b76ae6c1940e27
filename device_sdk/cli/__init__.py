"""The verbs of ``python -m device_sdk``: what the SDK would do on this device, without the host program."""
