"""Frames in: the sources a live picture can come from."""
