"""One package per paper; papers never import each other."""

import common  # noqa: F401  (tells of a missing environment in a line)
