"""Golden: RandAugment's operations, crop and erasing boxes, the test transform, the subset list."""

import hashlib
import random

import numpy as np
from PIL import Image

from papers.cream.data.randaugment import PICTURE_OPERATIONS, RESAMPLES, argument
from papers.cream.data.sets import subset_names
from papers.cream.data.transforms import MEAN, STD, TestTransform, crop_box, erasing_box


def agrees(got, want):
    """Exact with the Pillow that made the values; else +-1 on at most 1 % of the pixels."""
    difference = np.abs(got.astype(int) - want.astype(int))
    return difference.max() <= 1 and (difference > 0).mean() <= 0.01


def test_randaugment_operations(golden):
    info, arrays = golden.load("transforms.json")["randaugment"], golden.load("transforms.npz")
    assert list(PICTURE_OPERATIONS) == info["op_list"] and info["fill"] == [124, 116, 104]
    picture = Image.fromarray(arrays["ra/in"])
    for row in info["ops"]:
        value = argument(row["op"], row["magnitude"], row["sign"] < 0)
        assert [value][: len(row["args"])] == row["args"]  # to the last bit: a picture depends on it
        got = np.asarray(PICTURE_OPERATIONS[row["op"]](picture, value, RESAMPLES[row["resample"]]))
        assert agrees(got, arrays[row["key"]]), row


def test_arguments_round_as_in_the_original():
    """(level / 10) * range, in this order; 0.045 * level and the like differ in the last bit for many levels."""
    rng = random.Random(0)
    ranges = {"Rotate": 30.0, "ShearX": 0.3, "ShearY": 0.3, "TranslateXRel": 0.45, "TranslateYRel": 0.45}
    for level in [rng.uniform(0, 10) for _ in range(200)] + [k / 10 for k in range(101)]:
        for name, full in ranges.items():
            assert argument(name, level, False) == level / 10 * full == -argument(name, level, True)
        for name in ("Color", "Contrast", "Brightness", "Sharpness"):
            assert argument(name, level, False) == level / 10 * 1.8 + 0.1
        for name, full in (("Posterize", 4), ("Solarize", 256), ("SolarizeAdd", 110)):
            assert argument(name, level, False) == int(level / 10 * full)


def test_operations_at_every_level():
    """Low magnitudes leave no bit to Posterize: black, where today's Pillow refuses."""
    picture = Image.fromarray(np.random.RandomState(0).randint(0, 256, (8, 8, 3), dtype=np.uint8))
    for level in range(11):
        for name, operation in PICTURE_OPERATIONS.items():
            for resample in RESAMPLES.values():
                assert operation(picture, argument(name, level, level % 2 == 0), resample).size == (8, 8)
    for bits in range(9):
        got = np.asarray(PICTURE_OPERATIONS["Posterize"](picture, float(bits), None))
        assert (got == np.asarray(picture, dtype=int) // 2 ** (8 - bits) * 2 ** (8 - bits)).all(), bits


def test_crop_boxes(golden):
    for row in golden.load("transforms.json")["random_resized_crop"]:
        rng = random.Random(row["python_seed"])
        boxes = [list(crop_box(row["width"], row["height"], rng)) for _ in row["boxes_top_left_h_w"]]
        assert boxes == row["boxes_top_left_h_w"]


def test_erasing_boxes(golden):
    for row in golden.load("transforms.json")["random_erasing"]:
        rng = random.Random(row["python_seed"])
        boxes = [erasing_box(row["height"], row["width"], rng, row["probability"]) for _ in range(row["batch"])]
        assert [list(box) if box else None for box in boxes] == row["boxes"]


def test_test_transform(golden):
    info, arrays = golden.load("transforms.json"), golden.load("transforms.npz")
    for row in info["eval"]:
        transform = TestTransform(row["crop"], row["interpolation"])
        picture = Image.fromarray(arrays[f"eval{row['case']}/in"])
        got = np.asarray(transform(picture)).transpose(2, 0, 1)
        assert agrees(got, arrays[f"eval{row['case']}/out_uint8"]), row
        want = arrays[f"eval{row['case']}/norm_mean_std"]
        mean, std = np.array(MEAN).reshape(3, 1, 1), np.array(STD).reshape(3, 1, 1)
        normal = (got / 255.0 - mean) / std
        assert np.allclose(normal.mean(), want[0], rtol=0, atol=1e-4)
        assert np.allclose(normal.std(), want[1], rtol=0, atol=1e-4)
        assert np.allclose(normal[:, 5, 7], want[2:], rtol=0, atol=1e-4)


def test_subset(golden):
    info, arrays = golden.load("subset.json"), golden.load("subset.npz")
    wnids, numbers = arrays["wnids"].tolist(), arrays["image_numbers"]
    assert wnids == info["classes"]
    listed = [f"{wnid}_{number}.JPEG" for wnid, row in zip(wnids, numbers, strict=True) for number in row]
    rng = random.Random(0)  # the rule must find the list inside a larger, shuffled set of names
    names = {wnid: [f"{wnid}_{number}.JPEG" for number in row] for wnid, row in zip(wnids, numbers, strict=True)}
    for wnid, files in names.items():
        files += [f"{wnid}_{number}z.JPEG" for number in ("99", "999")]
        rng.shuffle(files)
    names["n09999999"] = ["n09999999_1.JPEG"]
    chosen = subset_names(names, info["images_per_class"] and 100, info["images_per_class"])
    assert chosen == listed and len(chosen) == info["total"]
    assert (
        hashlib.sha256("".join(name + "\n" for name in chosen).encode()).hexdigest()
        == info["sha256_of_names_joined_by_newline"]
    )
    assert chosen[:3] == info["first"] and chosen[-3:] == info["last"]
