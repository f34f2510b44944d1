"""Settings of every stage; the defaults are the published runs'. Imports no torch, so that --help is instant."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

import tyro


@dataclass(frozen=True)
class SearchSettings:
    """The search on CIFAR-10."""

    dataset: str = "cifar10"
    """cifar10, cifar100, digits, or a folder of class folders (NAME@32 to resize)."""
    valid_images: int = 5_000
    """Last images of the shuffled training set, for scoring; the test set is never read."""
    train_images: int = 0
    """At most so many of the other images for the supernet; 0: all (45,000)."""
    space: Literal["small", "middle"] = "small"
    """Operations: small (published) or middle (ten operations)."""
    iterations: int = 4
    """Supernet trainings; one controller training between two of them."""
    seed_architectures: int = 1_000
    pool_file: str = ""
    """File of architectures that replaces the random ones."""
    new_architectures: int = 300
    """Architectures that the controller adds per iteration."""
    sampling: Literal["params", "uniform"] = "params"
    """Supernet steps in proportion to size (balanced), or uniform."""
    layers: int = 3
    channels: int = 20
    keep: float = 1.0
    """1 - dropout before the supernet's classifier."""
    cutout: int = 0
    """Side of the square that is cut out of the supernet's training images; 0: none, as published."""
    epochs: int = 50
    """Supernet epochs per iteration."""
    batch_size: int = 64
    """Images per supernet step, all processes together."""
    parts: int = 0
    """Shares of a batch with batch statistics of their own; 0: one per process."""
    learning_rate: float = 0.025
    minimum_learning_rate: float = 0.001
    restart: Literal["restart", "continue", "drift"] = "restart"
    """Cosine anew in each iteration; one cosine over all; or what the original's calls give on torch 2."""
    momentum: float = 0.9
    weight_decay: float = 3e-4
    clip: float = 5.0
    drop_path_keep: float = 0.9
    drop_path_rule: Literal["identity_exempt", "all_edges"] = "identity_exempt"
    """Publication state: identity edges keep their signal; all_edges is the state since March 2020."""
    gradients: Literal["zeros", "none"] = "zeros"
    """Gradients of weights outside the path: kept as zeros, so momentum and decay move them (torch 1), or absent."""
    supernet_weights: Literal["keep", "reset"] = "keep"
    """Whether shared weights go on in the next iteration (released) or start anew (version 1 of the paper)."""
    score_images: int = 500
    """One random validation batch of so many images per architecture; 0: all validation images in batches of 500."""
    controller_weights: Literal["keep", "reset"] = "keep"
    controller_epochs: int = 1_000
    controller_batch_size: int = 100
    controller_learning_rate: float = 0.001
    controller_embedding: int = 32
    controller_hidden: int = 64
    controller_mlp_layers: int = 0
    """Hidden layers of the predictor."""
    controller_mlp_hidden: int = 200
    controller_mlp_dropout: float = 0.1
    controller_weight_decay: float = 0.0
    controller_clip: float = 5.0
    controller_copies: int = 10
    """Size of the controller's training set over the pool's: copies with swapped operands."""
    trade_off: float = 0.8
    """Weight of the predictor's loss; the rest goes to the decoder's."""
    generation_seeds: int = 100
    """Best architectures that the latent steps start from."""
    maximum_step: int = 51
    """Largest latent step lambda = 1, 2, 3, …"""
    canonical: bool = False
    """Count architectures that differ in operand order only as one."""
    on_empty: Literal["stop", "random"] = field(default="stop", metadata={"result": False})
    """When the controller yields nothing new: stop with the state kept, or go on with random architectures."""
    final: int = 5
    """Best architectures that are trained from scratch at the end; the best of these is the result."""
    final_epochs: int = 10
    final_batch_size: int = 64
    final_auxiliary: bool = True
    final_relu_in_place: bool = True
    """The auxiliary head rectifies the cell's output in place, as released; no-: later cells see it as it is."""
    final_keep: float = 0.6
    final_drop_path_keep: float = 0.8
    final_drop_path_steps: int = 0
    """Steps of the drop path's ramp; 0: those of a supernet training, as released (35,200; ten epochs use a fifth)."""


@dataclass(frozen=True)
class RandomSettings:
    """Random search with the budget of a search's final step, or more: n random architectures trained from scratch."""

    dataset: str = "cifar10"
    valid_images: int = 5_000
    train_images: int = 0
    space: Literal["small", "middle"] = "small"
    architectures: int = 0
    """How many; 0: as many as a search's supernet steps and final trainings would pay for."""
    layers: int = 3
    channels: int = 20
    epochs: int = 10
    batch_size: int = 64
    """Images per step, all processes together."""
    parts: int = 0
    """Shares of a batch with batch statistics of their own; 0: one per process."""
    learning_rate: float = 0.025
    minimum_learning_rate: float = 0.001
    auxiliary: bool = True
    relu_in_place: bool = True
    """As in the search's final trainings."""
    keep: float = 0.6
    drop_path_keep: float = 0.8
    drop_path_steps: int = 0
    """Steps of the drop path's ramp; 0: those of one supernet training of the search it is compared with."""
    search_epochs: int = 200
    """Supernet epochs of the search it is compared with (all iterations)."""
    search_iterations: int = 4
    """Supernet trainings of this search."""
    search_final: int = 5
    """Architectures that this search trains from scratch."""


@dataclass(frozen=True)
class TrainSettings:
    """Training from scratch: NAONet-V2-36 on CIFAR-10; the preset ``imagenet`` is the ImageNet script's."""

    arch: str = "NAONet_V2"
    """A published name, an architecture file, or 40 integers."""
    dataset: str = "cifar10"
    space: Literal["small", "middle", "large"] = "small"
    network: Literal["auto", "cifar", "imagenet"] = "auto"
    """For small images in memory, or for pictures of ImageNet's size; auto: by the size of the set's images."""
    layers: int = 6
    channels: int = 36
    epochs: int = 600
    batch_size: int = 128
    """Images per step, all processes together."""
    parts: int = 0
    """Shares of a batch with batch statistics of their own; 0: one per process."""
    train_images: int = 0
    """At most so many of the training images; 0: all."""
    optimizer_momentum: float = 0.9
    learning_rate: float = 0.025
    minimum_learning_rate: float = 0.0
    schedule: Literal["cosine", "exponential"] = "cosine"
    decay: float = 0.97
    """Factor of the exponential schedule."""
    decay_every: int = 1
    """Epochs between two of its steps."""
    weight_decay: float = 5e-4
    clip: float = 5.0
    label_smoothing: float = 0.0
    auxiliary: bool = True
    auxiliary_weight: float = 0.4
    relu_in_place: bool = True
    """The auxiliary head rectifies the cell's output in place, as released; no-: later cells see it as it is."""
    keep: float = 0.6
    """1 - dropout before the classifier."""
    drop_path_keep: float = 0.8
    cutout: int = 16
    autoaugment: bool = False
    evaluate_every: int = 1
    """Test after so many epochs; the best test epoch is kept, as in the published number."""
    workers: int = 8


IMAGENET: dict[str, Any] = {
    "dataset": "imagenet", "network": "imagenet", "layers": 4, "channels": 52, "epochs": 250, "batch_size": 128,
    "learning_rate": 0.1, "schedule": "exponential", "weight_decay": 3e-5,
    "label_smoothing": 0.1, "keep": 1.0, "drop_path_keep": 1.0, "cutout": 0,
}  # fmt: skip
IMAGENET_4: dict[str, Any] = {**IMAGENET, "batch_size": 512, "learning_rate": 0.4, "parts": 4}  # 128 N, 0.1 N

# What a variant changes, per verb; "authors" changes nothing.
SEARCH_VARIANTS: dict[str, dict[str, Any]] = {
    "paper": {"supernet_weights": "reset"},  # version 1 of the paper: each one-shot training on its own
    "modern": {"score_images": 0, "canonical": True, "on_empty": "random", "final_relu_in_place": False},
}
TRAIN_VARIANTS: dict[str, dict[str, Any]] = {
    "imagenet": IMAGENET, "imagenet-4gpu": IMAGENET_4, "modern": {"relu_in_place": False},
}  # fmt: skip


@dataclass(frozen=True)
class EvaluateSettings:
    """Test error of weights: our own, or the authors' checkpoint file."""

    arch: str = ""
    """Empty: the architecture stored in the checkpoint, else NAONet_V2. A given one is compared with the stored one."""
    checkpoint: str = ""
    """weights.safetensors of a training, or the authors' file."""
    weights: Literal["auto", "ema", "raw"] = "auto"
    """Which weights of a file that holds an average beside the raw ones; auto: the average."""
    dataset: str = ""
    """Empty: the set that the weights were trained on, where the file says it."""
    space: Literal["small", "middle", "large"] = "small"
    channels: int = 0
    """0: the width stored in the checkpoint, else 36 (CIFAR) or 52 (ImageNet)."""
    layers: int = 0
    """0: the depth stored in the checkpoint, else 6 or 4."""
    batch_size: int = 500
    workers: int = 8


@dataclass(frozen=True)
class RankStudySettings:
    """Balanced against uniform sampling: supernet scores against stand-alone scores."""

    dataset: str = "cifar10"
    valid_images: int = 5_000
    train_images: int = 0
    space: Literal["small", "middle"] = "small"
    architectures: int = 50
    pool_file: str = ""
    seeds: int = 3
    """Supernets per sampling policy."""
    epochs: int = 50
    layers: int = 3
    channels: int = 20
    batch_size: int = 64
    """Images per step, all processes together."""
    parts: int = 0
    """Shares of a batch with batch statistics of their own; 0: one per process."""
    learning_rate: float = 0.025
    minimum_learning_rate: float = 0.001
    weight_decay: float = 3e-4
    momentum: float = 0.9
    clip: float = 5.0
    drop_path_keep: float = 0.9
    gradients: Literal["zeros", "none"] = "zeros"
    score_images: int = 0
    """0: all validation images (the newer script); 500: one random batch per architecture."""
    alone_epochs: int = 10
    """Stand-alone training with the recipe of the search's final step."""
    alone_auxiliary: bool = True
    alone_relu_in_place: bool = True
    alone_keep: float = 0.6
    alone_drop_path_keep: float = 0.8
    alone_drop_path_steps: int = 0
    """Steps of the drop path's ramp; 0: those of one of the supernets' trainings."""


@dataclass(frozen=True)
class DescribeSettings:
    """Size and multiply-adds in closed form."""

    arch: tyro.conf.Positional[str] = "NAONet_V2"
    """A published name, an architecture file, 40 integers in quotes, or weights of a training of one's own."""
    dataset: str = ""
    """cifar10, cifar100, digits, imagenet or search; empty: the set that a file names, else cifar10."""
    channels: int = 0
    layers: int = 0
    space: Literal["small", "middle", "large"] = "small"


@dataclass(frozen=True)
class DrawSettings:
    """Both cells, one picture each."""

    arch: tyro.conf.Positional[str] = "NAONet_V2"
    space: Literal["small", "middle", "large"] = "small"
    format: Literal["svg", "png", "pdf", "dot"] = "svg"
