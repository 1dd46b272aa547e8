import torch

from worldjepa.objectives import OneStepAngle, RolloutAngle
from worldjepa.types import Prediction

B, T, P, D = 2, 4, 3, 13


def random_prediction() -> Prediction:
    torch.manual_seed(0)
    latent = torch.randn(B, T, P, D)
    return Prediction(latent, torch.randn(B, T, P, D), *torch.randn(2, B, T - 1, P, D), torch.zeros(B, T - 1, 5))


def angle(a, b):
    return (1 - (a * b).sum(-1) / (a.norm(dim=-1) * b.norm(dim=-1))).mean()


def test_all_beginnings_of_a_clip_count_or_the_whole_clip_alone():
    prediction = random_prediction()
    torch.testing.assert_close(OneStepAngle()(prediction), angle(prediction.one_step, prediction.target[:, 1:]))
    last = angle(prediction.one_step[:, -1], prediction.target[:, -1])
    torch.testing.assert_close(OneStepAngle(last_only=True)(prediction), last)
    torch.testing.assert_close(RolloutAngle()(prediction), angle(prediction.rollout, prediction.target[:, 1:]))


def test_length_does_not_count():
    prediction = random_prediction()
    before = OneStepAngle()(prediction)
    prediction.target *= 5
    torch.testing.assert_close(OneStepAngle()(prediction), before)
