"""The faults that falsifiers must catch. Importing this module imports nothing heavy."""

from collections.abc import Mapping
from types import MappingProxyType

from refute.faults.base import FaultSpec
from refute.faults.catalogue import SPECS

__all__ = ["FAULTS"]

FAULTS: Mapping[str, FaultSpec] = MappingProxyType({spec.name: spec for spec in SPECS})
