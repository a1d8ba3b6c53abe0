"""What all sections are made of: frozen, and knowing no other keys; and the types that several share."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, SecretStr, Strict


class Section(BaseModel):
    """A frozen group of settings that knows no other keys than its own."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)


def _resolve_secret(value: Any) -> Any:
    """``{env: NAME}`` and ``{file: PATH}`` stand for what the variable or the file holds."""
    if not isinstance(value, dict):
        return value
    if set(value) == {"env"}:
        name = str(value["env"])
        if name not in os.environ:
            raise ValueError(f"environment variable {name} is not set")
        return os.environ[name]
    if set(value) == {"file"}:
        path = Path(str(value["file"])).expanduser()
        try:
            return path.read_text(encoding="utf-8").strip()
        except OSError as error:
            raise ValueError(f"cannot read the secret's file {path}: {error.strerror}") from error
    raise ValueError("a secret is a text, {env: NAME} or {file: PATH}")


Whole: TypeAlias = Annotated[int, Strict()]
"""Strict, since pydantic else takes true for 1, and true is what YAML makes of an unquoted on or yes."""
Number: TypeAlias = Annotated[float, Strict()]
Secret: TypeAlias = Annotated[SecretStr, BeforeValidator(_resolve_secret)]
Size: TypeAlias = Annotated[Whole, Field(ge=64, le=4096, multiple_of=2)]
Fps: TypeAlias = Annotated[Number, Field(ge=1, le=240)]
Unit: TypeAlias = Annotated[Number, Field(ge=0, le=1)]
Text: TypeAlias = Annotated[str, Field(min_length=1, max_length=1000)]
BankPolicy: TypeAlias = Literal["keep", "reset", "restore", "fade"]
Switch: TypeAlias = bool | Literal["auto"]
BlendTime: TypeAlias = Annotated[Number, Field(ge=0, le=60)]
