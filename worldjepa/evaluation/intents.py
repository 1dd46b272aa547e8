"""UI-JEPA's second stage (arXiv:2409.04081, section 3.2): a decoder reads a sentence off frozen latents of a clip.

The paper projects the latents linearly and hands them to a pre-trained language model of 3 billion parameters, which
learns on through adapters, and scores similarity of meaning. Here a small transformer learns a small language from
nothing, and sentences are right or wrong.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from worldjepa.datasets.drawn_screens import END, PAD, START
from worldjepa.datasets.samples import Samples
from worldjepa.evaluation.fitting import fit
from worldjepa.evaluation.frozen import BATCH
from worldjepa.layers import CrossBlock, block_causal_mask, padding_mask
from worldjepa.systems.masked import TokenModel
from worldjepa.types import Observation


class IntentDecoder(nn.Module):
    """Names a sentence word by word, looking at a clip's latents all the while.

    As in the paper the latents get no position of their own: the encoder has given them theirs.

    Args:
        latent_dim: D of the latents.
        num_words: W, of the vocabulary.
        length: L, words of the longest sentence and its end.
        width, depth, heads: of the transformer.
    """

    def __init__(self, latent_dim: int, num_words: int, length: int, width: int = 64, depth: int = 2, heads: int = 4):
        super().__init__()
        self.enter = nn.Linear(latent_dim, width)
        self.words = nn.Embedding(num_words, width)
        self.places = nn.Parameter(0.02 * torch.randn(length, width))
        self.blocks = nn.ModuleList(CrossBlock(width, heads) for _ in range(depth))
        self.leave = nn.Sequential(nn.LayerNorm(width, eps=1e-6), nn.Linear(width, num_words))

    def forward(self, latents: Tensor, valid: Tensor, words: Tensor) -> Tensor:
        """Logits (B,L',W) of the word after each, given that one and those before it.

        Args:
            latents: (B,K,D), and ``valid`` bool (B,K), False marks padding.
            words: int64 (B,L'), L' <= L, that begin with the start.
        """
        context = self.enter(latents)
        x = self.words(words) + self.places[: words.shape[1]]
        mask = block_causal_mask(words.shape[1], device=words.device)
        for block in self.blocks:
            x = block(x, context, mask, padding_mask(valid))
        return self.leave(x)

    @torch.no_grad()
    def name(self, latents: Tensor, valid: Tensor) -> Tensor:
        """int64 (B,L): the likeliest word at every place, its predecessors given; padding after the end."""
        words = torch.full((len(latents), 1), START, device=latents.device)
        ended = torch.zeros(len(latents), dtype=torch.bool, device=latents.device)
        for _ in range(len(self.places)):
            word = self(latents, valid, words)[:, -1].argmax(-1).masked_fill(ended, PAD)
            words = torch.cat([words, word[:, None]], 1)
            ended |= word == END
        return words[:, 1:]


def train_decoder(
    latents: Tensor,
    valid: Tensor,
    sentences: Tensor,
    num_words: int,
    seed: int,
    width: int = 64,
    depth: int = 2,
    steps: int = 1500,
    batch_size: int = 64,
    learning_rate: float = 1e-3,
    device: torch.device | None = None,
) -> IntentDecoder:
    """A decoder in eval mode that has learned (latents, sentence) pairs, every word given its true predecessors.

    Args:
        latents: float32 (N,K,D), and ``valid`` bool (N,K).
        sentences: int64 (N,L), each with its end, then padding.
        num_words: W.
        seed: of the weights and the batches.
        width, depth: of the decoder.
        steps, batch_size, learning_rate: of AdamW, falling to 0 by a cosine.
        device: where it learns; the CPU when None.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        decoder = IntentDecoder(latents.shape[-1], num_words, sentences.shape[1], width, depth).to(device)

    def loss(index: Tensor) -> Tensor:
        x, there, wanted = (part[index].to(device) for part in (latents, valid, sentences))
        given = F.pad(wanted[:, :-1], (1, 0), value=START)
        return F.cross_entropy(decoder(x, there, given).flatten(0, 1), wanted.flatten(), ignore_index=PAD)

    fit(
        decoder.parameters(),
        loss,
        len(latents),
        steps=steps,
        batch_size=batch_size,
        learning_rate=learning_rate,
        seed=seed,
        weight_decay=0.05,
    )
    return decoder.eval()


def sentence_scores(named: Tensor, wanted: Tensor) -> tuple[float, float]:
    """Shares in [0, 1] of sentences that are right throughout, and of words (ends too) that are right in their place.

    Args:
        named, wanted: int64 (N,L).
    """
    right, there = named == wanted, wanted != PAD
    return float(right.all(1).float().mean()), float(right[there].float().mean())


def measure_intents(
    model: TokenModel,
    untrained: TokenModel,
    train: Samples,
    held_out: Samples,
    seed: int,
    width: int = 64,
    depth: int = 2,
    steps: int = 1500,
    batch_size: int = 64,
    learning_rate: float = 1e-3,
) -> dict[str, float]:
    """How well a decoder on frozen, standardised latents names the sentences of clips that it has not seen.

    Args:
        model, untrained: after and before its training; they stay as they are.
        train, held_out: samples with ``intent`` int64 (N,L), whose numbers 0, 1 and 2 are padding, start and end.
        seed: of the decoders.
        width, depth, steps, batch_size, learning_rate: see :func:`train_decoder`.

    Returns:
        ``intent_exact`` and ``intent_words``, see :func:`sentence_scores`; with ``random_`` before it that of the same
        decoder on the untrained encoder's latents, with ``commonest_`` that of always naming the commonest
        sentence.

    Raises:
        ValueError: samples without sentences.
    """
    if "intent" not in train.observation:
        raise ValueError(
            f"measure_intents needs samples with the sentences 'intent', got {', '.join(train.observation)}; "
            "take data=drawn_screens or leave it out of measures"
        )
    sentences, wanted = train.observation["intent"], held_out.observation["intent"]
    num_words = int(max(sentences.max(), wanted.max())) + 1
    device = next(model.parameters()).device
    found = {}
    for prefix, one in (("", model), ("random_", untrained)):
        settings = (num_words, seed, width, depth, steps, batch_size, learning_rate, device)
        latents, valid = encode_tokens(one, train.observation)
        # As a probe's: a trained encoder's numbers differ in size, an untrained one's do not.
        mean, std = latents[valid].mean(0), latents[valid].std(0).clamp_min(1e-6)
        decoder = train_decoder((latents - mean) / std, valid, sentences, *settings)
        latents, valid = encode_tokens(one, held_out.observation)
        parts = zip(((latents - mean) / std).split(BATCH), valid.split(BATCH), strict=True)
        named = torch.cat([decoder.name(x.to(device), valid.to(device)).cpu() for x, valid in parts])
        found[f"{prefix}intent_exact"], found[f"{prefix}intent_words"] = sentence_scores(named, wanted)
    kinds, counts = sentences.unique(dim=0, return_counts=True)
    commonest = sentence_scores(kinds[counts.argmax()].expand_as(wanted), wanted)
    found["commonest_intent_exact"], found["commonest_intent_words"] = commonest
    return found


@torch.no_grad()
def encode_tokens(model: TokenModel, observation: Observation) -> tuple[Tensor, Tensor]:
    """Latents (N,K,D) of all tokens of samples and ``valid`` bool (N,K), on the CPU, in evaluation mode."""
    device, was_training = next(model.parameters()).device, model.training
    model.eval()
    latents, valid = [], []
    for start in range(0, len(next(iter(observation.values()))), BATCH):
        tokens = model.tokenizer({name: x[start : start + BATCH].to(device) for name, x in observation.items()})
        found = model.encoder(tokens)
        latents.append(found.values.float().cpu())
        valid.append(found.valid.cpu())
    model.train(was_training)
    return torch.cat(latents), torch.cat(valid)
