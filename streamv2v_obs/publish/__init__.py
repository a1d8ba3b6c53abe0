"""Frames out: what shows a picture, and when."""
