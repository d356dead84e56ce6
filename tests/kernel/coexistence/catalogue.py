"""All that is run beside us; docs/coexistence.md has a row for each."""

from __future__ import annotations

from .containers import CONTAINERS
from .policies import POLICIES
from .proxies import PROXIES
from .vpns import VPNS

ALL = (*VPNS, *CONTAINERS, *PROXIES, *POLICIES)
