"""Published values, what it takes to check them, and the checker: claims, pins, statistics, report.

``python -m reproductions --help`` lists the verbs.
"""

import common  # noqa: F401  (tells of a missing environment in a line)
