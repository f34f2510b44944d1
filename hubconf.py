"""One function a paper for ``torch.hub.load(PATH, "evnas", "EvNASA", source="local")``.

Arguments are those of ``papers.<paper>.network``: an architecture (name, file or text), dataset, classes, weights,
pretrained, sizes.
"""

from __future__ import annotations

from typing import Any

dependencies = ["torch", "torchvision", "numpy", "scipy", "safetensors", "yaml", "tyro", "tqdm", "PIL", "filelock"]


def cream(architecture: Any = None, **words: Any) -> Any:
    """Cream of the Crop: see ``papers.cream.network``."""
    from papers.cream import network

    return network(architecture, **words)


def evnas(architecture: Any = None, **words: Any) -> Any:
    """EvNAS: see ``papers.evnas.network``."""
    from papers.evnas import network

    return network(architecture, **words)


def nao_v2(architecture: Any = None, **words: Any) -> Any:
    """NAO, version 2: see ``papers.nao_v2.network``."""
    from papers.nao_v2 import network

    return network(architecture, **words)


def nsas(architecture: Any = None, **words: Any) -> Any:
    """NSAS: see ``papers.nsas.network``."""
    from papers.nsas import network

    return network(architecture, **words)


def sgnas(architecture: Any = None, **words: Any) -> Any:
    """SGNAS: see ``papers.sgnas.network``."""
    from papers.sgnas import network

    return network(architecture, **words)
