"""What fits together has a low energy: pictures with their own captions against pictures with others'."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from worldjepa.datasets.samples import Samples
from worldjepa.evaluation.frozen import BATCH, encode_samples, probe_score, raw_score
from worldjepa.samplers.masks import Sampler
from worldjepa.systems.masked import TokenModel
from worldjepa.tokens import take
from worldjepa.types import Observation

MAX_DRAWS = 100


@torch.no_grad()
def pair_energies(
    model: TokenModel, observation: Observation, sampler: Sampler, num_masks: int = 8, seed: int = 0
) -> Tensor:
    """How badly what is hidden of each sample is predicted from the rest: float32 (N,), on the CPU.

    The energy is the squared error against the encoder's own latents of the whole sample, scaled to mean 0 and variance
    1 each, the mean over their numbers, over all hidden tokens of a mask, and over masks. At the end of training the
    encoder is where its average, the target of training, is.

    Args:
        num_masks: drawn per sample; the same for the same ``seed`` and number of samples.
    """
    device, was_training = next(model.parameters()).device, model.training
    model.eval()
    generator, found = torch.Generator().manual_seed(seed), []
    for start in range(0, len(next(iter(observation.values()))), BATCH):
        tokens = model.tokenizer({name: x[start : start + BATCH].to(device) for name, x in observation.items()})
        latent = model.encoder(tokens).values
        latent = F.layer_norm(latent, latent.shape[-1:]).float()
        energies = []
        for _ in range(num_masks):
            prediction, index, valid = model.predict(tokens, sampler(tokens, generator, 1.0, None))
            rows = len(index) // len(latent)
            error = (prediction.float() - take(latent.repeat_interleave(rows, 0), index)).square().mean(-1)
            error, valid = (x.reshape(len(latent), -1) for x in (error * valid, valid))
            energies.append(error.sum(1) / valid.sum(1))
        found.append(torch.stack(energies).mean(0).cpu())
    model.train(was_training)
    return torch.cat(found)


def measure_without(
    model: TokenModel, untrained: TokenModel, train: Samples, held_out: Samples, seed: int, name: str = "caption"
) -> dict[str, float]:
    """What the other modality's latents alone know of a label that either tells.

    Args:
        name: of the observation that is taken away: all 0, which is padding and no token.

    Returns:
        ``probe_without_<name>``, linear, ``random_probe_without_<name>`` of the untrained model, and
        ``raw_probe_without_<name>`` of the tokens' contents.
    """
    parts = [
        Samples({**part.observation, name: torch.zeros_like(part.observation[name])}, part.labels, part.names)
        for part in (train, held_out)
    ]
    found = {}
    for prefix, one in (("", model), ("random_", untrained)):
        features = [encode_samples(one, part.observation) for part in parts]
        found[prefix] = probe_score("linear", features[0], parts[0].labels, features[1], parts[1].labels)
    found["raw_"] = raw_score("linear", model, *parts)
    return {f"{prefix}probe_without_{name}": score for prefix, score in found.items()}


def mismatched(captions: Tensor, seed: int) -> Tensor:
    """int64 (N,): for every sample another one, drawn at random among those with another caption (N,L).

    Raises:
        ValueError: hardly any two captions differ.
    """
    generator, count = torch.Generator().manual_seed(seed), len(captions)
    other = torch.arange(count)
    for _ in range(MAX_DRAWS):
        same = (captions == captions[other]).all(1)
        if not same.any():
            return other
        other[same] = torch.randint(count, (int(same.sum()),), generator=generator)
    raise ValueError(f"captions must differ, got {len(captions.unique(dim=0))} different ones of {count}")


def measure_energies(
    model: TokenModel,
    untrained: TokenModel,
    train: Samples,
    held_out: Samples,
    seed: int,
    sampler: Sampler,
    num_masks: int = 8,
    num_references: int = 4,
    name: str = "caption",
) -> dict[str, float]:
    """Do energies tell matched pairs from mismatched ones? Both are held out, and asked with the same masks.

    Args:
        model: trained, and ``untrained``: with the weights that it started from.
        sampler: hides parts of the pictures and no word; it should leave little to see.
        num_references: other captions of each picture, beside the mismatched one, whose mean energy is what any
            caption may have there.
        name: of the observation that is exchanged between samples.

    Returns:
        ``energy_auc`` of the energy as a sign of a mismatch; ``energy_excess_auc`` of what it is above the references,
        as some pictures are harder to predict than others whatever is said of them; ``energy_choice``, the share of
        pictures whose own caption has a lower energy than another one; all with ``random_`` before them of the
        untrained model. Chance is 0.5 for all.
    """
    from sklearn.metrics import roc_auc_score

    right = held_out.observation
    wrong = {**right, name: right[name][mismatched(right[name], seed)]}
    others = [
        {**right, name: right[name][mismatched(right[name], seed + 1 + index)]} for index in range(num_references)
    ]
    found = {}
    for prefix, one in (("", model), ("random_", untrained)):
        low, high = (pair_energies(one, observation, sampler, num_masks, seed) for observation in (right, wrong))
        usual = torch.stack([pair_energies(one, other, sampler, num_masks, seed) for other in others]).mean(0)
        is_wrong = (torch.arange(2 * len(low)) >= len(low)).numpy()
        for label, pair in (("energy_auc", (low, high)), ("energy_excess_auc", (low - usual, high - usual))):
            found[f"{prefix}{label}"] = float(roc_auc_score(is_wrong, torch.cat(pair).numpy()))
        found[f"{prefix}energy_choice"] = float((low < high).float().mean())
    return found
