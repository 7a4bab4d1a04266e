"""Pytester for the tests. The plugin is loaded by its entry point, never here."""

pytest_plugins = ["pytester"]
