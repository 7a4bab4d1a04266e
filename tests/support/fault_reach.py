"""What each fault reaches at its default dose: the same in every target that can plant it."""

from refute.contract import Bound
from refute.faults import FAULTS

FLOOR = Bound(confidence=0.99, above=5.0, unit="tok/s", runs=15)
CEILING = Bound(confidence=0.99, below=0.5, unit="s", runs=15)
# of faults of times, which stay on the wrong side of a bound in their unit; to others it is all the same
BOUNDS = {
    "wire-gaps-stretched": CEILING,
    "wire-first-late": CEILING,
    "wire-rate-lowered": Bound(confidence=0.99, above=5.0, unit="req/s", runs=15),
}
# which requests give other logits or draw otherwise, of: greedy cached, greedy twin, sampled cached and twin
CACHED_ARM = (True, False, True, False)
EVERY_ARM = (True, True, True, True)
NOTHING = (False, False, False, False)
SAMPLED_ARMS = (False, False, True, True)
GREEDY_ARMS = (True, True, False, False)
REACH = {
    "rope-position": CACHED_ARM,
    "stale-row": CACHED_ARM,
    "lost-row-at-chunk-border": CACHED_ARM,
    "kv-heads-permuted": CACHED_ARM,
    "empty-cache": CACHED_ARM,
    "phantom-row": CACHED_ARM,
    "cache-ignored": NOTHING,
    "attention-window": CACHED_ARM,
    "oldest-rows-lost": NOTHING,  # so short a sequence has no old rows
    "middle-rows-lost": CACHED_ARM,
    "rope-drift": CACHED_ARM,
    "context-unchecked": NOTHING,
    "empty-admitted": NOTHING,
    "cache-leaked": NOTHING,
    "weights-twice": NOTHING,
    "kv-oversized": NOTHING,
    "seed-ignored": SAMPLED_ARMS,
    "seed-fixed": SAMPLED_ARMS,
    "temperature-scaled": SAMPLED_ARMS,
    "top-k-widened": SAMPLED_ARMS,
    "greedy-sampled": GREEDY_ARMS,
    "penalty-twice": SAMPLED_ARMS,
    "penalty-ignored": SAMPLED_ARMS,
    "penalty-per-occurrence": SAMPLED_ARMS,
    "penalty-sign": SAMPLED_ARMS,
    "penalty-at-one": GREEDY_ARMS,
    "penalty-window": SAMPLED_ARMS,
    "dense-dispatch": EVERY_ARM,
    "dense-on-some-routes": NOTHING,  # its default reaches a session and the chat alone
    "guard-fires": NOTHING,
    "counters-stuck": NOTHING,
    "routing-depends-on-cache": CACHED_ARM,
    "stop-ignored": NOTHING,
    "stream-buffered": NOTHING,
    "slow-clock": NOTHING,
    "weights-not-renormalised": EVERY_ARM,
    "router-top-k-off": EVERY_ARM,
    "router-collapsed": EVERY_ARM,
    "logits-perturbed": EVERY_ARM,
    "logits-not-finite": EVERY_ARM,
    # Those of text alone, and of what passes between a client and a server.
    **{name: NOTHING for name, spec in FAULTS.items() if spec.seam in ("tokenizer", "wire")},
    # These show in sessions alone.
    "fork-shared": NOTHING,
    "trim-short": NOTHING,
    "crosstalk": NOTHING,
    "thread-race": NOTHING,
    "sums-reordered": NOTHING,
    "chunk-dependent": CACHED_ARM,
    "order-dependent": (False, False, True, False),  # nothing ran before the first request
}
