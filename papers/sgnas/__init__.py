"""SGNAS: Searching by Generating, one-shot NAS with an architecture generator (Huang & Chu, CVPR 2021)."""
