"""The device as a test bench: open a model file, run it alone, and say how fast, how big and how hot."""
