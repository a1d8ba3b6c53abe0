"""What requests may say, and one clear line about what they may not."""

from __future__ import annotations

import json
from typing import Annotated, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request

from streamv2v_obs.errors import named
from streamv2v_obs.settings import BankPolicy, BlendTime, Text

BODY_LIMIT = 16 * 1024


class Body(BaseModel):
    """A request's JSON object; no other keys, no guessing of types."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class PromptBody(Body):
    """What the picture becomes, from the next frame on; what is left out stays as it is."""

    prompt: Annotated[str, Field(max_length=1000)] | None = None
    strength: Annotated[float, Field(gt=0, le=1)] | None = None
    seed: Annotated[int, Field(ge=0, lt=2**63)] | None = None
    style: Annotated[str, Field(max_length=200)] | None = None
    bank: BankPolicy = "keep"
    blend_s: BlendTime = 0


class BankBody(Body):
    """What happens to the feature bank; ``scene`` says whose bank is restored (none: that of the scene on air)."""

    policy: BankPolicy
    scene: Text | None = None


class SwitchBody(Body):
    """On or off."""

    on: bool


class EmptyBody(Body):
    """Nothing to say, which has to be said: ``{}``."""


B = TypeVar("B", bound=Body)


async def read_body(request: Request, model: type[B], limit: int = BODY_LIMIT) -> B:
    """The request's JSON object as ``model``; HTTPException 413, 415 or 422 with one clear line."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        raise HTTPException(415, f"content-type = {kind[:50]!r}; allowed: application/json")
    data = b""
    async for chunk in request.stream():
        data += chunk
        if len(data) > limit:
            raise HTTPException(413, f"the body is too long; allowed: {limit} bytes", {"connection": "close"})
    try:
        # Not model_validate_json: its message about broken JSON would differ in form from all others.
        return model.model_validate(json.loads(data))
    except (ValueError, RecursionError) as error:
        raise HTTPException(422, _explain(error, model)) from None


def _explain(error: Exception, model: type[Body]) -> str:
    if not isinstance(error, ValidationError):
        return f"the body is not JSON: {error}"
    said = []
    for detail in error.errors(include_url=False):
        key = named(".".join(map(str, detail["loc"])))
        if detail["type"] == "extra_forbidden":
            said.append(f"unknown key {key}; allowed: {', '.join(model.model_fields)}")
        elif detail["type"] == "missing":
            said.append(f"{key} is missing")
        elif not key:
            said.append(f"the body is no object; allowed keys: {', '.join(model.model_fields)}")
        else:
            said.append(f"{key} = {repr(detail['input'])[:100]}: {detail['msg']}")
    return "; ".join(said)
