"""What the planner must know of a model: its architecture numbers, nothing of its weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

NormKind = Literal["rms", "layer", "layer-nobias", "plain"]
QkNorm = Literal["none", "head", "full"]
LayerKind = Literal["full", "sliding"]


@dataclass(frozen=True)
class Experts:
    """Describe a mixture-of-experts block.

    `intermediate` is the width of one routed expert, `shared_intermediate` that of all shared experts together.
    The first `dense_layers` layers have an ordinary MLP. `adaptable`: PEFT 0.21 turns "all-linear" into adapters
    on the experts' parameters and the router, in place of those on dense and shared MLPs.
    """

    count: int
    per_token: int
    intermediate: int
    shared_intermediate: int = 0
    shared_gate: bool = False
    dense_layers: int = 0
    bias: bool = False
    router_bias: bool = False
    adaptable: bool = False


@dataclass(frozen=True)
class LatentAttention:
    """Describe multi-head latent attention (DeepSeek): low-rank query and key-value projections."""

    q_rank: int | None
    kv_rank: int
    rope_dim: int
    nope_dim: int
    value_dim: int

    @property
    def query_dim(self) -> int:
        """Return the width of one query head: the part without and the part with rotary embedding."""
        return self.nope_dim + self.rope_dim


@dataclass(frozen=True)
class Listing:
    """Say what the catalogue knows of a published model besides its architecture.

    `parameters` counts the language model that a text run trains; the sources name where this and the architecture were
    read. `instruct` names which of `hub_id` and `aliases` were tuned to follow instructions; the others are bases.
    `file_bytes` is the size of the weights on the hub, vision tower and all; None where it is not known.
    """

    hub_id: str
    licence: str
    gated: bool
    parameters: int
    parameters_source: str
    config_source: str
    aliases: tuple[str, ...] = ()
    instruct: tuple[str, ...] = ()
    file_bytes: int | None = None

    @property
    def is_instruct(self) -> bool:
        """Tell whether the weights under `hub_id` were tuned to follow instructions."""
        return self.hub_id in self.instruct


@dataclass(frozen=True)
class ModelSpec:
    """Describe a decoder-only language model by the numbers of its config.json.

    `positions` counts learned position embeddings (0: rotary or ALiBi), `norms` the hidden-size norms of one layer,
    `parallel` says that attention and MLP read the same residual. `fused_qkv` and `fused_gate_up` say that one linear
    module holds several projections. `linear_class` decides quantisation: only plain `nn.Linear` and Conv1D are
    converted. `unplanned` counts parameters outside the language model (a vision tower): never loaded;
    `uncounted` names the field of a part that could not be counted. `simulated` says that the family has no reader: the
    planner traces its class, and the numbers here serve for show. `config` keeps the fields of the config.json it was
    read from.
    """

    name: str
    family: str
    hidden: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    intermediate: int
    vocab: int
    tied: bool
    max_positions: int = 0
    norm: NormKind = "rms"
    norms: int = 2
    qk_norm: QkNorm = "none"
    gated_mlp: bool = True
    activation: str = "silu"
    parallel: bool = False
    fused_qkv: bool = False
    fused_gate_up: bool = False
    qkv_bias: bool = False
    out_bias: bool = False
    mlp_bias: bool = False
    head_bias: bool = False
    linear_class: Literal["linear", "conv1d", "own"] = "linear"
    positions: int = 0
    embedding_norm: bool = False
    final_norm: bool = True
    alibi: bool = False
    sinks: bool = False
    rotary_dim: int = 0
    attention_softcap: bool = False
    logit_softcap: bool = False
    hidden_dropout: float = 0.0
    attention_dropout: float = 0.0
    embedding_dropout: float = 0.0
    layer_kinds: tuple[LayerKind, ...] = ()
    sliding_window: int | None = None
    kv_shared_layers: int = 0
    experts: Experts | None = None
    latent: LatentAttention | None = None
    unplanned: int = 0
    uncounted: str = ""
    simulated: bool = False
    dtype: str = "bf16"
    listing: Listing | None = field(default=None, compare=False)
    config: Mapping[str, Any] = field(default_factory=dict, compare=False, repr=False)

    def __hash__(self) -> int:
        """Hash the few numbers that tell models apart: specs are keys of every cache, and all fields would be slow."""
        return hash((self.name, self.family, self.hidden, self.layers, self.heads, self.vocab))

    @property
    def encodes(self) -> bool:
        """Tell whether an encoder reads the prompt, and a decoder beside it writes the answer (T5, BART)."""
        return self.config.get("is_encoder_decoder") is True

    @property
    def sees(self) -> bool:
        """Tell whether the whole model has a vision tower, of which nothing is loaded here."""
        return bool(self.unplanned or self.uncounted or "vision_config" in self.config)

    @property
    def query_width(self) -> int:
        """Return the width of all query heads together."""
        return self.heads * (self.latent.query_dim if self.latent else self.head_dim)

    @property
    def kv_width(self) -> int:
        """Return the width of all key (or value) heads together."""
        return self.kv_heads * self.head_dim

    @property
    def value_width(self) -> int:
        """Return the width of what the attention hands to its output projection."""
        return self.heads * (self.latent.value_dim if self.latent else self.head_dim)

    def is_moe_layer(self, index: int) -> bool:
        """Tell whether layer `index` routes its tokens to experts."""
        return self.experts is not None and index >= self.experts.dense_layers

    def kind(self, index: int) -> LayerKind:
        """Return how layer `index` attends."""
        return self.layer_kinds[index] if self.layer_kinds else "full"

    def with_layers(self, layers: int) -> ModelSpec:
        """Return the same architecture with another depth."""
        return replace(self, layers=layers, layer_kinds=self.layer_kinds[:layers])
