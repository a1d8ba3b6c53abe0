"""Steering by OBS: what it said, and what we do about it."""
