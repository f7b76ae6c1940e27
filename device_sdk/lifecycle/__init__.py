"""The session that is observed: its identity and boot, the mark it leaves on disk, and how it ends."""
