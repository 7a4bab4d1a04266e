"""Hypothesis profiles for the tests.

They stand here and not at the root so that collecting contracts does not wait for Hypothesis.
"""

import os

from hypothesis import HealthCheck, Phase, Verbosity, settings

# Every field is set: a profile inherits what it leaves out from the one that is active, and that one
# depends on the environment (CI=true activates a derandomized one).
_COMMON = settings(
    backend="hypothesis",
    database=None,
    deadline=None,
    derandomize=True,
    max_examples=60,
    phases=(Phase.explicit, Phase.generate, Phase.shrink),
    print_blob=True,
    report_multiple_bugs=True,
    stateful_step_count=20,
    suppress_health_check=(HealthCheck.too_slow,),
    verbosity=Verbosity.normal,
)

settings.register_profile("tests", _COMMON)
settings.register_profile("deep", _COMMON, max_examples=2000, derandomize=False)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "tests"))
