"""Published values, what it takes to check them, and the checker: claims, pins, statistics, report.

``python -m reproductions --help`` lists the verbs.
"""
