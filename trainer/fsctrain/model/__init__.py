"""open_clip's own models: made from a name or a config, and encoders that cut texts short."""

from fsctrain.model.create import Clip, OpenClip, create_model, get_tokenizer, uses_clip_bpe
from fsctrain.model.encode import (
    check_towers,
    embed_images,
    embed_texts,
    encode_images,
    encode_texts,
    end_positions,
)

__all__ = [
    "Clip",
    "OpenClip",
    "check_towers",
    "create_model",
    "embed_images",
    "embed_texts",
    "encode_images",
    "encode_texts",
    "end_positions",
    "get_tokenizer",
    "uses_clip_bpe",
]
