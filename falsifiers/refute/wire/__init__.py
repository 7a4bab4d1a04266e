"""Engines behind HTTP: what is sent, and every byte that comes back with the time when it came."""
