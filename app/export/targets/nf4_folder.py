"""The merged model in 4 bits as transformers itself keeps it: a folder in bitsandbytes' NF4, loaded as any other.

Written by transformers' own save_pretrained, then loaded again: it must answer to the last bit as it did before.
"""

from __future__ import annotations

import json
from collections.abc import Callable

from app.errors import ExportError
from app.export.adapters.folder import add_tokenizer, scrubbed
from app.export.merge import check
from app.export.merge.base_model import BaseModel
from app.export.staging import Staging, check_disk
from app.export.targets.report import ExportReceipt
from app.reading import read_object

# Below this share of equal tokens beside 16 bits the receipt is a warning.
_LEAST_AGREEMENT = 0.9


def write(
    model: BaseModel, staging: Staging, receipt: ExportReceipt, max_ram_bytes: int, pause: Callable[[], None]
) -> None:
    """Write the folder, prove it, and put what was found on the receipt.

    Raises ExportError where the model does not fit into the memory, or where what was loaded again answers otherwise.
    """
    config = model.config.get_text_config(decoder=True)
    dtype = check.fitting_dtype(model.parameters, config.vocab_size, max_ram_bytes)
    if dtype is None:
        raise ExportError("The model cannot be stored in 4 bits", "it does not fit into the memory", "raise --max-ram")
    check_disk(staging.folder, model.bytes // 2)
    with check.loaded(model.folder, None, "none", dtype) as network:
        texts = check.answers(network, model.folder)
        plain = check.logits_of(network, texts)
    pause()
    with check.loaded(model.folder, None, "nf4", dtype) as network:
        expected = check.logits_of(network, texts)
        network.save_pretrained(staging.folder)
    pause()
    stored = scrubbed(read_object(staging.folder / "config.json"))
    staging.add_text("config.json", json.dumps(stored, indent=2, ensure_ascii=False))
    add_tokenizer(staging, model.folder)
    with check.loaded(staging.folder, None, "nf4", dtype) as network:
        again = check.compare(expected, check.logits_of(network, texts))
    if again.max_logit_diff != 0:
        what = "The stored 4-bit model answers otherwise than before it was stored"
        raise ExportError(what, f"its logits differ by {again.max_logit_diff:.2e}", "use GGUF for a small file")
    gap = check.compare(plain, expected)
    receipt.facts["nf4"] = {"loaded_again_equal": True, "agreement": gap.greedy_agreement, "mean_kl": gap.mean_kl}
    receipt.lines.append(
        f"- Loaded again: equal logits; beside 16 bits the same token at {gap.greedy_agreement:.1%} of places, mean KL "
        f"{gap.mean_kl:.2e}"
    )
    if gap.greedy_agreement < _LEAST_AGREEMENT:
        receipt.reasons.append(f"in 4 bits it chooses another token at {1 - gap.greedy_agreement:.0%} of places")
