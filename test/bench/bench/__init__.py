"""The modules of tools/bench; main.py tells which does what."""
