"""Measurements of speed and quality, and their committed results."""
