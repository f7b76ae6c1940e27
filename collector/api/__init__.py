"""HTTP: the device port and the operator port; the only importer of fastapi."""
