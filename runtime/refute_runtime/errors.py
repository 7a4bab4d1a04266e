"""Everything that bad input can raise, one family.

RuntimeFailure
├── FormatError       a GGUF file: what was found at which tensor or key, what was expected
├── UnsupportedError  a sound file that this runtime does not run (architecture, split file, type)
├── TemplateError     a chat template that does not compile, render or finish
├── ContextOverflow   more positions than the model or the cache has
└── RequestError      a request parameter out of its range
"""


class RuntimeFailure(Exception):  # noqa: N818 (the family's root reads as a noun)
    """Root of the family; the message is one sentence for a person."""


class FormatError(RuntimeFailure):
    """A file that is not a sound GGUF model: truncated, contradicting, out of bounds."""


class UnsupportedError(RuntimeFailure):
    """A sound file that this runtime does not run."""


class TemplateError(RuntimeFailure):
    """A chat template that does not compile, render or finish."""


class ContextOverflow(RuntimeFailure):
    """More positions than the model or the cache has."""


class RequestError(RuntimeFailure):
    """A request parameter out of its range."""
