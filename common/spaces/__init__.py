"""The two search spaces that several papers use: DARTS cells and NAS-Bench-201 cells."""
