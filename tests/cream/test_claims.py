"""What the claims of numbers beside the errors read and compute."""

from papers.cream.claims import search_rate, search_steps, training_rate


def test_rates_at_their_ends():
    assert search_rate(0) == 1 > search_rate(75_000) > search_rate(149_999) > search_rate(150_000) == 0
    assert search_rate(-1) == search_rate(int(search_steps("total")) - 1)
    assert training_rate("287", -1) == training_rate("287", 509) < training_rate("287", 499)
