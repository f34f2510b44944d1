"""Cream of the Crop: distilling prioritized paths for one-shot architecture search (NeurIPS 2020)."""
