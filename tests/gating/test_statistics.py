"""The statistics under the gate, against published numbers and against scipy."""

import numpy as np
import pytest
from scipy import optimize, special, stats  # type: ignore[import-untyped]  # the platform itself does without

from ringi.gating import binary, graded
from ringi.gating.futility import Futility
from ringi.gating.many import false_discovery, holm


@pytest.mark.parametrize(("lost", "won", "n", "margin"), [(12, 5, 300, 0.03), (0, 3, 80, 0.1), (40, 10, 500, 0.02), (1, 0, 60, 0.05)])
def test_tango_is_the_score_test_at_the_restricted_maximum_of_the_likelihood(lost: int, won: int, n: int, margin: float) -> None:
    def unlikely(rare: float) -> float:
        return -float(special.xlogy(lost, rare + margin) + special.xlogy(won, rare) + special.xlogy(n - lost - won, 1 - 2 * rare - margin))

    rare = optimize.minimize_scalar(unlikely, bounds=(0, (1 - margin) / 2), method="bounded", options={"xatol": 1e-12}).x
    score = (lost - won - n * margin) / (n * (2 * rare + margin - margin**2)) ** 0.5
    assert binary.tango(lost, won, n, margin) == pytest.approx(stats.norm.cdf(score), rel=1e-4)


def test_without_a_margin_tango_is_mcnemars_normal_test() -> None:
    assert binary.tango(30, 50, 400, 0.0) == pytest.approx(stats.norm.cdf((30 - 50) / 80**0.5), rel=1e-9)


def test_without_a_flip_133_items_show_a_loss_below_two_points() -> None:
    assert binary.tango(0, 0, 133, 0.02) < 0.05 <= binary.tango(0, 0, 132, 0.02)


def test_the_interval_is_the_losses_that_the_test_does_not_refute() -> None:
    bound = binary.tango_bound(12, 5, 300, 0.05)
    assert binary.tango(12, 5, 300, bound + 1e-6) < 0.05 <= binary.tango(12, 5, 300, bound - 1e-6)


@pytest.mark.parametrize(("lost", "won"), [(0, 0), (5, 0), (9, 3), (3, 9), (400, 350), (2000, 1900)])
def test_mcnemar_is_the_exact_binomial_test(lost: int, won: int) -> None:
    exact = stats.binomtest(lost, lost + won, alternative="greater").pvalue if lost + won else 1.0
    assert binary.mcnemar(lost, won) == pytest.approx(exact, rel=1e-9)


def test_wilson_is_that_of_scipy() -> None:
    interval = stats.binomtest(80, 100).proportion_ci(0.90, method="wilson")
    assert binary.wilson_bound(80, 100, 0.05, upper=False) == pytest.approx(interval.low)
    assert binary.wilson_bound(80, 100, 0.05, upper=True) == pytest.approx(interval.high)


def test_how_many_items_a_margin_needs() -> None:
    assert binary.fewest_for(0.02, 0.05) == 149
    assert binary.finest_margin(50, 0.05) == pytest.approx(0.058, abs=0.0005)
    assert [binary.items_for(0.02, flips, 0.05) for flips in (0.01, 0.02, 0.05, 0.10)] == pytest.approx([215, 429, 1071, 2141], abs=1)
    assert binary.items_for(0.02, 0.05, 0.05, loss=0.02) is None


def test_random_signs_are_mcnemars_test_where_items_are_right_or_wrong() -> None:
    differences = np.array([-1.0] * 9 + [1.0] * 3 + [0.0] * 60)
    clusters = graded.clustered(differences, np.arange(len(differences)))
    assert graded.sign_flip(clusters, 1) == pytest.approx(binary.mcnemar(9, 3), rel=1e-9)
    many = np.array([-1.0] * 40 + [1.0] * 20)
    assert graded.sign_flip(graded.clustered(many, np.arange(60)), 1) == pytest.approx(binary.mcnemar(40, 20), abs=0.003)


def test_the_bootstrap_is_that_of_scipy() -> None:
    draw = np.random.default_rng(5)
    differences = draw.exponential(0.2, 120) - 0.25
    ours = graded.Bootstrap(graded.clustered(differences, np.arange(120)), seed=1)
    theirs = stats.bootstrap((differences,), np.mean, confidence_level=0.90, method="BCa", n_resamples=20_000, rng=2).confidence_interval
    assert (ours.lower(0.05), ours.upper(0.05)) == pytest.approx((theirs.low, theirs.high), abs=0.003)
    assert ours.p_at_most(ours.lower(0.05)) == pytest.approx(0.05, abs=0.002)


def test_items_of_one_source_count_as_one_witness() -> None:
    draw = np.random.default_rng(6)
    differences = np.repeat(draw.normal(-0.02, 0.3, 60), 5)
    alone = graded.Bootstrap(graded.clustered(differences, np.arange(300)), seed=1)
    together = graded.Bootstrap(graded.clustered(differences, np.repeat(np.arange(60), 5)), seed=1)
    assert together.upper(0.05) - together.lower(0.05) > 1.8 * (alone.upper(0.05) - alone.lower(0.05))


def test_corrections_for_many_tests_are_those_of_scipy_and_holms_own_example() -> None:
    p_values = [0.01, 0.04, 0.03, 0.005]
    assert holm(p_values) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert false_discovery(p_values) == pytest.approx(list(stats.false_discovery_control(p_values, method="bh")))
    assert false_discovery(p_values, dependent=True) == pytest.approx(list(stats.false_discovery_control(p_values, method="by")))


def test_a_hopeless_adapter_is_seen_early_and_a_good_one_never_stopped() -> None:
    draw = np.random.default_rng(7)
    hopeless, good = Futility(margin=0.02), Futility(margin=0.02)
    assert hopeless.see(np.where(draw.random(300) < 0.3, -1.0, 0.0).tolist())
    assert not good.see(draw.permutation([-1.0] * 20 + [1.0] * 20 + [0.0] * 960).tolist())
    assert good.seen == 1000
