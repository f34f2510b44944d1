"""Sets of a few pictures: what does not fit is said at once, with sizes that do; folders are described."""

from __future__ import annotations

import dataclasses
import re
from types import SimpleNamespace

import pytest
from PIL import Image

from common.data.parts import fitting_batch, fitting_part
from common.data.sets import blank
from common.errors import UserError
from papers.cream import settings as cream
from papers.cream.data import batches as cream_batches
from papers.cream.data import sets as cream_sets
from papers.cream.describe import describe as describe_cream
from papers.nao_v2 import settings as nao
from papers.nao_v2.data import sets as nao_sets
from papers.nao_v2.describe import describe as describe_nao
from papers.sgnas import settings as sgnas
from papers.sgnas.data.search_data import refuse_small
from papers.sgnas.describe import description

CHECKS = {
    "cream search": (cream.Search(), cream_sets.refuse_small),
    "cream search with holdout": (cream.Search(holdout=500, batch_size=50, parts=0), cream_sets.refuse_small),
    "cream train": (cream.Train(), lambda c, images: cream_batches.check_batch(images, c)),
    "nao search": (nao.Search(), nao_sets.refuse_small),
    "nao random": (nao.RandomSearch(), nao_sets.refuse_small),
    "nao train": (nao.Train(), nao_sets.refuse_few),
    "sgnas search": (sgnas.Search(), lambda c, images: refuse_small(c, images, c.parts)),
    "sgnas search with portion": (
        sgnas.Search(train_portion=0.8, search_images=160), lambda c, images: refuse_small(c, images, c.parts),
    ),
}  # fmt: skip


@pytest.mark.parametrize("images", [48, 60, 15])
@pytest.mark.parametrize("name", CHECKS)
def test_the_sizes_that_are_named_fit(name, images):
    settings, check = CHECKS[name]
    own = blank("own", images, 3, 32)
    with pytest.raises(UserError, match=rf"^own: {images} training images of 3 classes are too few for") as refused:
        check(settings, own)
    flags = re.findall(r"--([\w-]+) (\S+)", str(refused.value))
    kinds = {field.name: type(getattr(settings, field.name)) for field in dataclasses.fields(settings)}
    changes = {flag.replace("-", "_"): value for flag, value in flags}
    changed = dataclasses.replace(settings, **{key: kinds[key](value) for key, value in changes.items()})
    check(changed, own)
    batch = changed.batch_size
    assert 2 <= batch <= images and images % batch != 1 and batch // (getattr(changed, "parts", 0) or 1) >= 2
    changed.check(frozenset(changes))


def test_large_sets_keep_their_sizes():
    assert fitting_batch(50_000, 64) == 64 and fitting_batch(64, 64) == 64 and fitting_batch(63, 64) == 16
    assert fitting_batch(33, 64) == 15 and fitting_batch(3, 64) == 3  # 33 = 2 x 16 + 1
    assert fitting_part(50_000, 10, 5_000) == 5_000 and fitting_part(48, 3, 0) == 0 and fitting_part(48, 3, 500) == 9


@pytest.fixture
def own(tmp_path):
    for name in ("a", "b", "c"):
        (tmp_path / "own" / name).mkdir(parents=True)
        for number in range(5):
            Image.new("L", (300, 260), number).save(tmp_path / "own" / name / f"{number}.png")
    return str(tmp_path / "own")


def test_a_folder_is_described(own):
    options = SimpleNamespace(json=True)
    large = describe_cream(cream.Describe(arch="14", dataset=own), options)
    small = describe_cream(cream.Describe(arch="14", dataset=f"{own}@32"), options)
    assert (large["classes"], large["resolution"], small["resolution"]) == (3, 64, 32)
    asked = describe_cream(cream.Describe(arch="14", dataset=own, classes=7, resolution=96), options)
    assert asked["parameters"] - large["parameters"] == 4 * 1281 and asked["macs"] > large["macs"] > small["macs"]

    large, small = description("SGNAS-A", own), description("SGNAS-A", f"{own}@32")
    assert (large["classes"], large["input_size"], large["architecture"]["macro"]) == (3, 224, "imagenet")
    assert (small["classes"], small["input_size"], small["architecture"]["macro"]) == (3, 32, "cifar")
    assert description("SGNAS-A", own, classes=5)["parameters"] - large["parameters"] == 2 * 1281

    small = describe_nao(nao.Describe(dataset=f"{own}@32"))
    assert (small["classes"], small["channels"], small["layers"]) == (3, 36, 6)
    assert describe_nao(nao.Describe(dataset=own))["channels"] == 52
    asked = describe_nao(nao.Describe(dataset=own, network="cifar", classes=5, channels=20, layers=3))
    assert (asked["classes"], asked["channels"], asked["layers"]) == (5, 20, 3)
    for describe, settings in ((describe_nao, nao.Describe), (describe_cream, cream.Describe)):
        with pytest.raises(UserError, match="unknown data set 'nowhere'"):
            describe(settings(arch="14" if settings is cream.Describe else "NAONet_V2", dataset="nowhere"), options)
    with pytest.raises(UserError, match="unknown data set 'nowhere'"):
        description("SGNAS-A", "nowhere")
