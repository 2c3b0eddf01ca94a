"""The network: backbones, pyramid, decoders, heads, and its folder on disk."""
