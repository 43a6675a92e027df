"""Where and as whom calls are sent."""

from __future__ import annotations

from typing import Annotated, Any, Self

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from ._models import Feature, Policy, PositiveSeconds, RateLimitPolicy, Section
from ._texts import HeaderName, HeaderValue, HttpAddress, Id, Key

ApiVersion = Annotated[str, Field(pattern=r"^(v1|preview|[0-9]{4}-[0-9]{2}-[0-9]{2}(-preview)?)$")]


class ProviderTimeouts(Policy):
    """The clocks of one connection."""

    connect_seconds: PositiveSeconds = 5.0
    """Until a new connection is open, TLS included."""


class ProviderKey(Section):
    """One of several keys of a provider."""

    id: Id
    """Its name in records and the admin API."""
    key: Key
    """Secret; best written as `${NAME}`."""
    weight: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 1.0
    """Its share of first tries."""


class Provider(Section):
    """Where and as whom calls are sent."""

    client: str
    """The client that speaks this provider's dialect: `openai` for every OpenAI-compatible server."""
    base_url: HttpAddress | None = None
    """An http or https address, up to the part that all endpoints share; the client's own where left out."""
    api_key: Key | None = None
    """Secret; best written as `${NAME}`. Left out for a server that needs none."""
    api_keys: Annotated[list[ProviderKey], Field(min_length=1)] = []
    """Instead of `api_key`: several keys, used in turn. Each is a failure domain of its own, so that one that is over
    its limit or revoked leaves the others in use."""
    headers: dict[HeaderName, HeaderValue] = {}
    """Extra headers of every call; their values are secret."""
    timeouts: ProviderTimeouts = ProviderTimeouts()
    rate_limit: RateLimitPolicy = RateLimitPolicy()
    """What all candidates that use this provider's key may use together; without limit where left out."""
    streams_may_end_without_finish: bool = False
    """For servers that send neither a finish reason nor `[DONE]`: a stream that just ends is then complete."""
    drop: list[Feature] = ["cache", "thinking", "tool_errors"]
    """What may be left out of a request that the provider cannot do, instead of refusing it: features of
    `docs/providers.md`, or keys of the request. Of a request in the provider's own dialect such a key is always left
    out. The record of a run says what was. By default: marks for a cache; earlier thoughts, which only the vendor that
    thought them can read; and the mark of a tool's failure, which its result tells in words."""
    api_version: ApiVersion | None = None
    """Of `azure_openai`: a dated version of its API, or `v1`; the last dated one that is no preview where left out.
    Reasoning models, and what came after 2024, need `v1`."""
    region: Id | None = None
    """Of `bedrock`: the region of AWS, such as `eu-central-1`."""
    access_key_id: Key | None = None
    """Of `bedrock`, as the next two; where they are left out, what AWS's own tools would use."""
    secret_access_key: Key | None = None
    """Secret; best written as `${NAME}`."""
    session_token: Key | None = None
    """Of temporary credentials."""
    project: Id | None = None
    """Of `gemini`: the project on Vertex AI; with `location`, calls go there."""
    location: Id | None = None
    """Of `gemini`: the location on Vertex AI, such as `europe-west4` or `global`."""
    options: dict[str, Any] = {}
    """For clients of other packages, which say what they are. No secrets."""

    @model_validator(mode="after")
    def _one_key_or_several(self) -> Self:
        if self.api_key is not None and self.api_keys:
            raise PydanticCustomError("two_keys", "needs either `api_key` or `api_keys`")
        ids = [key.id for key in self.api_keys]
        if len(set(ids)) < len(ids):
            raise PydanticCustomError("repeated_key", "two of `api_keys` have the same id")
        return self
