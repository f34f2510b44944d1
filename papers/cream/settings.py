"""Settings of every stage; the defaults are the values of the run behind the published numbers (the code of 2020).

No torch here, so that ``--help`` is instant.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import tyro

from common.errors import UserError
from common.run import distributed
from common.settings import Settings, refuse_idle, setting
from common.train.settings import checkpoint_setting
from common.use import settings as use
from papers.cream.networks.architectures import name_of
from papers.cream.networks.layout import Layout

Given = frozenset[str] | None
SETS = "imagenet, tiny-imagenet-20, digits, cifar10, cifar100, a folder, or an .lmdb"
STEP_MODELS = ("14", "43")  # published with the step schedule
OF_THE_BOARD = (
    "start_epoch", "update_every", "acc_gap", "meta_lr", "meta_value", "meta_gradient", "meta_weights", "step_sign",
    "pick", "stored", "choose",
)  # fmt: skip


@dataclass(frozen=True)
class TrainingBatches(Settings):
    """Batches of training images, and their augmentation."""

    workers: int = setting(4, "processes that read pictures", at_least=0, result=False)
    batch_size: int = setting(1024, "images of the whole batch (published: 8 GPUs x 128)", at_least=1)
    parts: int = setting(
        8, "shares of the batch, one per GPU of the original: batch normalisation sees one share at a time; 0: one "
        "per process", at_least=0,
    )  # fmt: skip
    crop: Literal["resized", "padded"] = setting(
        "resized", "random resized crop, or one of the zero-padded image (in memory)"
    )
    pad: int = setting(4, "pixels around the image in the padded crop", at_least=0)
    scale_min: float = setting(0.08, "least area of the resized crop, a part of the whole", at_least=0, at_most=1)
    flip: bool = setting(True, "mirror every second image")
    erasing: float = setting(0.2, "probability of random erasing", at_least=0, at_most=1)

    def shares(self) -> int:
        """Shares that every batch is worked through in, over all processes. Raises UserError when they do not fit."""
        world = distributed.world_size()
        shares = self.parts or world
        if shares % world:
            raise UserError(f"--parts {shares} cannot be shared by {world} processes; use a multiple of it")
        if self.batch_size // shares < 2:
            raise UserError(
                f"--batch-size {self.batch_size} in {shares} parts leaves shares of less than two images, which batch "
                f"normalisation cannot work on; raise --batch-size or lower --parts"
            )
        return shares

    def idle_crop(self) -> dict[str, str]:
        """The crop's settings that do nothing, with what they would need."""
        return {"scale_min": "--crop resized"} if self.crop == "padded" else {"pad": "--crop padded"}


@dataclass(frozen=True)
class Recalibration(Settings):
    """Running statistics of a path, taken anew."""

    recalibrate_batches: int = setting(
        8, "batches that a path's running statistics are taken from, each of one share of the search's batch; 0: as "
        "the search left them", at_least=0,
    )  # fmt: skip


@dataclass(frozen=True)
class Rescoring(Recalibration):
    """Scoring of paths by held-out images after BN re-calibration."""

    select_images: int = setting(5000, "held-out (else training) images that score a path; 0: all", at_least=0)


@dataclass(frozen=True)
class Search(Rescoring, TrainingBatches):
    """Supernet training with prioritized paths (train.yaml of the release)."""

    method: Literal["cream", "random"] = setting("cream", "random: uniform paths, then the best of some")
    dataset: str = setting("imagenet", SETS)
    train_images: int = setting(0, "first images of the training set that are used at all; 0: all", at_least=0)
    holdout: int = setting(0, "last images of them, kept out of the search to re-score the board", at_least=0)
    subset_classes: int = setting(0, "first classes of the subset (released: 100); 0: no subset", at_least=0)
    subset_images: int = setting(350, "first images of each class of that subset", at_least=1)
    resolution: int = setting(224, "side of the pictures in pixels", at_least=1)
    apply_resolution: bool = setting(False, "train at the resolution the window yields")
    macs_min: float = setting(0.0, "window of paths in MFLOPs, by the search's own table", at_least=0)
    macs_max: float = setting(600.0, "its other end in MFLOPs", at_least=0)
    enforce_window: bool = setting(False, "draw paths inside the window only")
    resunit: bool = setting(False, "larger space: a residual unit as an extra choice")
    dil_conv: bool = setting(False, "larger space: two narrow inverted residuals as extra choices")
    pool: Literal["avg", "max", "avgmax", "catavgmax"] = setting("avg", "global pooling before the head")
    sampling: Literal["uniform", "weighted"] = setting("uniform", "how choices are drawn")
    probabilities: tuple[float, ...] = setting(
        (0.05, 0.2, 0.05, 0.5, 0.05, 0.15), "probability of each choice, with weighted sampling",
        at_least=0, at_most=1,
    )  # fmt: skip
    epochs: int = setting(120, "epochs of the supernet", at_least=1)
    lr: float = setting(1.0, "learning rate of the supernet at the start", at_least=0)
    meta_lr: float = setting(1e-4, "learning rate of the meta layer, and size of the simulated step", at_least=0)
    lr_rule: Literal["sane", "released"] = setting("sane", "lr (1 - t/T), or lr (lr - t/T); the same at lr 1")
    schedule_images: int = setting(0, "images of an epoch in T; 0: its own (ImageNet: 1,280,000)", at_least=0)
    momentum: float = setting(0.9, "Nesterov momentum", at_least=0, below=1)
    weight_decay: float = setting(1e-4, "weight decay, not of biases, normalisation and meta layer", at_least=0)
    label_smoothing: float = setting(0.1, "part of the target spread over all classes", at_least=0, at_most=1)
    start_epoch: int = setting(20, "last epoch (from 0) without board and teacher; -1: none is", at_least=-1)
    update_every: int = setting(
        0, "iterations between meta updates, inside an epoch; 0: 200 on ImageNet, as often an epoch elsewhere",
        at_least=0,
    )  # fmt: skip
    pool_size: int = setting(10, "paths on the board", at_least=1)
    acc_gap: float = setting(
        5.0, "percentage points by which a dearer path must beat the last of the board",
        at_least=0, at_most=100,
    )  # fmt: skip
    slice: int = setting(4, "images of a share in a board entry, and in each half of a meta update", at_least=1)
    meta_value: Literal["last_negated", "argmax_positive"] = setting(
        "last_negated", "m = sigmoid(-u of the last entry), or sigmoid(u of the best)"
    )
    meta_gradient: Literal["first", "all"] = setting("first", "student tensors in the meta gradient")
    meta_weights: Literal["in_place", "clean"] = setting(
        "in_place", "weights that the meta gradient sees: after the student's step, or before it"
    )
    step_sign: Literal["minus", "plus"] = setting("plus", "of the simulated step; the code since July 2021 has minus")
    pick: Literal["meta", "top1"] = setting("meta", "who teaches; top1: the board's head, at m = 0.5")
    stored: Literal["teacher", "own"] = setting("teacher", "whose probabilities are stored with a new entry")
    zero_grad: Literal["zeros", "none"] = setting(
        "zeros", "what clearing gradients leaves to weights off the path: zeros (momentum and decay go on), or none"
    )
    jitter: float = setting(0.4, "strength of the jitter of brightness, contrast, saturation", at_least=0)
    choose: Literal["head", "rescore"] = setting("head", "result: head of the last board, or best re-scored")
    candidates: int = setting(0, "random paths of the baseline; 0: pool_size", at_least=0)

    def check(self, given: Given = None) -> None:
        """Raises UserError for a setting that the search would not look at, and for those that cannot work together."""
        idle = self.idle_crop()
        if not self.subset_classes:
            idle["subset_images"] = "--subset-classes"
        if self.sampling != "weighted":
            idle["probabilities"] = "--sampling weighted"
        if self.method != "random":
            idle["candidates"] = "--method random"
            if self.choose == "head":
                idle |= dict.fromkeys(("recalibrate_batches", "select_images"), "--choose rescore or --method random")
        if self.pick == "top1":
            idle["update_every"] = "--pick meta (with top1 the meta value is a constant, which has no gradient)"
        refuse_idle(self, idle, given)
        if self.method == "random" and given is not None:
            refuse_idle(self, dict.fromkeys(OF_THE_BOARD, "--method cream"), given)
        if self.sampling == "weighted":
            weights, choices = self.probabilities, Layout(resunit=self.resunit, dil_conv=self.dil_conv).choices
            if len(weights) != choices or min(weights) < 0 or abs(sum(weights) - 1) > 1e-6:
                raise UserError(f"--probabilities needs {choices} values >= 0 that sum to 1, got {list(weights)}")
        if self.method == "cream" and self.epochs <= self.start_epoch + 1:
            raise UserError(
                f"the board would stay empty: paths are admitted in epochs after --start-epoch {self.start_epoch} "
                f"(counted from 0), and the search has {self.epochs}; lower --start-epoch, or "
                f"raise --epochs to {self.start_epoch + 2} or more"
            )
        if self.batch_size // (shares := self.shares()) < 2 * self.slice:
            raise UserError(
                f"--batch-size {self.batch_size} in {shares} share(s) must be at least 2 x --slice {self.slice} "
                f"images a share; raise --batch-size to {2 * self.slice * shares}, or lower --parts or --slice"
            )


HEAD_SEARCH = {"step_sign": "minus"}  # the released code as it stands since July 2021
PAPER_SEARCH = {
    "step_sign": "minus",
    "meta_value": "argmax_positive",
    "meta_gradient": "all",
    "meta_weights": "clean",
    "stored": "own",
}
MODERN_SEARCH = {
    **PAPER_SEARCH,
    "zero_grad": "none",
    "apply_resolution": True,
    "enforce_window": True,
    "choose": "rescore",
    "holdout": 10_000,
}


@dataclass(frozen=True)
class Select(Rescoring):
    """Choose again among the paths a finished search left on its board."""

    search: str = setting("", "folder of the search")
    rule: Literal["head", "rescore"] = setting("rescore", "head of the board, or the best of it re-scored")
    macs_min: float = setting(0.0, "window in MFLOPs by the search's table; 0: as the search", at_least=0)
    macs_max: float = setting(0.0, "its other end in MFLOPs; 0: as the search", at_least=0)

    def check(self, given: Given = None) -> None:
        """Raises UserError for settings that do nothing: the head of the board is taken as it is."""
        if self.rule == "head":
            unread = ("recalibrate_batches", "select_images", "macs_min", "macs_max")
            refuse_idle(self, dict.fromkeys(unread, "--rule rescore"), given)


@dataclass(frozen=True)
class Recipe(TrainingBatches):
    """How a network is trained from scratch ("retrain")."""

    epochs: int = setting(500, "epochs without the cool-down", at_least=1)
    cooldown: int = setting(10, "further epochs at the least rate, with the cosine", at_least=0)
    schedule: Literal["auto", "cosine", "step", "none"] = setting(
        "auto", "course of the learning rate; auto: step for 14 and 43, cosine otherwise"
    )
    lr: float = setting(0.064, "learning rate after the warm-up", at_least=0)
    lr_min: float = setting(1e-5, "learning rate at the end of the cosine", at_least=0)
    warmup_lr: float = setting(1e-6, "learning rate of the first epoch", at_least=0)
    warmup_epochs: int = setting(3, "epochs until the full rate", at_least=0)
    decay_epochs: float = setting(2.4, "epochs between two steps of the rate", above=0)
    decay_rate: float = setting(0.973, "factor of each of these steps", at_least=0, at_most=1)
    optimizer_eps: float = setting(1e-3, "epsilon of RMSpropTF, inside the root", above=0)
    alpha: float = setting(0.9, "decay of RMSpropTF's mean square", at_least=0, below=1)
    momentum: float = setting(0.9, "momentum of RMSpropTF", at_least=0, below=1)
    weight_decay: float = setting(1e-5, "weight decay, not of biases and normalisation", at_least=0)
    dropout: float = setting(0.2, "dropout before the classifier", at_least=0, below=1)
    ema_decay: float = setting(0.9999, "decay of the averaged weights, per step", at_least=0, at_most=1)
    label_smoothing: float = setting(0.1, "part of the target spread over all classes", at_least=0, at_most=1)
    randaugment: float = setting(9.0, "magnitude of RandAugment, of 10; 0: off", at_least=0)
    randaugment_operations: int = setting(2, "operations per picture", at_least=0)
    randaugment_std: float = setting(0.5, "standard deviation of the magnitude", at_least=0)
    eval_batch_size: int = setting(512, "images of a batch that is only tested", at_least=1)
    interpolation: Literal["bicubic", "bilinear"] = setting("bicubic", "how test pictures are resized")

    def schedule_of(self, name: str) -> str:
        """``cosine``, ``step`` or ``none`` for the network of that name; auto: step for 14 and 43, cosine otherwise."""
        if self.schedule != "auto":
            return self.schedule
        return "step" if name in STEP_MODELS else "cosine"

    def check_recipe(self, name: str, given: Given) -> None:
        """Raises UserError for the first setting that a training of the network of that name would not look at."""
        idle, schedule = self.idle_crop(), self.schedule_of(name)
        if schedule != "cosine":
            idle |= dict.fromkeys(("cooldown", "lr_min"), "--schedule cosine")
        if schedule != "step":
            idle |= dict.fromkeys(("decay_epochs", "decay_rate"), "--schedule step")
        if schedule == "none":
            idle |= dict.fromkeys(("warmup_lr", "warmup_epochs"), "--schedule cosine or step")
        elif not self.warmup_epochs:
            idle["warmup_lr"] = "--warmup-epochs"
        if not self.randaugment:
            idle |= dict.fromkeys(("randaugment_operations", "randaugment_std"), "--randaugment")
        refuse_idle(self, idle, given)


@dataclass(frozen=True)
class OneNetwork(Settings):
    """A network, and how the entries of its path are read."""

    arch: str = setting("", "14, 43, 114, 287, 481, 604, a path list, an architecture file, or weights trained here")
    single_block: Literal["auto", "default", "strict"] = setting(
        "auto", "stages of one block: the released default, their entry (strict), or the default for published paths"
    )
    repeat_stage3: bool = setting(False, "a fourth stage-3 entry builds two blocks (the lists of 2020)")


@dataclass(frozen=True)
class Train(OneNetwork, Recipe):
    """Training of one network, from scratch or from weights."""

    checkpoint: str = checkpoint_setting()
    dataset: str = setting("imagenet", SETS)
    train_images: int = setting(0, "first images of the training set that are used; 0: all", at_least=0)
    eval_every: int = setting(1, "epochs between two tests; the last epoch is tested always", at_least=1)
    resolution: int = setting(
        0, "side of the pictures in pixels; 0: of the published network, else of the architecture file, else 224",
        at_least=0,
    )  # fmt: skip

    def check(self, given: Given = None) -> None:
        """Raises UserError for a setting that the training would not look at."""
        self.check_recipe(name_of(self.arch), given)


GENERIC_TRAIN = {  # the original's retrain.yaml, which none of the published networks was trained with
    "lr": 1e-2, "optimizer_eps": 1e-2, "weight_decay": 1e-4, "schedule": "none", "epochs": 200, "dropout": 0.0,
    "ema_decay": 0.9998, "batch_size": 256, "parts": 2,
}  # fmt: skip


@dataclass(frozen=True)
class Evaluate(OneNetwork):
    """Test error of weights: the authors' containers, the NNI hub's converted weights, or our own files."""

    arch: str = setting("", "14 … 604, a path list or an architecture file; weights trained here say it themselves")
    checkpoint: str = setting("", "file of the weights")
    dataset: str = setting("imagenet", "set whose test part is looked at; default: the one the file was trained on")
    resolution: int = setting(0, "side of the pictures in pixels; 0: that of the network", at_least=0)
    workers: int = setting(4, "processes that read pictures", at_least=0, result=False)
    batch_size: int = setting(128, "images of a batch", at_least=1)
    interpolation: Literal["bicubic", "bilinear"] = setting("bicubic", "how test pictures are resized")
    weights: Literal["auto", "ema", "raw"] = setting(
        "auto", "averaged or raw weights of a file; auto: the average where it holds one (the published numbers)"
    )


@dataclass(frozen=True)
class Predict(OneNetwork, use.Predict):
    """What pictures show, by trained weights."""

    arch: str = use.OfWeights.__dataclass_fields__["arch"]  # type: ignore[assignment]
    interpolation: Literal["bicubic", "bilinear"] = setting("bicubic", "how pictures are resized")


@dataclass(frozen=True)
class Export(OneNetwork, use.Export):
    """A network as a file for other programs."""


@dataclass(frozen=True)
class Describe(OneNetwork):
    """Sizes and operation counts of a network."""

    arch: tyro.conf.Positional[str] = setting("", "a published name, a path list, an architecture file, or weights")
    dataset: str = setting(
        "", "set or folder that gives classes and size; default: the one a file is of, else ImageNet"
    )
    classes: int = setting(0, "classes; 0: of the set", at_least=0)
    resolution: int = setting(0, "side of the pictures in pixels; 0: of the set, else of the network", at_least=0)


@dataclass(frozen=True)
class Draw(OneNetwork):
    """Blocks of a network: kernel, expansion, width."""

    arch: tyro.conf.Positional[str] = setting("287", "a published name, a path list, or an architecture file")
    format: Literal["svg", "png", "pdf"] = setting("svg", "kind of the picture")
