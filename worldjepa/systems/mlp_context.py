"""What a policy with few tokens in a fixed order makes of them and of what it feels."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class MlpContext(nn.Module):
    """All tokens side by side, with what is felt, through a perceptron: one latent.

    In place of :class:`worldjepa.systems.act_jepa.ContextEncoder` where every token has a meaning of its own, such as
    the stations of :class:`worldjepa.encoders.route_tokens.RouteTokens`, and demonstrations are few.

    Args:
        state_dim: S', numbers that are felt.
        token_dim, num_tokens: D and P of the encoder; tokens that follow each other are neighbours.
        coords: not looked at.
        num_cameras: whose tokens stand side by side.
        num_tasks: must be 0.
        width: of the latent.
        token_width: numbers that each token is brought down to.
        dropout: of these, and of the hidden layer.

    Raises:
        ValueError: more than one task.
    """

    def __init__(
        self,
        state_dim: int,
        token_dim: int,
        num_tokens: int,
        coords: Tensor | None = None,
        num_cameras: int = 1,
        num_tasks: int = 0,
        width: int = 128,
        token_width: int = 16,
        dropout: float = 0.2,
    ):
        super().__init__()
        if num_tasks:
            raise ValueError(f"a policy of {num_tasks} tasks needs another context: context@policy.context=transformer")
        self.latent_dim, self.state_dim, self.num_tasks = width, state_dim, num_tasks
        self.neighbours = nn.Conv1d(token_dim, token_dim, 3, padding=1)
        self.narrow = nn.Sequential(nn.Linear(token_dim, token_width), nn.Dropout(dropout))
        self.mix = nn.Sequential(
            nn.Linear(num_cameras * num_tokens * token_width + state_dim, width),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(width, width),
        )

    def forward(
        self, state: Tensor | None, token: Tensor | None, task: Tensor | None = None, mask: Tensor | None = None
    ) -> Tensor:
        """Normalised readings (B,n,S') and tokens (B,C,P,D) -> (B,1,width).

        Raises:
            ValueError: nothing is looked at.
        """
        if token is None:
            raise ValueError(
                "this context reads what is seen and felt together and predicts nothing of the future: set "
                "policy.predictor=null, or context@policy.context=transformer"
            )
        near = torch.relu(self.neighbours(token.flatten(0, 1).movedim(1, 2))).movedim(2, 1)
        parts = [self.narrow(token + near.unflatten(0, token.shape[:2])).flatten(1)]
        if state is not None:
            parts.append(state.flatten(1))
        return self.mix(torch.cat(parts, 1))[:, None]
