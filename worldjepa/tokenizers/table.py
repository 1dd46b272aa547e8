"""Rows of a table: one token per column."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from worldjepa.types import Observation, TokenSet


class TableTokenizer(nn.Module):
    """``table`` -> one token per column, its coordinate the column's number from 0 (T-JEPA, arXiv:2410.05016).

    Every column has places of its own in the contents: a number's are its standardised value and a 1, a category's are
    one-hot. So the encoder's one linear map of contents is a linear map with a bias for each column. As most of a
    token's contents are zeros, they are scaled to a mean square around 1, as a standardised picture's patch has: else
    which column it is would drown what stands in it. A missing value is a token that is not valid.

    Args:
        columns: name -> its categories in the order of their codes, or None for numbers; of all columns, in order.
        num_pinned: tokens without content put in front (the paper's REG), at coordinate -1; the encoder learns them.

    Raises:
        ValueError: fewer than two columns, or one with fewer than two categories.
    """

    takes = ("table",)

    def __init__(self, columns: Mapping[str, Sequence[str] | None], num_pinned: int = 1):
        super().__init__()
        if len(columns) < 2:
            raise ValueError(f"a table needs 2 columns or more, one to predict another from, got {len(columns)}")
        for name, categories in columns.items():
            if categories is not None and len(categories) < 2:
                raise ValueError(f"column {name!r} has {len(categories)} categories, expected 2 or more; leave it out")
        self.names = tuple(columns)
        self.num_pinned = num_pinned
        self.num_tokens = num_pinned + len(columns)
        is_number = torch.tensor([categories is None for categories in columns.values()])
        sizes = torch.tensor([2 if categories is None else len(categories) for categories in columns.values()])
        self.token_dim = int(sizes.sum())
        first = sizes.cumsum(0) - sizes
        ones = F.one_hot(first + 1, self.token_dim).float() * is_number[:, None]
        ids = torch.cat([torch.full((num_pinned,), -1.0), torch.arange(float(len(columns)))])
        for name, value in (("coords", ids[:, None]), ("is_number", is_number), ("sizes", sizes), ("first", first)):
            self.register_buffer(name, value, persistent=False)
        self.register_buffer("ones", ones, persistent=False)
        self.register_buffer("mean", torch.zeros(len(columns)))
        self.register_buffer("std", torch.ones(len(columns)))

    def fit(self, observation: Observation) -> None:
        """Takes mean and standard deviation of the columns with numbers, of the values that are there.

        Raises:
            ValueError: a column without values, or with one value alone, numbers or not.
        """
        table = self._checked(observation).double()
        missing = table.isnan()
        low, high = table.masked_fill(missing, torch.inf).amin(0), table.masked_fill(missing, -torch.inf).amax(0)
        for bad, what in ((missing.all(0), "no value at all"), (low == high, "one value alone")):
            if bad.any():
                names = ", ".join(repr(self.names[index]) for index in bad.nonzero()[:, 0].tolist())
                raise ValueError(f"{what} among the training samples in column {names}; leave it out (data.ignore)")
        mean = table.nanmean(0)
        std = (table - mean).square().nanmean(0).sqrt()
        self.mean.copy_(mean.where(self.is_number, torch.zeros_like(mean)))
        self.std.copy_(std.where(self.is_number, torch.ones_like(std)))

    def forward(self, observation: Observation) -> TokenSet:
        """``table`` float32 (B,columns), numbers or codes from 0, NaN where missing -> values (B,P,token_dim).

        Raises:
            ValueError: another shape or dtype, or a code that no category has.
        """
        table = self._checked(observation)
        valid = ~table.isnan()
        table = table.nan_to_num(0.0)
        code = table.long()
        bad = ~self.is_number & ((code != table) | (code < 0) | (code >= self.sizes))
        if bad.any():
            row, column = bad.nonzero()[0].tolist()
            raise ValueError(
                f"column {self.names[column]!r} must hold codes from 0 to {int(self.sizes[column]) - 1}, got "
                f"{float(table[row, column]):g}; encode the table by the columns that the tokenizer was given"
            )
        place = self.first + code.masked_fill(self.is_number, 0)
        amount = ((table - self.mean) / self.std).where(self.is_number, torch.ones_like(table))
        values = self.token_dim**0.5 * (F.one_hot(place, self.token_dim) * amount[..., None] + self.ones)
        values = F.pad(values * valid[..., None], (0, 0, self.num_pinned, 0))
        valid = F.pad(valid, (self.num_pinned, 0), value=True)
        pinned = torch.arange(self.num_tokens, device=table.device) < self.num_pinned
        return TokenSet(values, self.coords, valid, pinned)

    def _checked(self, observation: Observation) -> Tensor:
        table: Tensor = observation["table"]
        if table.dim() != 2 or table.shape[1] != len(self.names) or table.dtype != torch.float32:
            raise ValueError(
                f"table must be float32 (B, {len(self.names)}), got {table.dtype} {tuple(table.shape)}; its columns "
                f"are {', '.join(self.names[:3])}, ..."
            )
        return table
