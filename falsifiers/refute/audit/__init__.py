"""What an auditor holds against records, from the records alone: no model, no GPU, no network.

`rules` is the table of all rules; `examine` applies them to trees of records. A rule is a pure function of
what was read (`subject`), so that each can be shown to fire, and every field of a record to be guarded.
"""
