"""The commands of `refute`, one module each: `add` says what it takes, `_command` does it.

They import what they need when they run: `refute --help` is not to wait for numpy.
"""
