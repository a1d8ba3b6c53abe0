"""Steering by people: the HTTP API and the panel."""
