"""Hostile bytes for everything that reads what others wrote; ``python -m tests.fuzz 10000``."""
