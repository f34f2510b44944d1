"""EvNAS: evolving neural architecture using one shot model (Sinha and Chen, GECCO 2021)."""
