"""The pytest plugin: contracts are collected, each falsifier is an item, findings become records."""
