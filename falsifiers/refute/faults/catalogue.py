"""Every fault that a falsifier can be made to catch, as data, by the seam that it goes in.

Importing this module imports nothing heavy: the wrappers that plant them are in the modules named after the
seams. Faults of the cache, and `routing-depends-on-cache`, touch only the arm that uses the cache, so that
the slow twin stays honest.
"""

from refute.faults.specs_answers import CLOCK, SAMPLER, STREAM, TOKENIZER
from refute.faults.specs_cache import CACHE, MEMORY
from refute.faults.specs_logits import BACKEND, MODEL
from refute.faults.specs_wire import WIRE

SPECS = (*MODEL, *CACHE, *SAMPLER, *BACKEND, *STREAM, *TOKENIZER, *MEMORY, *CLOCK, *WIRE)
