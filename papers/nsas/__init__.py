"""NSAS: one-shot search with novelty-based constraints (Zhang et al., CVPR 2020; extended in TPAMI 2021)."""
