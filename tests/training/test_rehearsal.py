"""Schedules and optimisers tried out before a run."""

import pytest

from classmates.errors import UserError
from classmates.training.optimisation import SCHEDULES, make_optimizer, make_schedule
from classmates.training.rehearsal import rehearse

NEEDED = {
    "MultiStepLR": {"milestones": [2, 4]},
    "StepLR": {"step_size": 2},
    "ExponentialLR": {"gamma": 0.9},
    "CyclicLR": {"base_lr": 0.01},
    "CosineAnnealingWarmRestarts": {"T_0": 2},
}


def tried(schedule, arguments, *, optimizer="SGD", epochs=5, steps=7):
    rehearse(
        lambda parameters: make_optimizer(optimizer, parameters, 0.1, {}),
        lambda made: [make_schedule(schedule, made, arguments, epochs=epochs, steps_per_epoch=steps)],
        name=optimizer,
        schedule=schedule,
        lengths={"epoch": epochs, "step": epochs * steps},
    )


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("epochs", [1, 5, 300])
def test_every_schedule_with_right_arguments_passes(schedule, epochs):
    tried(schedule, NEEDED.get(schedule, {}), epochs=epochs)


@pytest.mark.parametrize("optimizer", ["AdamW", "RMSprop", "adafactor", "lamb", "lion"])
def test_optimisers_that_step_by_gradients_pass(optimizer):
    tried("CosineAnnealingLR", {}, optimizer=optimizer)


def test_a_schedule_that_ends_before_the_run_does_is_found_at_its_end():
    with pytest.raises(UserError, match=r"schedule OneCycleLR fails after step 2100 of 2100 \(ValueError"):
        tried("OneCycleLR", {"total_steps": 2000}, epochs=300)
