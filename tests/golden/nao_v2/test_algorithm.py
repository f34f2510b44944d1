"""Pure functions, the numpy stream of a search, schedules, counts, key lists and transforms against golden values."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
import torch
from PIL import Image

from common.data.augment import Augmentation, Draws, cutout_mask, plain, transform
from common.train.losses import TopK, label_smoothing_cross_entropy
from common.train.metrics import kendall_tau
from common.train.schedules import cosine, exponential
from papers.nao_v2.data import autoaugment
from papers.nao_v2.method import agreement, balanced, pool
from papers.nao_v2.method.controller import Controller, constrained_argmax
from papers.nao_v2.method.controller_training import training_data
from papers.nao_v2.method.supernet_training import learning_rate
from papers.nao_v2.networks.architectures import (
    Shape,
    from_tokens,
    loose_ends,
    parse,
    random_architecture,
    swapped,
    text_of,
    to_tokens,
    vocabulary,
)
from papers.nao_v2.networks.derived import Network
from papers.nao_v2.networks.operations import drop_path_keep
from papers.nao_v2.networks.size import size_of
from papers.nao_v2.networks.supernet import Supernet


def nested(architecture):
    return [list(cell) for cell in architecture]


def test_architectures(golden):
    algorithm = golden.json("algorithm.json")
    for case in algorithm["generate_arch"]:
        rng = np.random.RandomState(case["seed"])
        for expected in case["archs"]:
            assert nested(random_architecture(rng, case["num_ops"], case["nodes"])) == expected
    for case in algorithm["arch_to_seq"]:
        architecture = parse(case["text"])
        assert nested(architecture) == case["arch"]
        assert text_of(architecture) == case["text"]
        assert to_tokens(architecture) == case["seq"]
        assert from_tokens(case["seq"]) == architecture
    for case in algorithm["swap_augmentation"]:
        assert swapped(case["src"], case["a"], case["b"]) == case["out"]


def test_balanced_sampling(golden):
    case = golden.json("algorithm.json")["balanced_sampling"]
    architectures = [parse(t) for t in case["archs"]]
    sizes = balanced.sizes(architectures, Shape(channels=case["channels"], layers=case["layers"]))
    assert sizes.tolist() == case["params_without_aux"]
    p = balanced.probabilities(sizes)
    assert p.dtype == np.float32
    assert p.tolist() == case["prob"]
    cumulative = np.cumsum(p.astype(np.float64))
    found = np.searchsorted(cumulative / cumulative[-1], case["uniform_draws"], side="right")
    assert found.tolist() == case["index"]
    paths = balanced.Sampler(architectures, p, np.random.RandomState(case["legacy_seed"]))
    assert [paths.place() for _ in case["legacy_indices"]] == case["legacy_indices"]
    case = golden.json("algorithm.json")["uniform_sampling"]
    paths = balanced.Sampler([architectures[0]] * case["n"], None, np.random.RandomState(case["legacy_seed"]))
    assert [paths.place() for _ in case["legacy_indices"]] == case["legacy_indices"]


def test_replay_of_seed_0(golden):
    """Split, pool, 35,200 weighted draws, controller shuffle and swaps: one numpy stream."""
    case = golden.json("algorithm.json")["seed_replay"]
    rng = np.random.RandomState(case["seed"])
    order = np.arange(50000)
    rng.shuffle(order)
    assert order[:10].tolist() == case["split_train_first10"]
    assert order[45000:45010].tolist() == case["split_valid_first10"]
    assert hashlib.sha1(",".join(map(str, order)).encode()).hexdigest() == case["split_sha1_comma_joined"]
    architectures = pool.random_pool(rng, 1000, 5)
    texts = [text_of(a) for a in architectures]
    assert texts[:3] == case["pool_first3"] and texts[-1] == case["pool_last"]
    assert hashlib.sha1("".join(t + "\n" for t in texts).encode()).hexdigest() == case["pool_text_sha1"]
    sizes = balanced.sizes(architectures, Shape(channels=20, layers=3))
    assert sizes[:20].tolist() == case["pool_params_first20"]
    assert (sizes.sum(), sizes.min(), sizes.max()) == (
        case["pool_params_sum"], case["pool_params_min"], case["pool_params_max"],
    )  # fmt: skip
    p = balanced.probabilities(sizes)
    paths = balanced.Sampler(architectures, p, rng)
    drawn = [paths.place() for _ in range(35200)]
    assert drawn[:30] + drawn[-5:] == case["sampling_first30_then_last5_of_35200"]
    state = rng.get_state()
    shuffled = np.arange(1000)
    rng.shuffle(shuffled)
    assert shuffled[:10].tolist() == case["controller_shuffle_first10"]
    assert hashlib.sha1(",".join(map(str, shuffled)).encode()).hexdigest() == case["controller_shuffle_sha1"]
    swaps = [[int(rng.randint(0, 5)), int(rng.randint(0, 5))] for _ in range(20)]
    assert swaps == case["swap_draws_first20"]
    rng.set_state(state)  # the same stream through the search's own function
    sequences, targets = [to_tokens(a) for a in architectures], [k / 1000 for k in range(1000)]
    train, train_targets, valid, _ = training_data(rng, sequences, targets, 10)
    assert len(train) == 9000 and len(valid) == 100
    assert train[:900].tolist() == [sequences[k] for k in shuffled[:900]]
    assert train[900].tolist() == swapped(sequences[shuffled[0]], *case["swap_draws_first20"][0])
    assert train_targets[900].item() == pytest.approx(targets[shuffled[0]])


def test_pool_functions(golden):
    algorithm = golden.json("algorithm.json")
    case = algorithm["target_normalisation"]
    assert pool.scaled(case["acc"]) == pytest.approx(case["target"], rel=1e-6)
    assert set(pool.scaled([0.3, 0.3])) == {0.5}
    assert pool.ranking(algorithm["pool_sort"]["acc"]) == algorithm["pool_sort"]["order"]
    case = algorithm["new_arch_selection"]
    known, kept, used = {tuple(s) for s in case["known"]}, [], []
    for step, decoded in enumerate(case["rounds"], 1):
        used.append(step)
        pool.select_new(decoded, known, kept, case["wanted"], False)
        if len(kept) >= case["wanted"]:
            break
    assert kept == case["selected"] and used == case["lambdas_used"]
    case = algorithm["constrained_argmax"]
    scores = torch.tensor(case["scores"])
    tokens = [int(constrained_argmax(scores[s : s + 1], s, 5)) for s in range(40)]
    assert tokens == case["tokens"]
    assert nested(from_tokens(tokens)) == case["arch"]
    wishes = 10 * torch.eye(scores.shape[1])  # row t wants token t: it is taken exactly where it is allowed
    for position in range(40):
        taken = constrained_argmax(wishes, position, 5).tolist()
        allowed = [token for token, got in enumerate(taken) if token == got]
        steps = case["allowed_index_tokens_by_step"]
        assert allowed == (case["allowed_op_tokens"] if position % 2 else steps[str(position)]), position


def test_metrics(golden):
    algorithm = golden.json("algorithm.json")
    for case in algorithm["pairwise_accuracy"]:
        assert agreement.pairwise_accuracy(case["a"], case["b"]) == pytest.approx(case["value"], abs=1e-12)
    for case in algorithm["rank_correlation"]:
        for key, function in (
            ("kendall_tau_b", kendall_tau),
            ("pearson", agreement.pearson),
            ("spearman", agreement.spearman),
        ):
            if case.get(key) is not None:
                assert function(case["a"], case["b"]) == pytest.approx(case[key], abs=1e-9), key
    case = algorithm["hamming"]
    assert agreement.hamming(case["a"], case["b"]) == case["value"]
    for case in algorithm["drop_path_keep"]:
        kept = drop_path_keep(case["keep"], case["layer_index"], case["cells"], case["step"], case["steps"])
        assert kept == pytest.approx(case["value"], abs=1e-12)
    case = algorithm["label_smoothing_ce"]
    loss = label_smoothing_cross_entropy(torch.tensor(case["logits"]), torch.tensor(case["target"]), case["epsilon"])
    assert float(loss) == pytest.approx(case["value"], rel=1e-5)
    case = algorithm["topk_accuracy_percent"]
    counter = TopK()
    counter.add(torch.tensor(case["logits"]), torch.tensor(case["target"]))
    _, first, top, _ = counter.read()
    assert (100 - first, 100 - top) == pytest.approx((case["top1"], case["top5"]))
    for case in algorithm["cutout"]:
        mask = cutout_mask(torch.tensor([case["centre_y"]]), torch.tensor([case["centre_x"]]), 32, 32, case["length"])[
            0, 0
        ]
        rows, columns = case["zero_rows"], case["zero_cols"]
        assert int((mask == 0).sum()) == case["zeroed_pixels"]
        assert (mask[rows[0] : rows[1], columns[0] : columns[1]] == 0).all()


def test_schedules(golden):
    case = golden.json("schedules.json")
    values = [learning_rate("restart", i, e, 50, 0.025, 0.001) for i in range(4) for e in range(50)]
    assert values == pytest.approx(case["search_iteration_lr"]["values"] * 4, rel=1e-9)
    drift = case["same_calls_run_on_torch_2.13"]
    for iteration in (0, 1):
        rates = [learning_rate("drift", iteration, e, 50, 0.025, 0.001) for e in range(50)]
        assert rates == pytest.approx(drift[f"iteration_{iteration}"], rel=1e-9)
    assert learning_rate("continue", 1, 0, 50, 0.025, 0.001) == pytest.approx(0.001)
    assert learning_rate("continue", 2, 0, 50, 0.025, 0.001) == pytest.approx(0.025)
    assert [cosine(0.025, 0.001, e, 10) for e in range(10)] == pytest.approx(case["rerank_lr_10_epochs"], rel=1e-9)
    for epoch, value in case["cifar_train_lr_600_epochs"].items():
        assert cosine(0.025, 0.0, int(epoch), 600) == pytest.approx(value, rel=1e-6)
    for name, values in case["imagenet_lr"].items():
        for epoch, value in values.items():
            assert exponential(float(name[2:]), 0.97, int(epoch)) == pytest.approx(value, rel=1e-9)
    steps = case["steps"]
    assert steps["search_steps_per_epoch"] == -(-45000 // 64) and steps["search_drop_path_steps"] == 50 * 704
    assert steps["cifar_drop_path_steps"] == 600 * -(-50000 // 128)


def test_counts(golden):
    """Every network of the file in closed form; the state dicts' shapes by construction."""
    listing = golden.json("networks.json")
    for case in listing["networks"]:
        shape = Shape(case["network"], case["init_channels"], case["layers"], case["classes"], case["search_space"])
        found = size_of(parse(case["arch"], case["search_space"]), shape)
        name = f"{case['name']} {case['network']} {case['init_channels']}"
        assert found.parameters == case["params_without_aux"], name
        assert found.parameters_with_auxiliary == case["params_with_aux"], name
        assert found.macs == case["multiply_adds_eval"], name
        normal, reduction = (loose_ends(cell) for cell in parse(case["arch"], case["search_space"]))
        assert (normal, reduction) == (case["concat_normal"], case["concat_reduction"]), name
        assert 3 * case["layers"] + 2 == case["cells"]
        assert case["classifier_in"] == 4 * case["init_channels"] * len(normal), name  # the last cell is a normal one
    assert len(list(Supernet().parameters())) == 7_349
    for case in listing["controllers"]:
        controller = Controller(
            case["vocab"], case["embedding"], case["hidden"], case["mlp_layers"], case["mlp_hidden"]
        )
        assert sum(p.numel() for p in controller.parameters()) == case["params"], case
    assert {vocabulary("small"), vocabulary("middle")} == {case["vocab"] for case in listing["controllers"]}


def key_lines(module: torch.nn.Module) -> str:
    """``name d1,d2,…`` per entry of the state dict, in module order, joined by newlines (a scalar has no numbers)."""
    return "\n".join(f"{name} {','.join(map(str, v.shape))}" for name, v in module.state_dict().items())


@pytest.mark.parametrize("number", range(3))
def test_supernet_keys(golden, number):
    """Both spaces and CIFAR-100: every name, shape and place of the state dict by its hash."""
    case = golden.json("networks.json")["supernets"][number]
    supernet = Supernet(
        channels=case["init_channels"], layers=case["layers"], classes=case["classes"], space=case["search_space"]
    )
    assert len(supernet.cells) == case["cells"]
    assert sum(p.numel() for p in supernet.parameters()) == case["params"]
    assert len(supernet.state_dict()) == case["state_dict_entries"]
    assert hashlib.sha1(key_lines(supernet).encode()).hexdigest() == case["sha1_of_key_and_shape_lines"]


@pytest.mark.parametrize(
    ("file", "build"),
    [
        ("state_dict_cifar_naonet_v2_36.json", lambda a: Network(a, Shape(channels=36, layers=6), auxiliary=True)),
        (
            "state_dict_imagenet_naonet_v2_52.json",
            lambda a: Network(a, Shape(kind="imagenet", channels=52, layers=4, classes=1000), auxiliary=True),
        ),
        ("state_dict_controller.json", lambda a: Controller()),
    ],
)
def test_state_dict_names(golden, file, build):
    listing = golden.json(file)
    published = parse(golden.json("meta.json")["derived"]["published"]["arch"])
    found = [[name, list(value.shape)] for name, value in build(published).state_dict().items()]
    assert found == [[name, list(shape)] for name, shape in listing["keys"]]


def test_transforms(golden):
    arrays, notes = golden.npz("transforms.npz"), golden.json("transforms.json")
    image = arrays["image"]
    pixels = image.permute(2, 0, 1)[None]
    constants = Augmentation(tuple(notes["mean"]), tuple(notes["std"]), pad=4, flip=True, cutout=16)
    golden.close(plain(pixels, constants)[0], arrays["eval_tensor"], 1e-6)
    top, left, flip, y, x = (torch.tensor([int(v)]) for v in arrays["train_crop_top_left_flip_cutout_y_x"])
    golden.close(transform(pixels, constants, Draws(top, left, flip.bool(), y, x))[0], arrays["train_tensor"], 1e-6)
    picture = Image.fromarray(image.numpy())
    for name, index, sign, value in notes["autoaugment_cases"]["rows"]:
        if name not in ("autocontrast", "equalize", "invert", "posterize"):
            assert autoaugment.magnitude(name, index) == pytest.approx(value), name
        found = np.asarray(autoaugment.operate(picture, name, index, sign))
        expected = arrays[f"autoaugment/{name}_m{index}_s{sign}"].numpy()
        assert np.array_equal(found, expected), (name, index, sign, np.abs(found.astype(int) - expected).max())
    assert [list(row) for row in autoaugment.POLICY] == notes["cifar10_policy"]["rows"]
    for name, bounds in notes["magnitude_range_over_index_0_to_9"].items():
        assert autoaugment.RANGES[name] == pytest.approx(bounds), name
