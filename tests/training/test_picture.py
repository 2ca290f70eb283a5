"""The loss curve as SVG: well-formed whatever the run is called, inside its frame, and the same bytes every time."""

from xml.etree import ElementTree as ET

import pytest

from ringi.jobs.contracts.training import CurvePoint, TrainMetrics
from ringi.training.picture import loss_curve
from support.refusals import refused
from support.running_platform import PROJECT
from support.story import ADAPTER, Ground

SVG = "{http://www.w3.org/2000/svg}"
METRICS = TrainMetrics(
    steps=60, rows=160, skipped_rows=0, first_loss=3.0, final_loss=0.5, label_tokens=400, tokens_per_s=None, seconds=1.0, resumed_from_step=0,
    best_step=40,
)  # fmt: skip


def points_of(svg: str) -> list[list[tuple[float, float]]]:
    lines = ET.fromstring(svg).findall(f"{SVG}polyline")
    return [[tuple(map(float, point.split(","))) for point in line.attrib["points"].split()] for line in lines]  # type: ignore[misc]


def test_a_falling_loss_falls_and_a_validation_loss_has_a_line_of_its_own() -> None:
    curve = tuple(CurvePoint(step=step, loss=3.0 / step, validation_loss=1.0 if step == 40 else None) for step in (1, 20, 40, 60))
    drawn = loss_curve(METRICS.model_copy(update={"curve": curve}), title="支援/bot <v1> & \x00のこり")
    assert ET.fromstring(drawn).findtext(f"{SVG}title") == "支援/bot <v1> &  のこり"
    training, validation = points_of(drawn)
    assert [x for x, _ in training] == sorted(x for x, _ in training)
    # Downwards is a larger y.
    assert [y for _, y in training] == sorted(y for _, y in training)
    assert len(validation) == 1
    assert all(0 <= x <= 720 and 0 <= y <= 360 for line in (training, validation) for x, y in line)
    assert "kept: step 40" in drawn
    assert drawn == loss_curve(METRICS.model_copy(update={"curve": curve}), title="支援/bot <v1> & \x00のこり")


@pytest.mark.parametrize("loss", [0.0, 1e-9, 5e6])
def test_any_loss_has_a_picture_and_a_run_without_a_curve_an_empty_one(loss: float) -> None:
    assert len(points_of(loss_curve(METRICS.model_copy(update={"curve": (CurvePoint(step=1, loss=loss),)}), title="a"))) == 1
    assert points_of(loss_curve(METRICS, title="a")) == []


def test_a_finished_run_shows_its_curve_and_an_unfinished_one_says_that_it_has_none(ground: Ground) -> None:
    platform, training = ground.platform, ground.platform.as_("contributor").training
    *_, run = [one for one in training.all(PROJECT, ADAPTER) if one.metrics is not None]
    assert run.metrics is not None
    drawn = training.curve(PROJECT, ADAPTER, run.id)
    (line,) = points_of(drawn)
    assert len(line) == len(run.metrics.curve)
    assert f"{PROJECT}/{ADAPTER}" in drawn
    unfinished = training.start(PROJECT, ADAPTER, dataset="faq")
    platform.as_("contributor").jobs.cancel(unfinished.job_id)
    with refused("training_no_record", 409):
        training.curve(PROJECT, ADAPTER, unfinished.id)
    platform.ended(unfinished.job_id)
