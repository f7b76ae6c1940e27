"""The machine the program runs on, read from what the system offers cheaply."""
