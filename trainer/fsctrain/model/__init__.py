"""open_clip's models: creation from a name or a config, and encoders for packed texts."""

from fsctrain.model.create import Clip, OpenClip, create_model, get_tokenizer, uses_clip_bpe
from fsctrain.model.encode import (
    check_towers,
    compile_towers,
    embed_images,
    embed_texts,
    encode_images,
    encode_packed,
    encode_texts,
    end_positions,
)
from fsctrain.model.packing import pack_texts

__all__ = [
    "Clip",
    "OpenClip",
    "check_towers",
    "compile_towers",
    "create_model",
    "embed_images",
    "embed_texts",
    "encode_images",
    "encode_packed",
    "encode_texts",
    "end_positions",
    "get_tokenizer",
    "pack_texts",
    "uses_clip_bpe",
]
