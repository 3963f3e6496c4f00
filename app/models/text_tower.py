"""The language model of a base that sees: loaded without its vision tower, under the names of the whole model.

A text run needs the language model alone. transformers has a class for it (Gemma4ForCausalLM beside
Gemma4ForConditionalGeneration), but there its parts have other names, and an adapter trained so would fit nothing else.
Here the class of the language model is given the whole model's tree: what is `model.layers` in the one and
`model.language_model.layers` in the other is the latter. Checkpoints, adapters and merges need no renaming; tensors
of the tower are read by nobody, and a merge carries them over as they are.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any

import torch
from torch import nn
from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM, GenerationMixin, PreTrainedConfig, PreTrainedModel
from transformers.conversion_mapping import get_checkpoint_conversion_mapping, register_checkpoint_conversion_mapping
from transformers.modeling_outputs import CausalLMOutputWithPast
from transformers.models.auto.modeling_auto import (
    MODEL_FOR_CAUSAL_LM_MAPPING,
    MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING,
    MODEL_MAPPING,
)

from app.models.encoder_decoder import is_encoder_decoder

# Where transformers 5.23 keeps the language model inside of a whole one; a few older families say text_model.
_PLACE = "language_model"
# Decoders that transformers has inside of whole models only, and whose head is a plain matrix.
_HEADLESS = frozenset(
    f"{name}_text" for name in ("qwen2_vl", "qwen2_5_vl", "qwen3_vl", "qwen3_vl_moe", "glm4v", "glm4v_moe")
)
# Whole models with another tree, which are loaded as transformers' registry says, if it has them at all.
_OTHER_TREES = frozenset(
    ("llama4", "git", "blip-2", "instructblip", "instructblipvideo", "nemotron_h_omni", "florence2")
)
_PLACES = {"idefics2": "text_model", "idefics3": "text_model", "smolvlm": "text_model", "granite_docling": "text_model"}


def text_config(config: PreTrainedConfig) -> PreTrainedConfig | None:
    """Return the language model's configuration of a base that sees, None for a base of text alone."""
    text = getattr(config, "text_config", None)
    if not isinstance(text, PreTrainedConfig) or type(config) not in MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING:
        return None
    if config.model_type in _OTHER_TREES:
        return None
    if type(text) not in MODEL_FOR_CAUSAL_LM_MAPPING and text.model_type not in _HEADLESS:
        return None
    # The whole model's word decides in transformers whether the output layer is the embeddings.
    text.tie_word_embeddings = bool(getattr(config, "tie_word_embeddings", False))
    stored = getattr(config, "quantization_config", None)
    if stored is not None:
        text.quantization_config = stored
    return text


def language_class(config: PreTrainedConfig) -> tuple[type[Any], PreTrainedConfig]:
    """Return the class that a text run loads, and the configuration to build it from."""
    if is_encoder_decoder(config):
        return AutoModelForSeq2SeqLM, config
    text = text_config(config)
    if text is None:
        inside_only = type(config) not in MODEL_FOR_CAUSAL_LM_MAPPING and config.model_type in _HEADLESS
        return (_with_head(type(config)) if inside_only else AutoModelForCausalLM), config
    kinds: tuple[Any, Any] = (type(config), type(text))
    return _tower(*kinds, _PLACES.get(config.model_type, _PLACE)), text


def empty_language_model(config: PreTrainedConfig, attention: str | None = None) -> PreTrainedModel:
    """Build the model of a text run with random weights, or with none under `torch.device("meta")`."""
    kind, built_from = language_class(config)
    if kind in (AutoModelForCausalLM, AutoModelForSeq2SeqLM):
        model: PreTrainedModel = kind.from_config(config, trust_remote_code=False, attn_implementation=attention)
        return model
    tower: PreTrainedModel = kind._from_config(built_from, attn_implementation=attention)
    return tower


def place_of(model: nn.Module) -> str:
    """Return where a model keeps its language model (`model.language_model`), empty for a base of text alone."""
    inner = model.get_base_model() if hasattr(model, "get_base_model") else model
    return str(getattr(inner, "tower_place", ""))


def inside_tower(model: nn.Module, names: set[str] | list[str] | str) -> set[str] | list[str] | str:
    """Return targets of an adapter as they hold on the whole model: its tower has modules of the same names."""
    place = place_of(model)
    if not place or isinstance(names, str):
        return names
    # PEFT writes few modules by their whole names and many by the last part.
    inner = sorted({re.escape(name.removeprefix(f"{place}.")) for name in names})
    return rf"(?:.*\.)?{re.escape(place)}\.(?:.*\.)?(?:{'|'.join(inner)})"


class _Whole(nn.Module):  # type: ignore[misc]
    """The body of a whole model that has nothing but its language model: calls and attributes are passed on to it."""

    def __init__(self, place: str, text: nn.Module) -> None:
        super().__init__()
        self._place = place
        self.add_module(place, text)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Run the language model."""
        return self._modules[self._place](*args, **kwargs)  # type: ignore[misc]

    def set_input_embeddings(self, value: nn.Module) -> None:
        """Replace the embeddings of the language model."""
        self._modules[self._place].set_input_embeddings(value)  # type: ignore[union-attr, operator]

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(super().__getattr__(super().__getattribute__("__dict__")["_place"]), name)


@lru_cache(maxsize=32)
def _tower(whole: type[PreTrainedConfig], text: type[PreTrainedConfig], place: str) -> type[Any]:
    """Make the class of a language model with the whole model's names."""
    base = MODEL_FOR_CAUSAL_LM_MAPPING[text] if text in MODEL_FOR_CAUSAL_LM_MAPPING else _with_head(text)

    def start(self: Any, config: PreTrainedConfig) -> None:
        # While it is built it has the names of its own class.
        object.__setattr__(self, "_tied_weights_keys", base._tied_weights_keys)
        base.__init__(self, config)
        object.__delattr__(self, "_tied_weights_keys")
        body = self.model
        del self.model
        self.model = _Whole(place, body)
        # Tied weights are looked up by name once more, under the names of the whole model.
        self.all_tied_weights_keys = self.get_expanded_tied_weights_keys(all_submodels=False)

    def set_input_embeddings(self: Any, value: nn.Module) -> None:
        self.model.set_input_embeddings(value)

    tied = {_in_whole(name, place): _in_whole(other, place) for name, other in (base._tied_weights_keys or {}).items()}
    seeing = MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING[whole].__name__
    name = f"{seeing}Text"
    fields = {
        "__init__": start,
        "__module__": __name__,
        "tower_place": f"model.{place}",
        "set_input_embeddings": set_input_embeddings,
        "_tied_weights_keys": tied,
    }
    # Files of earlier transformers name the parts otherwise; the whole model knows how.
    renamed = get_checkpoint_conversion_mapping(seeing) or get_checkpoint_conversion_mapping(whole.model_type) or []
    register_checkpoint_conversion_mapping(name, renamed, overwrite=True)
    return type(name, (base,), fields)


def _in_whole(name: str, place: str) -> str:
    return name.replace("model.", f"model.{place}.", 1) if name.startswith("model.") else name


def _with_head(text: type[PreTrainedConfig]) -> type[Any]:
    """Make a causal language model of a decoder that transformers has inside of whole models only (Qwen-VL, GLM-V)."""
    decoder: Any = MODEL_MAPPING[text]
    family = next(one for one in decoder.__mro__[1:] if issubclass(one, PreTrainedModel))

    def start(self: Any, config: PreTrainedConfig) -> None:
        family.__init__(self, config)
        self.model = decoder(config)
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        self.post_init()

    def forward(
        self: Any,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        position_ids: torch.Tensor | None = None,
        past_key_values: Any = None,
        inputs_embeds: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        use_cache: bool | None = None,
        logits_to_keep: int | torch.Tensor = 0,
        **kwargs: Any,
    ) -> CausalLMOutputWithPast:
        found = self.model(
            input_ids=input_ids,
            attention_mask=attention_mask,
            position_ids=position_ids,
            past_key_values=past_key_values,
            inputs_embeds=inputs_embeds,
            use_cache=use_cache,
            **kwargs,
        )
        kept = slice(-logits_to_keep, None) if isinstance(logits_to_keep, int) else logits_to_keep
        logits = self.lm_head(found.last_hidden_state[:, kept, :])
        loss = None if labels is None else self.loss_function(logits, labels, self.config.vocab_size, **kwargs)
        return CausalLMOutputWithPast(loss=loss, logits=logits, past_key_values=found.past_key_values)

    fields = {
        "__init__": start,
        "__module__": __name__,
        "forward": forward,
        "base_model_prefix": "model",
        "_tied_weights_keys": {"lm_head.weight": "model.embed_tokens.weight"},
    }
    return type(f"{decoder.__name__}WithHead", (family, GenerationMixin), fields)
