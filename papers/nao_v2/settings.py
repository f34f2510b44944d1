"""Settings of every stage; the defaults are the published runs'. Imports no torch, so that --help is instant."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, Literal

import tyro

from common.errors import UserError
from common.settings import Settings, refuse_idle, setting
from common.train.settings import checkpoint_setting
from common.use import settings as use

Space = Literal["small", "middle"]
DerivedSpace = Literal["small", "middle", "large"]

SET = "cifar10, cifar100, digits, or a folder of class folders (NAME@32 to resize)"
ARCHITECTURE = "a published name, an architecture file (.json, .txt), or 40 integers in quotes"
IN_PLACE = "the auxiliary head rectifies the cell's output in place, as released; no-: later cells see it as it is"


@dataclass(frozen=True)
class SmallImages(Settings):
    """Data, network size and learning rate of whatever trains at the search's size."""

    dataset: str = setting("cifar10", SET)
    valid_images: int = setting(
        5_000, "last images of the shuffled training set, which score; the test set is never read", at_least=1
    )
    train_images: int = setting(0, "at most so many of the other images are trained on; 0: all (45,000)", at_least=0)
    space: Space = setting("small", "operations: small (five, published) or middle (ten)")
    layers: int = setting(3, "normal cells per stage, of 3 x layers + 2 cells in all", at_least=1)
    channels: int = setting(20, "width of the first cell", at_least=1)
    epochs: int = setting(10, "epochs", at_least=1)
    batch_size: int = setting(64, "images per step, all processes together", at_least=1)
    parts: int = setting(0, "shares of a batch with batch statistics of their own; 0: one per process", at_least=0)
    lr: float = setting(0.025, "learning rate of the first epoch", at_least=0)
    lr_min: float = setting(0.001, "learning rate at the end of the cosine", at_least=0)


@dataclass(frozen=True)
class SupernetTraining(SmallImages):
    """How shared weights are trained and score (Method 3, 4)."""

    pool_file: str = setting("", "file of architectures, one a line, that replaces the random ones")
    epochs: int = setting(50, "epochs of a supernet training", at_least=1)
    momentum: float = setting(0.9, "momentum of SGD", at_least=0, below=1)
    weight_decay: float = setting(3e-4, "weight decay, on everything", at_least=0)
    clip: float = setting(5.0, "largest norm of the gradient; 0: no limit", at_least=0)
    drop_path_keep: float = setting(
        0.9, "share of paths that the last cell keeps at the end of the drop path's ramp", above=0, at_most=1
    )
    zero_grad: Literal["zeros", "none"] = setting(
        "zeros", "gradients of weights outside the path: zeros, so momentum and decay move them (torch 1), or none"
    )
    score_images: int = setting(
        500, "images of the one random validation batch per architecture; 0: all, in batches of 500", at_least=0
    )


@dataclass(frozen=True)
class Search(SupernetTraining):
    """The search on CIFAR-10."""

    iterations: int = setting(4, "supernet trainings; one controller training between two of them", at_least=1)
    seed_architectures: int = setting(1_000, "random architectures to start from", at_least=1)
    new_architectures: int = setting(300, "architectures that the controller adds per iteration", at_least=1)
    sampling: Literal["params", "uniform"] = setting(
        "params", "which architecture a supernet step trains: in proportion to size (balanced), or uniform"
    )
    dropout_keep: float = setting(1.0, "1 - dropout before the supernet's classifier", above=0, at_most=1)
    cutout: int = setting(0, "side in pixels of the square cut out of the supernet's training images", at_least=0)
    restart: Literal["restart", "continue", "drift"] = setting(
        "restart", "cosine anew in each iteration, one over all, or what the original's calls give on torch 2"
    )
    drop_path_rule: Literal["identity_exempt", "all_edges"] = setting(
        "identity_exempt", "identity edges keep their signal (at publication), or none does (since March 2020)"
    )
    supernet_weights: Literal["keep", "reset"] = setting(
        "keep", "shared weights go on in the next iteration (released), or start anew (version 1 of the paper)"
    )
    controller_weights: Literal["keep", "reset"] = setting(
        "keep", "the controller's weights go on in the next iteration (released), or start anew"
    )
    controller_epochs: int = setting(1_000, "epochs of a controller training", at_least=0)
    controller_batch_size: int = setting(100, "sequences per controller step", at_least=1)
    controller_lr: float = setting(0.001, "learning rate of the controller's Adam", at_least=0)
    controller_embedding: int = setting(32, "width of a token's embedding in the encoder", at_least=1)
    controller_hidden: int = setting(64, "width of both LSTMs, twice the embedding's", at_least=1)
    controller_mlp_layers: int = setting(0, "hidden layers of the predictor", at_least=0)
    controller_mlp_hidden: int = setting(200, "width of the predictor's hidden layers", at_least=1)
    controller_mlp_dropout: float = setting(0.1, "dropout in the predictor's hidden layers", at_least=0, below=1)
    controller_weight_decay: float = setting(0.0, "weight decay of the controller's Adam", at_least=0)
    controller_clip: float = setting(5.0, "largest norm of the controller's gradient", at_least=0)
    controller_copies: int = setting(
        10, "size of the controller's training set over the pool's: copies with swapped operands", at_least=1
    )
    trade_off: float = setting(
        0.8, "weight of the predictor's loss; the rest goes to the decoder's", at_least=0, at_most=1
    )
    generation_seeds: int = setting(100, "best architectures that the latent steps start from", at_least=1)
    maximum_step: int = setting(51, "largest latent step lambda = 1, 2, 3, …", at_least=1)
    canonical: bool = setting(False, "count architectures that differ in operand order only as one")
    on_empty: Literal["stop", "random"] = setting(
        "stop", "when the controller yields nothing new: stop with the state kept, or take random ones", result=False
    )
    final: int = setting(5, "best architectures trained from scratch at the end; the best is the result", at_least=1)
    final_epochs: int = setting(10, "epochs of a final training", at_least=1)
    final_batch_size: int = setting(64, "images per step of a final training, all processes together", at_least=1)
    final_auxiliary: bool = setting(True, "auxiliary head in the final trainings, weighted 0.4")
    final_relu_in_place: bool = setting(True, IN_PLACE)
    final_dropout_keep: float = setting(0.6, "1 - dropout before the classifier, final trainings", above=0, at_most=1)
    final_drop_path_keep: float = setting(
        0.8, "share of paths that the last cell keeps at the end of the final trainings' ramp", above=0, at_most=1
    )
    final_drop_path_steps: int = setting(
        0, "steps of that ramp; 0: those of a supernet training, as released (ten epochs use a fifth)", at_least=0
    )

    def check(self, given: frozenset[str] | None = None) -> None:
        """Raises UserError for settings that make no search, or that do nothing beside the others."""
        check_cutout(self.cutout)
        if self.channels % 2:
            raise UserError(f"--channels is {self.channels}; reductions halve it, so give an even number")
        if self.iterations > 1 and self.controller_epochs < 1:
            raise UserError("--controller-epochs is 0; several iterations need a trained controller")
        idle: dict[str, str] = {}
        if self.iterations == 1:
            names = [f.name for f in fields(self) if f.name.startswith("controller_")]
            names += ["new_architectures", "trade_off", "generation_seeds", "maximum_step", "canonical", "on_empty"]
            idle |= dict.fromkeys([*names, "restart", "supernet_weights"], "--iterations above 1")
        elif self.iterations == 2:
            idle["controller_weights"] = "--iterations above 2"
        if not self.controller_mlp_layers:
            needs = "--controller-mlp-layers above 0"
            idle |= dict.fromkeys(["controller_mlp_hidden", "controller_mlp_dropout"], needs)
        if self.pool_file:
            idle["seed_architectures"] = "no --pool-file"
        if self.drop_path_keep == 1:
            idle["drop_path_rule"] = "--drop-path-keep below 1"
        if self.final_drop_path_keep == 1:
            idle["final_drop_path_steps"] = "--final-drop-path-keep below 1"
        if not self.final_auxiliary:
            idle["final_relu_in_place"] = "--final-auxiliary"
        refuse_idle(self, idle, given)


@dataclass(frozen=True)
class RandomSearch(SmallImages):
    """Random search with the budget of a search: n random architectures trained from scratch as its best are."""

    architectures: int = setting(
        0, "how many; 0: as many as a search's supernet steps and final trainings would pay for", at_least=0
    )
    auxiliary: bool = setting(True, "auxiliary head, weighted 0.4")
    relu_in_place: bool = setting(True, IN_PLACE)
    dropout_keep: float = setting(0.6, "1 - dropout before the classifier", above=0, at_most=1)
    drop_path_keep: float = setting(
        0.8, "share of paths that the last cell keeps at the end of the drop path's ramp", above=0, at_most=1
    )
    drop_path_steps: int = setting(
        0, "steps of that ramp; 0: those of one supernet training of the search it is compared with", at_least=0
    )
    search_epochs: int = setting(200, "supernet epochs of that search, all iterations together", at_least=1)
    search_iterations: int = setting(4, "supernet trainings of that search", at_least=1)
    search_final: int = setting(5, "architectures that that search trains from scratch", at_least=0)

    def check(self, given: frozenset[str] | None = None) -> None:
        """Raises UserError for settings that do nothing beside the others."""
        idle: dict[str, str] = {}
        ramp = self.drop_path_keep < 1 and not self.drop_path_steps  # whether the search's length sets it
        if self.architectures:
            idle["search_final"] = "--architectures 0"
        if self.architectures and not ramp:
            idle["search_epochs"] = "--architectures 0 or a drop path"
        if not ramp:
            idle["search_iterations"] = "--drop-path-keep below 1 and --drop-path-steps 0"
        if self.drop_path_keep == 1:
            idle["drop_path_steps"] = "--drop-path-keep below 1"
        if not self.auxiliary:
            idle["relu_in_place"] = "--auxiliary"
        refuse_idle(self, idle, given)


@dataclass(frozen=True)
class RankStudy(SupernetTraining):
    """Balanced against uniform sampling: supernet scores against stand-alone scores."""

    architectures: int = setting(50, "architectures of the pool", at_least=2)
    seeds: int = setting(3, "supernets per sampling policy", at_least=1)
    score_images: int = setting(
        0, "validation images per score; 0: all (the newer script), 500: one random batch per architecture", at_least=0
    )
    alone_epochs: int = setting(10, "epochs of a stand-alone training, the recipe of the search's best", at_least=1)
    alone_auxiliary: bool = setting(True, "auxiliary head in the stand-alone trainings, weighted 0.4")
    alone_relu_in_place: bool = setting(True, IN_PLACE)
    alone_dropout_keep: float = setting(
        0.6, "1 - dropout before the classifier, stand-alone trainings", above=0, at_most=1
    )
    alone_drop_path_keep: float = setting(
        0.8, "share of paths that the last cell keeps at the end of the stand-alone trainings' ramp", above=0, at_most=1
    )
    alone_drop_path_steps: int = setting(
        0, "steps of that ramp; 0: those of one of the supernets' trainings", at_least=0
    )

    def check(self, given: frozenset[str] | None = None) -> None:
        """Raises UserError for settings that do nothing beside the others."""
        idle: dict[str, str] = {}
        if self.alone_drop_path_keep == 1:
            idle["alone_drop_path_steps"] = "--alone-drop-path-keep below 1"
        if not self.alone_auxiliary:
            idle["alone_relu_in_place"] = "--alone-auxiliary"
        refuse_idle(self, idle, given)


@dataclass(frozen=True)
class Train(Settings):
    """Training from scratch: NAONet-V2-36 on CIFAR-10; the variant ``imagenet`` is the ImageNet script's."""

    arch: str = setting("NAONet_V2", ARCHITECTURE)
    checkpoint: str = checkpoint_setting()
    dataset: str = setting("cifar10", f"{SET}, or imagenet")
    space: DerivedSpace = setting("small", "operations that the integers name")
    network: Literal["auto", "cifar", "imagenet"] = setting(
        "auto", "for small images in memory, or for pictures of ImageNet's size; auto: by the size of the images"
    )
    layers: int = setting(6, "normal cells per stage, of 3 x layers + 2 cells in all", at_least=1)
    channels: int = setting(36, "width of the first cell", at_least=1)
    epochs: int = setting(600, "epochs", at_least=1)
    batch_size: int = setting(128, "images per step, all processes together", at_least=1)
    parts: int = setting(0, "shares of a batch with batch statistics of their own; 0: one per process", at_least=0)
    train_images: int = setting(0, "at most so many of the training images; 0: all", at_least=0)
    momentum: float = setting(0.9, "momentum of SGD", at_least=0, below=1)
    lr: float = setting(0.025, "learning rate of the first epoch", at_least=0)
    lr_min: float = setting(0.0, "learning rate at the end of the cosine", at_least=0)
    schedule: Literal["cosine", "exponential"] = setting("cosine", "how the learning rate falls, epoch by epoch")
    decay_rate: float = setting(0.97, "factor of the exponential schedule", above=0)
    decay_epochs: int = setting(1, "epochs between two of its steps", at_least=1)
    weight_decay: float = setting(5e-4, "weight decay, on everything", at_least=0)
    clip: float = setting(5.0, "largest norm of the gradient; 0: no limit", at_least=0)
    label_smoothing: float = setting(0.0, "share of the target spread over all classes", at_least=0, at_most=1)
    auxiliary: bool = setting(True, "auxiliary head on the output of the second reduction")
    auxiliary_weight: float = setting(0.4, "weight of its loss", at_least=0)
    relu_in_place: bool = setting(True, IN_PLACE)
    dropout_keep: float = setting(0.6, "1 - dropout before the classifier", above=0, at_most=1)
    drop_path_keep: float = setting(0.8, "share of paths that the last cell keeps at the end", above=0, at_most=1)
    cutout: int = setting(16, "side in pixels of the square cut out of the training images; 0: none", at_least=0)
    autoaugment: bool = setting(False, "AutoAugment's CIFAR-10 policy")
    eval_every: int = setting(1, "epochs between two tests; the best test epoch is kept, as published", at_least=1)
    workers: int = setting(8, "loader processes (pictures)", at_least=0, result=False)

    def check(self, given: frozenset[str] | None = None) -> None:
        """Raises UserError for settings that do nothing beside the others."""
        check_cutout(self.cutout)
        idle: dict[str, str] = {}
        if self.schedule == "cosine":
            idle |= dict.fromkeys(["decay_rate", "decay_epochs"], "--schedule exponential")
        else:
            idle["lr_min"] = "--schedule cosine"
        if not self.auxiliary:
            idle |= dict.fromkeys(["auxiliary_weight", "relu_in_place"], "--auxiliary")
        refuse_idle(self, idle, given)


@dataclass(frozen=True)
class Evaluate(Settings):
    """Test error of weights: our own, or the authors' checkpoint file."""

    arch: str = setting("", f"{ARCHITECTURE}; empty: the stored one, else NAONet_V2. It must be the stored one")
    checkpoint: str = setting("", "weights.safetensors of a training, or the authors' file")
    weights: Literal["auto", "ema", "raw"] = setting(
        "auto", "which weights of a file that holds an average beside the raw ones; auto: the average"
    )
    dataset: str = setting("", "set to test on; empty: the one that the weights were trained on")
    space: DerivedSpace = setting("small", "operations that the integers name")
    channels: int = setting(0, "width of the first cell; 0: the stored one, else 36 (CIFAR) or 52", at_least=0)
    layers: int = setting(0, "normal cells per stage; 0: the stored depth, else 6 (CIFAR) or 4", at_least=0)
    batch_size: int = setting(500, "images at once", at_least=1)
    workers: int = setting(8, "loader processes (pictures)", at_least=0, result=False)


@dataclass(frozen=True)
class Predict(use.Predict):
    """What pictures show, by trained weights."""

    space: DerivedSpace = setting("small", "operations of --arch's integers, for weights that do not say it")


@dataclass(frozen=True)
class Export(use.Export):
    """A network as a file for other programs."""

    space: DerivedSpace = setting("small", "operations of --arch's integers, for weights that do not say it")


@dataclass(frozen=True)
class Describe(Settings):
    """Size and multiply-adds in closed form."""

    arch: tyro.conf.Positional[str] = setting("NAONet_V2", f"{ARCHITECTURE}, or weights of a training of one's own")
    dataset: str = setting(
        "", "cifar10, cifar100, digits, imagenet, search, or a folder; empty: the file's set, else cifar10"
    )
    classes: int = setting(0, "classes; 0: of the set", at_least=0)
    network: Literal["auto", "cifar", "imagenet"] = setting(
        "auto", "for small images, or for pictures; auto: as the set's, of a folder by the size of its pictures"
    )
    channels: int = setting(0, "width of the first cell; 0: the file's, else the data set's published one", at_least=0)
    layers: int = setting(0, "normal cells per stage; 0: the file's, else the data set's published depth", at_least=0)
    space: DerivedSpace = setting("small", "operations that the integers name")


@dataclass(frozen=True)
class Draw(Settings):
    """Both cells, one picture each."""

    arch: tyro.conf.Positional[str] = setting("NAONet_V2", ARCHITECTURE)
    space: DerivedSpace = setting("small", "operations that the integers name")
    format: Literal["svg", "png", "pdf", "dot"] = setting("svg", "kind of the pictures; dot: text for graphviz")


def check_cutout(side: int) -> None:
    """Raises UserError for an odd side: the square reaches half of it to every side of its centre."""
    if side % 2:
        raise UserError(f"--cutout must be even, not {side}: the square reaches half of it to every side")


IMAGENET: dict[str, Any] = {
    "dataset": "imagenet", "network": "imagenet", "layers": 4, "channels": 52, "epochs": 250, "batch_size": 128,
    "lr": 0.1, "schedule": "exponential", "weight_decay": 3e-5, "label_smoothing": 0.1, "dropout_keep": 1.0,
    "drop_path_keep": 1.0, "cutout": 0,
}  # fmt: skip
IMAGENET_4: dict[str, Any] = {**IMAGENET, "batch_size": 512, "lr": 0.4, "parts": 4}  # 128 N, 0.1 N

# What a variant changes, per verb; "authors" changes nothing.
SEARCH_VARIANTS: dict[str, dict[str, Any]] = {
    "paper": {"supernet_weights": "reset"},  # version 1 of the paper: each one-shot training on its own
    "modern": {"score_images": 0, "canonical": True, "on_empty": "random", "final_relu_in_place": False},
}
TRAIN_VARIANTS: dict[str, dict[str, Any]] = {
    "imagenet": IMAGENET, "imagenet-4gpu": IMAGENET_4, "modern": {"relu_in_place": False},
}  # fmt: skip
