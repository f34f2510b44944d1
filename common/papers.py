"""The papers of the suite: the one list of them. The pipeline (``dvc.yaml``) reads it too."""

PAPERS = ["cream", "evnas", "nao_v2", "nsas", "sgnas"]
