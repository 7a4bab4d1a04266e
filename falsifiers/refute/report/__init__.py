"""Findings, status and decisions as people read them."""
