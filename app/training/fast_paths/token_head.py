"""The loss of a language model on a processor: logits of trained tokens alone, in tiles, with one pass for both ways.

TRL's fallback for devices without Triton scores every position, masked ones as well, and projects each tile anew in
the backward pass. The head of an adapter's run is frozen, so the gradient of a token's log-probability by its hidden
state is known as soon as its softmax is: w[label] - p @ W. It is kept in place of the logits, and the backward pass
multiplies it by what comes from above: two products of matrices where there were three, over the trained tokens only.
"""

from __future__ import annotations

from types import MethodType

import torch
from torch import nn
from transformers import PreTrainedModel
from trl.trainer.utils import FusedCausalLMOutput

_TILE_BYTES = 64 << 20
_SCALES = ("logit_scale", "output_multiplier", "lm_head_multiplier", "logits_scaling")


class TokenLogProbs(torch.autograd.Function):  # type: ignore[misc]
    """Log-probability, entropy and whether it is the likeliest, of `labels` (n) for `hidden` (n, width)."""

    @staticmethod
    def forward(
        ctx: torch.autograd.function.FunctionCtx,
        hidden: torch.Tensor,
        weight: torch.Tensor,
        bias: torch.Tensor | None,
        labels: torch.Tensor,
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Score tile by tile; `weight` is (vocabulary, width) and frozen."""
        rows = max(1, _TILE_BYTES // (4 * weight.shape[0]))
        scored, slopes = [], []
        for states, wanted in zip(hidden.split(rows), labels.split(rows), strict=True):
            logs = nn.functional.linear(states, weight, bias).float()
            logs = logs.sub_(logs.logsumexp(-1, keepdim=True))
            chosen = logs.gather(-1, wanted[:, None]).squeeze(-1)
            best = logs.argmax(-1) == wanted
            chances = logs.exp()
            scored.append((chosen, logs.mul_(chances).sum(-1).neg_(), best))
            slope = chances.neg_()
            slope.scatter_add_(-1, wanted[:, None], torch.ones_like(slope[:, :1]))
            slopes.append(slope.to(weight.dtype) @ weight)
        width = hidden.shape[-1]
        ctx.save_for_backward(torch.cat(slopes) if slopes else hidden.new_zeros(0, width))
        log_probs, entropy, is_best = (
            (torch.cat(parts) for parts in zip(*scored, strict=True))
            if scored
            else (hidden.new_zeros(0).float(), hidden.new_zeros(0).float(), hidden.new_zeros(0, dtype=torch.bool))
        )
        ctx.mark_non_differentiable(entropy, is_best)
        return log_probs, entropy, is_best

    @staticmethod
    def backward(
        ctx: torch.autograd.function.FunctionCtx, above: torch.Tensor, *others: torch.Tensor
    ) -> tuple[torch.Tensor, None, None, None]:
        """Return the gradient by `hidden`."""
        (slopes,) = ctx.saved_tensors
        return (slopes * above[:, None]).to(slopes.dtype), None, None, None


def install(model: PreTrainedModel) -> bool:
    """Put this in place of TRL's fused head on a causal model that has one; tell whether it is.

    Passed over: a head that is trained or quantised, logits that are scaled or capped, losses that balance experts.
    """
    head, text = model.get_output_embeddings(), model.config.get_text_config(decoder=True)
    scaled = any(getattr(text, name, None) not in (None, 1, 1.0) for name in _SCALES)
    capped = getattr(text, "final_logit_softcapping", None)
    plain = type(head) is nn.Linear and not any(parameter.requires_grad for parameter in head.parameters())
    if not plain or scaled or capped or getattr(text, "output_router_logits", False):
        return False
    before = model.forward

    def forward(
        self: PreTrainedModel,
        *args: object,
        fused_lm_head: bool = False,
        labels: torch.Tensor | None = None,
        **kwargs: object,
    ) -> object:
        if not fused_lm_head or labels is None or "shift_labels" in kwargs or kwargs.get("output_router_logits"):
            asked = {"fused_lm_head": True} if fused_lm_head else {}
            return before(*args, **({} if labels is None else {"labels": labels}), **asked, **kwargs)
        kwargs.pop("num_items_in_batch", None)
        states = self.base_model(*args, **{**kwargs, "use_cache": False}).last_hidden_state[:, :-1]
        return _scored(states, labels[:, 1:], self.get_output_embeddings())

    model.forward = MethodType(forward, model)
    return True


def _scored(states: torch.Tensor, labels: torch.Tensor, head: nn.Linear) -> FusedCausalLMOutput:
    """Return TRL's output for `states` (rows, tokens, width) and labels (rows, tokens), zero where not trained."""
    mask = labels != -100
    found = TokenLogProbs.apply(states[mask], head.weight, head.bias, labels[mask])
    # Scattered so that a batch without a trained token is still connected to the model.
    log_probs, entropy, best = (each.new_zeros(mask.shape).masked_scatter(mask, each) for each in found)
    loss = -log_probs.sum() / mask.sum().clamp(min=1)
    return FusedCausalLMOutput(loss=loss, log_probs=log_probs, entropy=entropy, is_top1=best, label_mask=mask)
