"""What a setting, a column of a history and a metric mean: the pages docs/settings/<paper>.md and docs/histories.md.

Settings are read from the dataclasses: default, range and help stand where the setting is declared. Columns of
``history.csv`` and metrics of ``result.json`` have their meaning here, once for all papers.
"""

from __future__ import annotations

import dataclasses
import importlib
from pathlib import Path
from typing import Any

from common.papers import PAPERS
from reproductions.docs.pages import title

MEANING = {
    # where in the run
    "epoch": "epoch, from 0",
    "iteration": "iteration of NAO (train, fit the controller, propose), from 0",
    "iteration_epoch": "epoch within the iteration, from 0",
    "generation": "generation of the evolution, from 0",
    "individual": "number of the individual in its generation",
    "phase": "part of the search: supernet or generator",
    "step": "step of the run at which it was measured, from 1",
    "number": "number of the architecture in its pool or file",
    "number_epoch": "epoch of training of that architecture",
    "seed": "seed of the row's run",
    "policy": "how paths were drawn: in proportion to size, or uniformly",
    "path": "choice indices of the path, stage by stage",
    "cell": "the cell of that row: its operations, or digits of NAS-Bench-201",
    "architecture": "the architecture as text",
    "edge": "edge of the cell, as to<-from",
    "file": "file that the row is of",
    "target": "multiply-adds asked of the generator, millions",
    # training
    "lr": "learning rate of the epoch; where it moves within one, of its first step (Cream's search: of its last)",
    "tau": "temperature of the Gumbel softmax; in studies Kendall's tau of supernet score and accuracy",
    "drop_path": "probability that a path of the network is dropped",
    "loss": "loss of the training steps of a search, nats, mean over the epoch; of a test: cross-entropy on its images",
    "train_loss": "training loss (nats), mean over the epoch",
    "train_top1_error_percent": "top-1 error on the training images as they were augmented, percent",
    "train_top1_percent": "top-1 accuracy on the training images as they were augmented, percent",
    "hardware_loss": "squared distance of the drawn network's multiply-adds from the target, weighted",
    "constraints": "architectures in the constraint set after the epoch",
    "archive": "architectures kept as constraints",
    "averaging": "1 from the epoch on in which weights are averaged (ASGD)",
    "rolled_back": "1 where a loss was not a number: the best weights so far came back and the epoch ended there",
    "largest_step": "size of the largest latent step that was taken (NAO's lambda)",
    "process_seconds": "processor time of the whole run, seconds",
    # tests
    "test_loss": "cross-entropy on the test set (nats)",
    "top1_error_percent": "images whose most likely class is wrong, percent of the test or validation set",
    "top5_error_percent": "images whose class is not among the five most likely, percent",
    "test_top1_error_percent": "top-1 error on the test set, percent",
    "test_top5_error_percent": "top-5 error on the test set, percent",
    "raw_top1_error_percent": "top-1 error of the weights themselves, where the averaged ones are reported, percent",
    "raw_top5_error_percent": "top-5 error of the weights themselves, percent",
    "best_top1_error_percent": "lowest top-1 error of any tested epoch, percent (the result is the last epoch's)",
    "last_top1_error_percent": "top-1 error after the last epoch, percent",
    "best_epoch": "epoch of the lowest error",
    **{f"monitored_{k}_percent": f"accuracy of watched cell {k} (NSAS, --monitor), percent" for k in range(1, 5)},
    "test_perplexity": "perplexity on the test text, per word",
    "valid_perplexity": "perplexity on the validation text, per word",
    "supernet_valid_perplexity": "perplexity of the found cell with the supernet's weights, validation text",
    "unigram_perplexity": "perplexity of the word frequencies alone: what needs no network",
    "valid_loss": "cross-entropy on the images that select, nats (SGNAS: labels smoothed)",
    "valid_top1_percent": "top-1 accuracy on the images that select, percent",
    "accuracy_percent": "top-1 accuracy on the test set, percent",
    "valid_top1_error_percent": "top-1 error on the images that select (in a search by the supernet), percent",
    "valid_top5_error_percent": "top-5 error on the validation part, percent",
    "valid_accuracy_percent": "top-1 accuracy on the images that select, percent; EvNAS: of the cell, from the tables",
    "total_hardware_loss": "hardware loss, sum over the targets that are tested",
    "random_path_top1_error_percent": "top-1 error of a random path of the supernet, percent",
    # searches
    "fitness_best": "accuracy of the generation's best individual on the fitness images, percent",
    "fitness_mean": "mean accuracy of the generation on the fitness images, percent",
    "fitness_worst": "accuracy of the generation's worst individual, percent",
    "fitness_best_percent": "highest fitness of any generation, percent",
    "fitness_last_percent": "fitness of the last generation's best individual, percent",
    "fitness_chosen_percent": "fitness of the individual that the search returns, percent",
    "top1": "accuracy of an individual on the fitness images, percent",
    "top5": "top-5 accuracy of an individual on the fitness images, percent",
    "top5_of_best": "top-5 accuracy of the best individual, percent",
    "loss_of_best": "cross-entropy of the best individual, nats",
    "best_so_far": "highest fitness up to here, percent",
    "best_generation": "generation of the highest fitness",
    "board": "paths on the prioritised board (Cream)",
    "board_size": "paths on the prioritised board at the end",
    "board_best": "score of the board's head: accuracy on its batch, percent",
    "board_best_mflops": "multiply-adds of the board's head by the search's table, millions",
    "iterations": "steps of the search up to here",
    "distilled": "steps in which a path of the board taught the drawn path, up to here",
    "meta_updates": "updates of the matching network up to here",
    "admitted": "paths that came onto the board up to here",
    "chosen_supernet_accuracy_percent": "accuracy of the chosen path with the supernet's weights, percent",
    "candidates": "architectures that the next or present supernet training draws from (NAO)",
    "best": "highest accuracy: of NAO's pool a share, of random search so far percent",
    "mean": "mean accuracy of the pool, a share",
    "worst": "lowest accuracy of the pool, a share",
    "size": "architectures in the pool",
    "decoded": "new architectures that the controller's steps gave",
    "new_architectures": "architectures that the controller added to the pool",
    "pool": "architectures in the pool",
    "mse": "controller: squared error of the predicted accuracy",
    "nll": "controller: negative log-likelihood of its decoder per token, nats",
    "hamming": "controller: tokens that its decoder gets wrong, mean number of the 40 of an architecture",
    "controller_hamming": "the same at the end of the last fit",
    "pairwise_accuracy": "pairs of architectures whose order the prediction has right, share of all",
    "controller_pairwise_accuracy": "pairs whose order the controller's prediction has right, share of all",
    "accuracy": "accuracy after training from scratch, percent (of NAS-Bench-201: from its tables)",
    "score": "accuracy with the supernet's weights: Cream percent, NAO a share",
    "scored": "networks that were scored with the supernet's weights",
    "lookup_cost": "multiply-adds of the found network by the search's table, millions",
    "mflops_search_table": "multiply-adds by the search's table, millions",
    "obtained": "multiply-adds of the network that the generator gave, millions",
    "supernet_top1_error_percent": "its top-1 error with the supernet's weights, percent",
    "largest_miss": "largest distance of a generated network's multiply-adds from its target, millions",
    "mean_error": "mean top-1 error over the targets, percent",
    "supernet_accuracy": "accuracy with the supernet's weights, share",
    "supernet_accuracy_percent": "accuracy with the supernet's weights, percent",
    "supernet_percent": "accuracy with the supernet's weights, percent",
    "mean_supernet_accuracy_percent": "mean accuracy of all cells with the supernet's weights, percent",
    "supernet_accuracy_mean_of_winners_percent": "mean supernet accuracy of the rounds' winners, percent",
    "supernet_parameters": "weights of the supernet",
    "supernet_steps": "steps of the supernet's training",
    "as_trained_percent": "accuracy with batch statistics as they were trained, percent",
    "renewed_percent": "accuracy with batch statistics taken anew, percent",
    "forgetting_points": "how much accuracy cells lost while others were trained, percentage points (Method of NSAS)",
    "points": "accuracy that one cell lost since the probe before, percentage points",
    # the benchmark's tables
    "table_test": "test accuracy of the cell in the NAS-Bench-201 tables, percent",
    "table_valid": "validation accuracy of the cell in the NAS-Bench-201 tables, percent",
    "table_test_v1_0": "test accuracy of the cell in the benchmark's first release, percent",
    "test_percent": "test accuracy of the cell in the NAS-Bench-201 tables, percent",
    "test_accuracy_percent": "test accuracy of the found cell in the NAS-Bench-201 tables, percent",
    "test_accuracy_v1_0_percent": "the same in the benchmark's first release, percent",
    "chosen_test_accuracy_percent": "test accuracy of the chosen cell in the NAS-Bench-201 tables, percent",
    "rank_among_15625": "rank of the found cell by test accuracy, 1 the best of 15,625",
    # agreement
    "kendall_tau": "Kendall's rank correlation of supernet score and accuracy, -1 to 1; SGNAS: of targets and costs",
    "pearson": "linear correlation of supernet score and accuracy, -1 to 1",
    "shared_kendall_tau": "Kendall's tau of supernet score and accuracy over the studied paths",
    "shared_pearson": "linear correlation over the studied paths",
    "shared_spearman": "Spearman's rank correlation over the studied paths",
    "macs_kendall_tau": "Kendall's tau of multiply-adds and accuracy: what size alone tells",
    "macs_pearson": "linear correlation of multiply-adds and accuracy",
    "macs_spearman": "Spearman's rank correlation of multiply-adds and accuracy",
    # sizes and counts
    "parameters": "weights of the network, without an auxiliary head",
    "macs": "multiply-adds for one picture: convolutions and linear layers",
    "macs_published": "the same as the paper counts them (its README says how)",
    "channels": "first channels of the network",
    "layers": "cells of the network",
    "epochs": "epochs of the run",
    "images": "pictures that were tested",
    "steps": "steps of the run",
    "paths": "paths that were studied",
    "architectures": "architectures that were studied",
    "runs": "runs that were summarised",
    "seeds": "seeds that were run",
}
ABOUT_SETTINGS = """\
Written by `python -m reproductions readme` from the settings classes of `papers/{paper}`. A setting is the flag
`--name` (underscores become hyphens), a line of a `--settings FILE.yaml`, or a word of the Python class. Defaults are
the published run; `--profile smoke`, the default on the command line, and `proxy` change some of them (`--plan` shows
the values of a run). Words that all papers share: [words](../words.md)."""
ABOUT_HISTORIES = """\
Written by `python -m reproductions readme`. A run writes a row of `history.csv` an epoch (generation, iteration), and
its numbers at the end as `metrics` of `result.json`. A name means the same in every paper; what is absent in a row was
not measured there. Percent are of the images of the set; losses are natural logarithms."""
ENDINGS = {
    "_low": "lower end of the 95 % interval: ",
    "_high": "upper end of the 95 % interval: ",
    "_spread": "standard deviation over seeds: ",
    "_params": "paths drawn in proportion to size: ",
    "_uniform": "paths drawn uniformly: ",
}


def meaning(column: str) -> str:
    """What a column or metric says, "" for an unknown one; an ending such as ``_low`` is put into words."""
    if column in MEANING:
        return MEANING[column]
    for ending, words in ENDINGS.items():
        if column.endswith(ending) and (rest := meaning(column.removesuffix(ending))):
            return words + rest
    return ""


def pages() -> dict[Path, str]:
    """Path below the repository -> text of every generated page of docs/."""
    found = {Path("docs", "settings", f"{paper}.md"): settings_page(paper, title(paper)) for paper in PAPERS}
    return {**found, Path("docs", "histories.md"): histories_page()}


def settings_page(paper: str, name: str) -> str:
    """Every setting of every verb of a paper: default, range and what it is."""
    verbs = importlib.import_module(f"papers.{paper}.__main__").VERBS
    parts = [f"# Settings of {name}", ABOUT_SETTINGS.format(paper=paper)]
    seen: dict[type, str] = {}
    for verb, entry in verbs.items():
        for choice, stage in entry.stages.items():
            flags = " ".join(f"--{f} {c}" for f, c in zip(entry.selectors, choice))
            call = f"{verb} {flags}".strip()
            parts.append(f"## {call}\n\n{_sentence(stage.about)}")
            if stage.settings in seen:
                parts.append(f"The settings of `{seen[stage.settings]}`.")
                continue
            seen[stage.settings] = call
            parts.append(settings_table(stage.settings))
    return "\n\n".join(parts) + "\n"


def settings_table(cls: type) -> str:
    """Setting, default, meaning."""
    fields = dataclasses.fields(cls)  # type: ignore[arg-type]
    if not fields:
        return "It has no settings."
    lines = ["| setting | default | what it is |", "| --- | --- | --- |"]
    for field in fields:
        about = str(field.metadata.get("help", "")).replace("|", "\\|")
        lines.append(f"| `{field.name}` | {_shown(field.default)} | {about} |")
    return "\n".join(lines)


def _shown(value: Any) -> str:
    if value == "" or value is None:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    text = ", ".join(map(str, value)) if isinstance(value, tuple) else str(value)
    return f"`{text}`" if text else "none"


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}".rstrip(".") + "."


def histories_page() -> str:
    """Every column and metric with its meaning."""
    lines = ["| column or metric | what it is |", "| --- | --- |"]
    lines += [f"| `{name}` | {about} |" for name, about in sorted(MEANING.items())]
    endings = [f"| `…{ending}` | {words.rstrip(': ')} |" for ending, words in ENDINGS.items()]
    return "\n\n".join(["# Histories and metrics", ABOUT_HISTORIES, "\n".join([*lines, *endings])]) + "\n"
