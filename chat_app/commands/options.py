"""Options that several commands share; None means not given, then the settings decide."""

from pathlib import Path
from typing import Annotated

import typer

from chat_app.settings import Quantization

Data = Annotated[Path | None, typer.Option("--data", help="Data directory (default: data).")]
Config = Annotated[
    Path | None, typer.Option("--config", help="TOML file (default: config.toml in the data).")
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]
Host = Annotated[str | None, typer.Option(help="Address to listen on (default: 127.0.0.1).")]
Port = Annotated[
    int | None, typer.Option(min=0, max=65535, help="Port (default: 7860; 0: any free port).")
]
Model = Annotated[
    str | None,
    typer.Option(help="`starter`, `smollm2`, a GGUF file, a directory (model, adapter) or hub id."),
]
Quantized = Annotated[
    Quantization | None, typer.Option("--quantization", help="Weights of the base in memory.")
]
