"""Settings of every stage; the defaults are the published ImageNet run's. Imports no torch, so that --help is instant.

The authors count ``warmup_epochs`` and ``search_epochs`` in one number line; here the two phases of the search have
counts of their own (their generator trains ``search_epochs - warmup_epochs`` epochs).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import tyro

from common.errors import UserError
from common.settings import Settings, refuse_idle, setting
from common.train.settings import checkpoint_setting
from common.use import settings as use

Macro = Literal["auto", "imagenet", "cifar", "tiny"]
AUTHORS_FILES = (".pth", ".pt", ".tar")  # endings of the authors' file of a generator

# -- what several stages share ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class OfASet(Settings):
    """A set of images and the macro structure for it."""

    dataset: str = setting(
        "imagenet", "imagenet, cifar10, cifar100, tiny-imagenet-20, digits, or a folder of class folders or LMDBs"
    )
    macro: Macro = setting(
        "auto", "macro structure; auto: imagenet for pictures of any size, cifar for sets of 32 x 32 pixels"
    )
    workers: int = setting(8, "processes that read pictures", at_least=0, result=False)


@dataclass(frozen=True)
class TrainedOn(OfASet):
    """Images to train on, in batches."""

    train_images: int = setting(0, "at most so many images are trained on; 0: all of the part for it", at_least=0)
    batch_size: int = setting(128, "images per step over all processes and parts", at_least=1)
    label_smoothing: float = setting(0.1, "share of the target that all classes get alike", at_least=0, at_most=1)


@dataclass(frozen=True)
class InParts(Settings):
    """Batches that are normalised in parts."""

    parts: int = setting(
        4, "shares of a batch that are normalised apart, a multiple of the processes, as on the authors' four GPUs; "
        "0: one per process", at_least=0,
    )  # fmt: skip


@dataclass(frozen=True)
class OfAGenerator(Settings):
    """A trained generator."""

    generator: str = setting(
        "published", "published (under the data root), a search's folder, its generator.safetensors, or the authors' "
        "best_avg.pth"
    )  # fmt: skip
    prior_pool: str = setting("", "for the authors' file: its prior_pool.json (empty: beside it)")

    def check(self, given: frozenset[str] | None = None) -> None:
        """Raises UserError for a prior pool beside a generator that brings its own."""
        if Path(self.generator).suffix not in AUTHORS_FILES:
            refuse_idle(self, {"prior_pool": "the authors' best_avg.pth"}, given)


# -- the search -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Searching(TrainedOn):
    """What both phases of the search need: data, and the form of the supernet."""

    workers: int = setting(16, "processes that read pictures", at_least=0, result=False)
    train_portion: float = setting(
        1.0, "share of the training images for the supernet (the first ones of CIFAR in file order, where the authors' "
        "file says 0.8); 1: all that --search-images leaves", at_least=0, at_most=1,
    )  # fmt: skip
    search_images: int = setting(
        50_000, "images that the generator is trained and chosen on; 0: all that --train-portion leaves (the authors' "
        "README: 20 per cent)", at_least=0,
    )  # fmt: skip
    supernet: str = setting(
        "", "trained supernet (supernet.safetensors of another run): a generator-only search uses it as it is, "
        "supernet training starts from its weights"
    )  # fmt: skip
    active: Literal["random", "prefix", "sorted"] = setting(
        "random", "sub-blocks that a path switches on: random ones (released code), the first ones, or one sorted code"
    )
    switchable_bn: bool = setting(
        True, "six normalisations behind a block's projection, chosen by how many sub-blocks are skipped; off: one for "
        "all (ablation; the paper's own form of it is unpublished)"
    )  # fmt: skip


@dataclass(frozen=True)
class SearchSupernet(InParts, Searching):
    """Phase 1: supernet training."""

    supernet_epochs: int = setting(
        50, "epochs of the supernet. An assumption: the authors' files say 1 (CIFAR) and 0 (ImageNet), for a supernet "
        "that was trained before; a user of their code took 50", at_least=0,
    )  # fmt: skip
    paths: int = setting(4, "paths per batch, whose gradients are added up", at_least=1)
    zero_grad: Literal["zeros", "none"] = setting(
        "zeros", "what clearing gradients does to operations used earlier but not now: zeros (PyTorch before 2.0) move "
        "on by momentum and decay, none stand still"
    )  # fmt: skip
    lr: float = setting(0.064, "learning rate at the start, for the sum of the paths' gradients", at_least=0)
    momentum: float = setting(0.9, "of SGD", at_least=0, below=1)
    weight_decay: float = setting(4e-4, "on all parameters of the supernet", at_least=0)
    cosine_epochs: int = setting(50, "epochs until the rate is 0, whatever the number of supernet epochs", at_least=1)
    bn_momentum: float = setting(0.1, "weight of the newest batch in the running statistics", at_least=0, at_most=1)

    def check(self, given: frozenset[str] | None = None) -> None:
        """Raises UserError where nothing is to be trained."""
        if self.supernet_epochs < 1:
            raise UserError("no supernet epoch is wanted; set --supernet-epochs to 1 or more, or use search-generator")


@dataclass(frozen=True)
class SearchGenerator(Searching):
    """Phase 2: generator training."""

    generator_epochs: int = setting(50, "epochs of the generator", at_least=0)
    low_mflops: float = setting(
        270.0, "lowest target in millions of multiply-adds (in ms with --latency-table)", at_least=0
    )
    high_mflops: float = setting(450.0, "end of the range of targets, in the same unit", above=0)
    target_step: float = setting(5.0, "between two targets of the training, in the same unit", above=0)
    target_noise: float = setting(0.5, "largest noise added to a target, in the same unit", at_least=0)
    validation_step: float = setting(10.0, "between two targets of the validation, in the same unit", above=0)
    alpha: float = setting(0.0003, "weight of a squared miss in the hardware loss", at_least=0)
    loss_penalty: float = setting(1.2, "factor on the hardware loss of costs above the target", at_least=0)
    accept_loss: float = setting(0.4, 'largest total hardware loss of a "best average" generator', at_least=0)
    tau: float = setting(5.0, "temperature of the Gumbel-softmax in the first epoch", above=0)
    tau_decay: float = setting(0.95, "factor on the temperature after every epoch", above=0)
    generator_lr: float = setting(0.001, "learning rate of Adam, constant", at_least=0)
    targets_per_step: int = setting(
        1, "targets trained on per batch, in one pass of the generator (1 in the original)", at_least=1
    )
    constraint_channels: int = setting(10, "channels of the constant image that holds the target", at_least=1)
    width: int = setting(32, "channels of the generator's layers", at_least=1)
    generator_layers: int = setting(5, "layers of the generator behind its two heads: head, body, tail", at_least=1)
    pool_size: int = setting(1, "priors drawn over the range of targets", at_least=1)
    prior_seed: int = setting(
        42, "seed of NumPy's legacy generator that the priors are drawn from", at_least=0, at_most=2**32 - 1
    )
    prior_tolerance: float = setting(1.0, "largest miss of a prior, in the targets' unit", above=0)
    prior_pool: str = setting("", "file of a prior pool; empty: draw one")
    latency_table: str = setting("", "file written by the latency command: targets are then milliseconds")
    recalibrate_batches: int = setting(
        0, "training batches for re-estimating batch normalisation before an architecture is scored; 0: off, as in the "
        "original", at_least=0,
    )  # fmt: skip
    targets: tuple[float, ...] = setting(
        (275.0, 320.0, 365.0), "constraints to write architectures for at the end; architecture.json: the middle one",
        above=0,
    )  # fmt: skip

    def check(self, given: frozenset[str] | None = None) -> None:
        """Raises UserError where nothing is to be trained, for targets where the generator is not trained, and for
        settings of a pool that is not drawn.
        """
        if self.generator_epochs < 1:
            raise UserError("no generator epoch is wanted; set --generator-epochs to 1 or more, or use search-supernet")
        if self.prior_pool:
            drawn = ("pool_size", "prior_seed", "prior_tolerance")
            refuse_idle(self, dict.fromkeys(drawn, "a pool that is drawn (no --prior-pool)"), given)
        low, high = self.low_mflops, self.high_mflops
        if not low < high:
            raise UserError(f"--low-mflops {low:g} is not below --high-mflops {high:g}")
        if not self.targets:
            raise UserError("no targets; give at least one, such as --targets 320")
        for target in self.targets:
            if not low <= target <= high:
                raise UserError(
                    f"target {target:g} is outside the range {low:g} to {high:g} that the generator is trained for, "
                    f"where its answer saturates or turns round; change --targets, or widen --low-mflops and "
                    f"--high-mflops"
                )


@dataclass(frozen=True)
class Search(SearchSupernet, SearchGenerator):
    """Both phases of the search."""

    def check(self, given: frozenset[str] | None = None) -> None:
        """Raises UserError as the phases do; a supernet that was trained before needs no further epoch."""
        if self.supernet_epochs < 1 and not self.supernet:
            raise UserError(
                "no supernet epoch is wanted; set --supernet-epochs to 1 or more, or give a trained one with --supernet"
            )
        SearchGenerator.check(self, given)


# -- architectures of a generator -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Generate(OfAGenerator):
    """Architectures for any number of targets."""

    target_mflops: tuple[float, ...] = setting(
        (365.0, 320.0, 275.0), "targets, in the generator's unit: millions of multiply-adds, or ms", above=0
    )
    hit: bool = setting(
        False, "scan targets so that the cost comes as near to each budget as it can (not in the original)"
    )
    classes: int = setting(1000, "classes of the printed counts", at_least=0)
    se: bool = setting(True, "squeeze-excite in the printed counts")


# -- training and testing ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Train(InParts, TrainedOn):
    """Training from scratch; the defaults are ImageNet's (four GPUs of 64 images), preset ``cifar`` is CIFAR's."""

    arch: str = setting("SGNAS-B", "a published name or an architecture file")
    checkpoint: str = checkpoint_setting()
    se: bool = setting(True, "squeeze-excite in every block")
    activation: Literal["relu", "hswish"] = setting("hswish", "relu (ReLU6) or hswish, everywhere")
    bn_momentum: float = setting(0.001, "weight of the newest batch in the running statistics", at_least=0, at_most=1)
    dropout: float = setting(0.2, "share of the classifier's inputs that is dropped", at_least=0, below=1)
    epochs: int = setting(500, "epochs", at_least=1)
    batch_size: int = setting(256, "images per step over all processes and parts", at_least=1)
    optimizer: Literal["rmsproptf", "sgd"] = setting("rmsproptf", "RMSprop as TensorFlow has it, or SGD")
    lr: float = setting(0.016, "learning rate after the warm-up", at_least=0)
    momentum: float = setting(0.9, "of either optimiser", at_least=0, below=1)
    weight_decay: float = setting(1e-5, "with rmsproptf not on biases and one-dimensional tensors", at_least=0)
    schedule: Literal["step", "cosine"] = setting("step", "a factor every few epochs, or a cosine per step to 0")
    decay_epochs: float = setting(3.0, "epochs between two factors of the step schedule", above=0)
    decay_rate: float = setting(0.963, "factor of the step schedule", at_least=0, at_most=1)
    warmup_lr: float = setting(1e-4, "learning rate at the start of the warm-up", at_least=0)
    warmup_epochs: int = setting(5, "epochs in which the rate rises to --lr", at_least=0)
    ema_decay: float = setting(
        0.99995, "decay of the averaged weights, which are tested and written; 0: none", at_least=0, at_most=1
    )
    smoothed_test_loss: bool = setting(
        False, "whether the loss reported for the test set is smoothed too, as the authors do on CIFAR"
    )

    def check(self, given: frozenset[str] | None = None) -> None:
        """Raises UserError for a setting that the chosen schedule does not use."""
        unused = []
        if self.schedule == "cosine":
            unused = ["decay_epochs", "decay_rate", "warmup_lr", *(["warmup_epochs"] if self.warmup_epochs else [])]
        refuse_idle(self, dict.fromkeys(unused, "--schedule step"), given)
        if not self.warmup_epochs:
            refuse_idle(self, {"warmup_lr": "--warmup-epochs 1 or more"}, given)


@dataclass(frozen=True)
class Evaluate(OfASet):
    """Top-1 and top-5 error of weights on a test set."""

    arch: str = setting(
        "", "a published name or an architecture file; empty: what the file of weights says (those of a training here)"
    )
    checkpoint: str = setting("", "weights.safetensors of a training run, or the authors' file")
    weights: Literal["auto", "ema", "raw"] = setting(
        "auto", "of a file with averaged and raw weights: auto takes the averaged ones, as the authors do"
    )
    dataset: str = setting("imagenet", "where it is not given, the set that the file of weights says")
    se: bool = setting(True, "squeeze-excite; whether the weights have it, their file tells")
    activation: Literal["relu", "hswish"] = setting("hswish", "for a file of weights that does not say it")
    batch_size: int = setting(256, "images per tested batch", at_least=1)
    fold_bn: bool = setting(True, "fold normalisation into the convolutions (same outputs, faster)")


@dataclass(frozen=True)
class Predict(use.Predict):
    """What pictures show, by trained weights."""

    activation: Literal["", "relu", "hswish"] = setting("", "for a file of weights that does not say it")


@dataclass(frozen=True)
class Export(use.Export):
    """A network as a file for other programs."""

    activation: Literal["", "relu", "hswish"] = setting("", "for a file of weights that does not say it")


# -- small commands ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Convert(Settings):
    """Pack a folder of class folders into an LMDB."""

    source: tyro.conf.Positional[str] = setting("", "folder with train/CLASS/* and val/CLASS/* (and test/CLASS/*)")
    target: tyro.conf.Positional[str] = setting("", "folder for train.lmdb and val.lmdb (and test.lmdb)")


@dataclass(frozen=True)
class Describe(Settings):
    """Counts and kernels of an architecture."""

    arch: tyro.conf.Positional[str] = setting("SGNAS-A", "a published name or an architecture file")
    dataset: str = setting("", "a set or a folder; empty: what an architecture file says, imagenet for a published one")
    classes: int = setting(0, "classes; 0: of the set", at_least=0)
    macro: Macro = setting("auto", "macro structure; auto: the file's, else of the set, by the size of its pictures")


@dataclass(frozen=True)
class Draw(Settings):
    """Layers of a network: kernels, expansion, width."""

    arch: tyro.conf.Positional[str] = setting("SGNAS-A", "a published name or an architecture file")
    format: Literal["svg", "png", "pdf"] = setting("svg", "kind of the picture")


# -- presets: the authors' configuration for CIFAR --------------------------------------------------------------------

_CIFAR_PARTS: dict[str, Any] = {
    "dataset": "cifar100", "train_portion": 0.8, "search_images": 0, "batch_size": 512
}  # fmt: skip
CIFAR_SUPERNET = {**_CIFAR_PARTS, "supernet_epochs": 50, "cosine_epochs": 200}
CIFAR_GENERATOR = {**_CIFAR_PARTS, "low_mflops": 80.0, "high_mflops": 120.0, "targets": (90.0, 100.0, 110.0)}
CIFAR_SEARCH = {**CIFAR_SUPERNET, **CIFAR_GENERATOR}
CIFAR_TRAIN: dict[str, Any] = {
    "dataset": "cifar100", "se": False, "activation": "relu", "bn_momentum": 0.1, "epochs": 200, "batch_size": 512,
    "optimizer": "sgd", "lr": 0.064, "weight_decay": 4e-4, "schedule": "cosine", "warmup_epochs": 0, "ema_decay": 0.0,
    "smoothed_test_loss": True,
}  # fmt: skip
