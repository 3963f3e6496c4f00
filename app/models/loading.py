"""Load a base model and its tokenizer: the one place where children do so."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors import SafetensorError
from transformers import (
    AutoConfig,
    AutoTokenizer,
    BitsAndBytesConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from app import devices
from app.data.chat_template.tokenizer import refuse_sentencepiece
from app.errors import ModelError, NetworkError, one_line
from app.hub.client import fetch_tokenizer
from app.hub.ids import is_local
from app.hub.network import FETCH_ERRORS, follow_the_network, why_not_fetched
from app.models.identity import fingerprint
from app.models.moe import mxfp4
from app.models.moe.expert_loading import experts_one_by_one
from app.models.moe.experts import stacked_names
from app.models.stored_weights import Identity, StoredWeights
from app.models.targets import name_backbone
from app.models.text_tower import language_class, place_of

Quant = Literal["nf4", "fp4", "int8", "none"]
# Widest hidden size that was measured and its margin; wider models keep all threads.
_NARROW = 512
_DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}


def device() -> torch.device:
    """Return the accelerator if there is one, else the CPU."""
    return devices.here().torch_device


def resolve_dtype(name: str) -> torch.dtype:
    """Return the torch dtype of a RunConfig name.

    `auto` is bf16 where the card can, else fp16 on a card; fp32 on a CPU.
    """
    return devices.here().auto_dtype() if name == "auto" else _DTYPES[name]


def load_tokenizer(model: str, *, revision: str | None = None) -> PreTrainedTokenizerBase:
    """Load the tokenizer of a folder or hub id; one without a padding token pads with its end token."""
    if is_local(model):
        refuse_sentencepiece(Path(model))
    with explained(model):
        tokenizer = AutoTokenizer.from_pretrained(
            model, revision=revision, trust_remote_code=False, local_files_only=is_local(model)
        )
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def tokenizer_folder(model: str, revision: str | None = None) -> Path:
    """Return the folder of a model's tokenizer files; for a hub id they are fetched."""
    if is_local(model):
        return Path(model)
    with explained(model):
        return fetch_tokenizer(model, revision)


def load_config(model: str, *, revision: str | None = None) -> Any:
    """Load the configuration of a folder or hub id, without running code of the model."""
    with explained(model):
        return AutoConfig.from_pretrained(
            model, revision=revision, trust_remote_code=False, local_files_only=is_local(model)
        )


# What a configuration says of where it lies and who wrote it.
_NO_SETTINGS = ("_name_or_path", "name_or_path", "transformers_version")


def load_base(
    model: str,
    *,
    quant: Quant = "nf4",
    double_quant: bool = True,
    compute_dtype: str = "auto",
    dtype: str = "auto",
    attn_implementation: str = "sdpa",
    revision: str | None = None,
    store: StoredWeights | None = None,
) -> PreTrainedModel:
    """Load a base model, frozen and in eval mode, onto the accelerator or the CPU.

    `dtype` and `compute_dtype` are RunConfig names; compute_dtype `auto` follows dtype. Only safetensors are read and
    no code of the model runs. `store` keeps 4-bit weights on disk, from which the next load has the same bits sooner.

    Raises ModelError, or NetworkError when a hub id cannot be fetched.
    """
    refuse_pickles(model)
    config = load_config(model, revision=revision)
    fit_threads(config)
    base_dtype = resolve_dtype(dtype)
    quantization, stored = None, stored_method(config)
    if not _already_quantized(config, quant):
        quantization = _quantization(
            quant, double_quant, base_dtype if compute_dtype == "auto" else resolve_dtype(compute_dtype)
        )
    if stored == mxfp4.METHOD and quantization is not None:
        del config.quantization_config  # read on the way; transformers would take it for the wish
    identity = None
    if store is not None and quantization is not None and quantization.load_in_4bit and not stored:
        identity = _identity(model, config, revision, quantization, base_dtype)
        kept = store.find(identity) if identity is not None else None
        if kept is not None:
            wishes = {"quant": quant, "double_quant": double_quant, "dtype": dtype, "compute_dtype": compute_dtype}
            try:
                loaded = load_base(str(kept), attn_implementation=attn_implementation, **wishes)  # type: ignore[arg-type]
            except ModelError as error:  # what is kept is no use; the base itself is
                print(f"The kept 4-bit weights cannot be read and are made anew: {error}", flush=True)
            else:
                loaded.config.name_or_path = loaded.name_or_path = model
                return loaded
    loaded = _from_files(model, config, stored, quantization, base_dtype, attn_implementation, revision)
    keep_layout(loaded)
    if store is not None and identity is not None and _is_kept_whole(loaded):
        store.keep(identity, loaded)
    name_backbone(loaded)
    loaded.requires_grad_(False)
    return loaded.eval()


def _from_files(
    model: str,
    config: Any,
    stored: str,
    quantization: BitsAndBytesConfig | None,
    dtype: torch.dtype,
    attn_implementation: str,
    revision: str | None,
) -> PreTrainedModel:
    """Read the weights of a base, of one with a vision tower the language model alone. Raises ModelError."""
    kind, built_from = language_class(config)
    with explained(model), experts_one_by_one(stored):
        loaded, read = kind.from_pretrained(
            model,
            config=built_from,
            revision=revision,
            dtype=dtype,
            quantization_config=quantization,
            # Left open, transformers takes sdpa where the architecture has it and eager where not (BLOOM).
            attn_implementation=None if attn_implementation == "sdpa" else attn_implementation,
            device_map={"": device()},
            use_safetensors=True,
            trust_remote_code=False,
            local_files_only=is_local(model),
            output_loading_info=True,
        )
    if place_of(loaded) and read["missing_keys"]:
        lacking = ", ".join(sorted(read["missing_keys"])[:3])
        raise ModelError(f"The model {model} cannot be loaded", f"its files have no {lacking}", "fetch it again")
    return loaded


def _identity(
    model: str, config: Any, revision: str | None, quantization: BitsAndBytesConfig, dtype: torch.dtype
) -> Identity | None:
    """Return what the bits of a base in 4 bits depend on, None where the base's own identity is not known.

    Its configuration is among that: equal weights with another RoPE or window are another model.
    """
    base = fingerprint(model, revision=revision)
    if not base:
        return None
    settings = {name: value for name, value in config.to_dict().items() if name not in _NO_SETTINGS}
    return Identity(
        base,
        hashlib.sha256(json.dumps(settings, sort_keys=True, default=str).encode()).hexdigest(),
        quantization.bnb_4bit_quant_type,
        quantization.bnb_4bit_use_double_quant,
        str(quantization.bnb_4bit_compute_dtype),
        str(dtype),
        device().type,
    )


def _is_kept_whole(model: PreTrainedModel) -> bool:
    """Tell whether a folder of `save_pretrained` holds all of a model: a tower is left out, experts are packed anew."""
    return not place_of(model) and not any(stacked_names(module) for module in model.modules())


def fit_threads(config: Any) -> None:
    """Use one thread for a narrow model on a CPU: its matrices are too small to share out.

    Measured on two cores with other work on them (hidden size 192 to 256): one thread is about five times faster.
    """
    if device().type == "cpu" and getattr(config.get_text_config(), "hidden_size", _NARROW) < _NARROW:
        torch.set_num_threads(1)


def keep_layout(model: torch.nn.Module) -> None:
    """Forbid bitsandbytes to repack 4-bit weights in place on CPUs with AVX512-BF16.

    An eval-mode forward would repack them for a kernel that passes no gradient to its input: training after an
    evaluation would be silently wrong, and a merge would corrupt the model (measured with bitsandbytes 0.50.2).
    """
    for module in model.modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False


def refuse_pickles(model: str) -> None:
    """Raise ModelError when a local model folder has no safetensors weights."""
    if not is_local(model):
        return  # from_pretrained(use_safetensors=True) refuses on the hub's file list
    folder = Path(model)
    if any(folder.glob("*.safetensors")):
        return
    pickles = [path.name for pattern in ("*.bin", "*.pt", "*.pth", "*.ckpt") for path in folder.glob(pattern)]
    if pickles:
        why = f"its weights are pickles ({', '.join(sorted(pickles)[:3])}), and a pickle can run code"
        remedy = "convert the weights to safetensors first"
    else:
        why, remedy = "the folder has no *.safetensors file", "name the folder that the weights lie in"
    raise ModelError(f"{folder} cannot be loaded", why, remedy)


def _quantization(quant: Quant, double_quant: bool, compute_dtype: torch.dtype) -> BitsAndBytesConfig | None:
    """Return the bitsandbytes settings with nothing left to its defaults (which are fp4 and float32)."""
    if quant == "none":
        return None
    if quant == "int8":
        # It tells of each layer's cast to fp16 at each token, which would fill the log.
        logging.getLogger("bitsandbytes.autograd._functions").setLevel(logging.ERROR)
        return BitsAndBytesConfig(load_in_8bit=True)
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type=quant,
        bnb_4bit_use_double_quant=double_quant,
        bnb_4bit_compute_dtype=compute_dtype,
    )


def _already_quantized(config: Any, quant: Quant) -> bool:
    """Tell whether the weights on disk are the asked bitsandbytes format already.

    MXFP4 is read into any other but int8. Raises ModelError for what cannot be loaded so.
    """
    stored = _stored_quantization(config)
    if not stored:
        return False
    in_4bit, in_8bit = bool(stored.get("load_in_4bit")), bool(stored.get("load_in_8bit"))
    if (in_4bit and stored.get("bnb_4bit_quant_type", "fp4") == quant) or (in_8bit and quant == "int8"):
        return True
    method = stored_method(config)
    if method == mxfp4.METHOD:
        if quant == "int8":
            raise ModelError("The model is stored as MXFP4", "it cannot be loaded as int8", "choose nf4 or none")
        return False
    raise ModelError(
        f"The model is stored quantised by {method}",
        f"it cannot be loaded as {quant}",
        "use the original 16-bit model",
    )


def _stored_quantization(config: Any) -> dict[str, Any]:
    stored = getattr(config, "quantization_config", None)
    if not stored:
        return {}
    return dict(stored) if isinstance(stored, dict) else dict(stored.to_dict())


def stored_method(config: Any) -> str:
    """Return the name of the method that the weights on disk are quantised by, empty for none."""
    stored = _stored_quantization(config)
    in_bits = stored.get("load_in_4bit") or stored.get("load_in_8bit")
    return str(stored.get("quant_method") or ("bitsandbytes" if in_bits else "an unknown method")) if stored else ""


@contextmanager
def explained(model: str) -> Iterator[None]:
    """Take the hub's files from where they can be had, and turn what transformers and the hub raise into one line."""
    follow_the_network(model)
    try:
        yield
    except torch.OutOfMemoryError:  # a RuntimeError too; the job reports it as memory
        raise
    except FETCH_ERRORS as error:
        raise _not_fetched(model, error) from None
    except (SafetensorError, json.JSONDecodeError) as error:
        raise ModelError(f"The model {model} is damaged", one_line(error), "fetch the file again") from None
    except OSError as error:
        if is_local(model):
            raise ModelError(f"The model {model} cannot be loaded", one_line(error), "check the folder") from None
        raise _not_fetched(model, error) from None
    except (ValueError, KeyError, ImportError) as error:
        why = one_line(error)
        if "trust_remote_code" in str(error):
            why = "it brings code of its own, which is never run here"
        raise ModelError(f"The model {model} cannot be loaded", why, "choose a model that transformers knows") from None


def _not_fetched(model: str, error: BaseException) -> NetworkError:
    return NetworkError(
        f"The model {model} cannot be fetched", why_not_fetched(error), "check the name and the network"
    )
