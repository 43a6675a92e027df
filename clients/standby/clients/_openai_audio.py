"""Speech, and what is said in a recording, as OpenAI's API has them: a form may go out, and sound or text come back.

Sources: platform.openai.com/docs/api-reference/audio with `createSpeech`, `createTranscription` and
`createTranslation`, and the events `speech.audio.*` and `transcript.text.*` that are told of there.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Any, Final, Literal, NamedTuple

from ._answers import Scrub, error_inside, failed_answer, unusable
from ._body import Body, InvalidBody
from ._breaks import StreamedAnswer, broken
from ._errors import ClientError
from ._form import FORM, Form
from ._http_answer import HttpAnswer, request_id_of
from ._openai_wire import answered, refused, usage_of
from ._passed_stream import PassedStream
from ._protocols import EVENT_STREAM, Block, ProviderStream, Request, Response, Usage
from ._sse import Event

__all__ = ["AudioCall", "audio_call"]

_SPEECH: Final = "audio/speech"
_JSON_FORMATS: Final = frozenset({"json", "verbose_json", "diarized_json"})
_ERROR: Final = b'"error"'
_TELLING: Final = re.compile(rb'\.done"|"error"|^event', re.MULTILINE)

Kind = Literal["sound", "text", "json", "events"]
"""What is to come back."""


class AudioCall(NamedTuple):
    """One call.

    Attributes:
        endpoint: What is called.
        content: The body to send.
        kind: What is to come back.
        dropped: What was left out of the body.
    """

    endpoint: str
    content: bytes
    kind: Kind
    dropped: tuple[str, ...] = ()

    def answered(self, answer: HttpAnswer, *, now: float, scrub: Scrub) -> Response:
        """The whole answer, its bytes as they are.

        Raises:
            ClientError: For an answer that is a failure, or none at all.
        """
        status, headers = answer.status, answer.headers
        if not 200 <= status < 300:
            raise failed_answer(answer, now=now, scrub=scrub)
        told = headers.get("content-type", "").lower()
        if self.kind == "json" or "json" in told:
            response = answered(self.endpoint, answer, now=now, scrub=scrub)
            if self.kind == "sound":
                raise unusable("invalid_response", "the answer is JSON, and no sound", status, headers)
            return replace(response, dropped=self.dropped)
        self._check_type(told, status, headers)
        if not answer.content:
            raise unusable("empty_response", "the answer is complete and has nothing in it", status, headers)
        return Response(status, headers, answer.content, {}, None, request_id_of(headers), self.dropped)

    def begun(self, answer: StreamedAnswer, *, now: float, scrub: Scrub) -> ProviderStream:
        """The stream that an answer is.

        Raises:
            ClientError: It is of another kind than was asked for.
        """
        told = answer.headers.get("content-type", "").lower()
        self._check_type(told, answer.status, answer.headers)
        if self.kind == "events":
            return AudioEvents(answer, now=now, scrub=scrub, dropped=self.dropped)
        return SoundStream(answer, told or "application/octet-stream", self.dropped)

    def _check_type(self, told: str, status: int, headers: Mapping[str, str]) -> None:
        fits = {
            "sound": not told.startswith("text/"),
            "text": not told.startswith("text/html"),  # a page of somebody on the way
            "events": told.startswith(EVENT_STREAM),
        }
        if not fits[self.kind]:
            raise unusable("invalid_response", f"not the {self.kind} that was asked for: {told[:100]}", status, headers)


def audio_call(request: Request, *, stream: bool) -> AudioCall:
    """What goes out for a request to one of these endpoints.

    Raises:
        ClientError: ``bad_request`` for a body of the wrong type; ``unsupported_parameter`` for one that asks for a
            stream where the call cannot give one, and the other way round.
    """
    endpoint = request.endpoint.rstrip("/")
    try:
        body = Body.of(request.body)
        kind = _kind(endpoint, body)
        if kind == "events" and not stream:
            raise refused("unsupported_parameter", "a plain call cannot be answered with a stream", status=400)
        if stream and kind not in ("events", "sound"):
            raise refused("unsupported_parameter", "the form asks for no stream: it has no field `stream`", status=400)
        body, dropped = _without(body, request.drop)
        return AudioCall(endpoint, body.with_model(request.model), kind, dropped)
    except InvalidBody as error:
        raise refused("bad_request", f"the request's body: {error}") from error


def _kind(endpoint: str, body: Body) -> Kind:
    data = body.data
    if endpoint == _SPEECH:
        if isinstance(body, Form):
            raise InvalidBody("a form, and not the JSON object that speech is asked for with")
        return "events" if data.get("stream_format") == "sse" else "sound"
    if not isinstance(body, Form):
        raise InvalidBody(f"not a form ({FORM}), which a recording is sent in")
    if data.get("stream") is True:
        return "events"
    return "json" if data.get("response_format", "json") in _JSON_FORMATS else "text"


def _without(body: Body, drop: Collection[str]) -> tuple[Body, tuple[str, ...]]:
    dropped = tuple(name for name in drop if name in body.data and name != "model")
    if not dropped:
        return body, ()
    if isinstance(body, Form):
        return body.without(dropped), dropped
    return Body({name: value for name, value in body.data.items() if name not in dropped}), dropped


class AudioEvents(PassedStream):
    """A stream of events: sound in pieces, or what is understood of a recording bit by bit.

    Its last event says what it was all together. Silence is understood as no words, so that a transcript may be empty.
    """

    _heard_nothing = False

    def _note(self, data: Mapping[str, Any]) -> bool:
        kind = str(data.get("type"))
        if kind.endswith(".done"):
            self._done = True
            self._heard_nothing = isinstance(data.get("text"), str)
            self.usage = usage_of(data.get("usage")) or self.usage
        return bool(data.get("delta") or data.get("audio") or data.get("text"))

    def _places(self, raw: bytes) -> list[int]:
        return [match.end() for match in _TELLING.finditer(raw)]

    def _tells(self, event: Event) -> bool:  # noqa: ARG002 - it was looked for
        return True

    def _may_fail(self, event: Event) -> bool:
        return event.type == "error" or _ERROR in event.data

    def _error_in(self, event: Event, data: Mapping[str, Any]) -> ClientError | None:
        if not data.get("error") and (event.type == "error" or data.get("type") == "error"):
            data = {"error": data}
        return error_inside(self._answer.status, self._answer.headers, data, now=self._now, scrub=self._scrub)

    def _silence_is_explained(self) -> bool:
        return self._heard_nothing


class SoundStream:
    """Sound as it is spoken; see `ProviderStream`. Only its end tells that it is complete."""

    def __init__(self, answer: StreamedAnswer, content_type: str, dropped: tuple[str, ...]) -> None:
        self.usage: Usage | None = None
        self.content_type = content_type
        self.dropped = dropped
        self.finished = False
        self._answer = answer
        self._heard_something = False

    @property
    def request_id(self) -> str:
        """The vendor's own id of the call, or an empty string."""
        return request_id_of(self._answer.headers)

    def ending(self) -> None:
        """Nothing ends it but its end."""

    def commit(self) -> None:
        """Nothing need be known of what is passed on."""

    async def read(self) -> Block | None:
        """The next piece, as it comes; `None` at the end.

        Raises:
            ClientError: It broke, or there was nothing to hear.
        """
        try:
            part = await self._answer.read_some()
        except ClientError as error:
            raise broken(self._answer, error) from error
        if part:
            self._heard_something = True
            return Block(part, content=True)
        if not self._heard_something:
            told = "the stream is complete and has nothing in it"
            raise unusable("empty_response", told, self._answer.status, self._answer.headers)
        self.finished = True
        return None
