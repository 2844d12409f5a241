"""The quantized base, its adapters on disk, and the one place a chat template is applied."""
