"""Rates and intervals follow the images at hand: the published run on ImageNet, as often an epoch elsewhere."""

from dataclasses import replace

import pytest

from common.errors import UserError
from papers.cream.method.schedules import IMAGENET, Pace, pace_of, search_lrs
from papers.cream.settings import Search

PUBLISHED_SEARCH = Search()


def test_imagenet_as_released():
    pace = pace_of(PUBLISHED_SEARCH, IMAGENET)
    assert (pace.iterations, pace.total, pace.update_every) == (1251, 150_000, 200)
    assert pace.meta_updates(PUBLISHED_SEARCH) == 99 * 6
    half = replace(PUBLISHED_SEARCH, batch_size=2048, parts=16)  # 16 GPUs: the interval is counted in iterations
    assert (pace_of(half, IMAGENET).iterations, pace_of(half, IMAGENET).update_every) == (625, 200)


@pytest.mark.parametrize("images", [30_000, 35_000, 50_000, 3_500, 200_000, 1_271_167])
def test_every_other_set(images):
    """The rank-correlation subset among them: 29 iterations an epoch never reached 200, and 150,000 is far off."""
    settings = PUBLISHED_SEARCH if images > 10_000 else replace(PUBLISHED_SEARCH, batch_size=256)
    pace = pace_of(settings, images)
    iterations = images // settings.batch_size
    assert pace.iterations == iterations and pace.update_every == max(1, round(200 * iterations / 1251))
    assert pace.meta_updates(settings) >= 99 * 5
    last = 120 * iterations - 1
    rate = search_lrs(settings, last, pace.total)[0]
    assert rate == pytest.approx(1 / pace.total)  # of a rate of 1: it falls to 0 within the training, as published


def test_what_is_asked_for_is_used():
    asked = replace(PUBLISHED_SEARCH, update_every=7, schedule_images=64_000)
    assert (pace_of(asked, 30_000).update_every, pace_of(asked, 30_000).total) == (7, 120 * 64_000 / 1024)


def test_meta_updates_come_inside_an_epoch():
    """Every so many iterations, counted from the epoch's first, which has none."""
    assert [step for step in range(10) if Pace(10, 1.0, 3).update_due(step)] == [3, 6, 9]


def test_no_meta_update_at_all_is_refused():
    with pytest.raises(UserError, match=r"an epoch of 30000 images has 29; lower --update-every"):
        pace_of(replace(PUBLISHED_SEARCH, update_every=200), 30_000)
    with pytest.raises(UserError, match="has 1; lower --batch-size"):
        pace_of(PUBLISHED_SEARCH, 2_000)
    for change in ({"pick": "top1"}, {"method": "random"}):  # neither makes any
        assert pace_of(replace(PUBLISHED_SEARCH, **change), 2_000).update_every == 0
