"""A caller of OpenAI's Responses API: how it asks, and what it makes of what it is told. Written from the reference:

https://developers.openai.com/api/reference/resources/responses/methods/create
https://developers.openai.com/api/reference/resources/responses/streaming-events
"""

import orjson
from openai.types.responses import ResponseStreamEvent
from pydantic import TypeAdapter

from standby.clients import Usage
from standby.clients._sse import EventDecoder, events_in
from standby.clients.dialects import (
    Answer,
    Begun,
    Choice,
    Counted,
    File,
    Finished,
    Image,
    Logprob,
    LogprobsDelta,
    Refusal,
    RefusalDelta,
    SignatureDelta,
    Text,
    TextDelta,
    Thinking,
    ThinkingDelta,
    ToolCall,
    ToolCallBegun,
    ToolCallDelta,
    ToolResult,
)

EVENT = TypeAdapter(ResponseStreamEvent)

MAY_ASK = {
    *(
        "system",
        "developer",
        "multi_turn",
        "image_data",
        "image_url",
        "image_detail",
        "file_data",
        "file_url",
        "file_id",
    ),
    *("thinking", "tools", "parallel_calls", "tool_results", "tool_media", "tool_strict", "tool_choice"),
    *("parallel_tool_calls", "json_object", "json_schema", "temperature", "top_p", "max_tokens", "logprobs"),
    *("reasoning", "verbosity", "user", "metadata", "service_tier"),
}
"""The features that a request can ask for."""

MAY_BE_TOLD = {
    *("answer_text", "answer_tool_calls", "answer_thinking", "answer_signature", "answer_refusal", "answer_logprobs"),
    *("answer_finish", "answer_usage", "answer_cached_tokens", "answer_cache_write_tokens"),
    *("answer_reasoning_tokens", "answer_id"),
}

# -- asking ------------------------------------------------------------------------------------------------------


def asked(conversation, model="m"):
    """The body of a request."""
    body = {"model": model, "input": [item for message in conversation.messages for item in _items(message)]}
    if conversation.tools:
        body["tools"] = [
            {
                "type": "function",
                "name": tool.name,
                "description": tool.description,
                "parameters": tool.parameters,
                "strict": tool.strict,
            }
            for tool in conversation.tools
        ]
    choice = conversation.tool_choice
    if choice is not None:
        body["tool_choice"] = {"type": "function", "name": choice.name} if choice.kind == "tool" else choice.kind
    if conversation.response_format or conversation.verbosity:
        body["text"] = {"format": _format(conversation.response_format)}
        if conversation.verbosity:
            body["text"]["verbosity"] = conversation.verbosity
    if conversation.logprobs is not None:
        body |= {"include": ["message.output_text.logprobs"], "top_logprobs": conversation.logprobs}
    if conversation.reasoning is not None:
        body["reasoning"] = {"effort": conversation.reasoning.effort}
    simple = {
        "parallel_tool_calls": conversation.parallel_tool_calls,
        "temperature": conversation.temperature,
        "top_p": conversation.top_p,
        "max_output_tokens": conversation.max_tokens,
        "safety_identifier": conversation.user,
        "metadata": conversation.metadata,
        "service_tier": conversation.service_tier,
    }
    return body | {key: value for key, value in simple.items() if value is not None}


def _items(message):
    said = []
    for part in message.parts:
        match part:
            case ToolCall():
                yield {
                    "type": "function_call",
                    "call_id": part.id,
                    "name": part.name,
                    "arguments": part.arguments,
                    **({"extra_content": {"google": {"thought_signature": part.signature}}} if part.signature else {}),
                }
            case ToolResult():
                output = [_content(each, message.role) for each in part.parts]
                yield {"type": "function_call_output", "call_id": part.id, "output": output}
            case Thinking():
                kind = "redacted_thinking." if part.redacted else "thinking."
                yield {
                    "type": "reasoning",
                    "id": "rs_1",
                    "summary": [{"type": "summary_text", "text": part.text}] if part.text else [],
                    "encrypted_content": kind + part.signature if part.signature else None,
                }
            case _ if message.role == "assistant":
                content = [_content(part, message.role)]
                yield {"type": "message", "id": "msg_1", "status": "completed", "role": "assistant", "content": content}
            case _:
                said.append(_content(part, message.role))
    if said:
        yield {"type": "message", "role": message.role, "content": said}


def _content(part, role):
    match part:
        case Text() if role == "assistant":
            return {"type": "output_text", "text": part.text, "annotations": []}
        case Text():
            return {"type": "input_text", "text": part.text}
        case Refusal():
            return {"type": "refusal", "refusal": part.text}
        case Image():
            url = part.url or f"data:{part.media_type};base64,{part.data}"
            return {"type": "input_image", "image_url": url, "detail": part.detail or "auto"}
        case File():
            body = {"type": "input_file"} | ({"filename": part.name} if part.name else {})
            if part.url:
                return body | {"file_url": part.url}
            if part.file_id:
                return body | {"file_id": part.file_id}
            return body | {"file_data": f"data:{part.media_type};base64,{part.data}"}


def _format(wanted):
    if wanted is None:
        return {"type": "text"}
    if wanted.kind == "json_object":
        return {"type": "json_object"}
    description = {"description": wanted.description} if wanted.description else {}
    return {
        "type": "json_schema",
        "name": wanted.name,
        "schema": wanted.schema,
        "strict": wanted.strict,
        **description,
    }


# -- being told --------------------------------------------------------------------------------------------------


def told(body):
    """The answer that a response is."""
    parts, logprobs = [], []
    for item in body["output"]:
        match item["type"]:
            case "message":
                parts += [_said(part) for part in item["content"]]
                logprobs += [_logprob(each) for part in item["content"] for each in part.get("logprobs", ())]
            case "reasoning":
                text = "".join(each["text"] for each in item["summary"])
                redacted, signature = _signature(item)
                parts.append(Thinking(text, signature, redacted))
            case "function_call":
                parts.append(ToolCall(item["call_id"], item["name"], item["arguments"], _thought_signature(item)))
    choice = Choice(tuple(parts), _finish(body, parts), logprobs=tuple(logprobs))
    return Answer(body["id"], body["model"], (choice,), _usage(body["usage"]), body["created_at"])


def _said(part):
    return Refusal(part["refusal"]) if part["type"] == "refusal" else Text(part["text"])


def _signature(item):
    kind, _, signature = (item["encrypted_content"] or "").partition(".")
    return kind == "redacted_thinking", signature


def _thought_signature(item):
    return item.get("extra_content", {}).get("google", {}).get("thought_signature", "")


def _logprob(each):
    top = tuple((other["token"], other["logprob"]) for other in each["top_logprobs"])
    return Logprob(each["token"], each["logprob"], top)


def _finish(body, parts):
    if body["status"] == "incomplete":
        reason = body["incomplete_details"].get("reason")
        return {"max_output_tokens": "length", "content_filter": "content_filter", None: "pause"}[reason]
    assert body["status"] == "completed"
    kinds = {type(part) for part in parts}
    return "refusal" if Refusal in kinds else "tool_calls" if ToolCall in kinds else "stop"


def _usage(usage):
    return usage and Usage(
        usage["input_tokens"],
        usage["output_tokens"],
        usage["input_tokens_details"]["cached_tokens"],
        usage["input_tokens_details"]["cache_write_tokens"],
        usage["output_tokens_details"]["reasoning_tokens"],
    )


def events_of(raw):
    """The events of a whole stream, each as OpenAI's own types have it, numbered without a gap."""
    decoder = EventDecoder()
    found = []
    for event in events_in(decoder.feed(raw)):
        data = orjson.loads(event.data)
        EVENT.validate_python(data)
        assert (event.type, data["sequence_number"]) == (data["type"], len(found))
        found.append(data)
    assert decoder.rest() == b""
    return found


class Heard:
    """Reads the events of a stream by what each of them says of its own, and sees that they agree with one another."""

    def __init__(self, events):
        self.deltas = []
        self.response = None
        self._open = {}  # by output index: what was said of the part that is open
        self._items = {}  # by output index: what is known to be done
        self._calls = 0
        for event in events:
            assert self.response is None, "the response is over"
            self._take(event)
        assert self.response["output"] == [self._items[index] for index in range(len(self._items))]
        parts = [_said(part) for item in self.response["output"] for part in item.get("content", ())]
        parts += [ToolCall("", "", "{}")] * self._calls
        self.deltas.append(Finished(_finish(self.response, parts)))
        if self.response["usage"]:
            self.deltas.append(Counted(_usage(self.response["usage"])))

    def _take(self, event):
        index = event.get("output_index")
        match event["type"].removeprefix("response."):
            case "created":
                body = event["response"]
                assert (body["status"], body["output"]) == ("in_progress", [])
                self.deltas.append(Begun(body["id"], body["model"], body["created_at"]))
            case "in_progress" | "output_item.added" if "response" in event or "item" in event:
                if "item" in event:
                    self._added(index, event["item"])
            case "content_part.added" | "reasoning_summary_part.added":
                assert "words" not in self._open[index]
                self._open[index]["words"] = ""
            case "output_text.delta":
                self._grow(event, TextDelta)
                if event["logprobs"]:
                    self.deltas.append(LogprobsDelta(tuple(map(_logprob, event["logprobs"]))))
            case "refusal.delta":
                self._grow(event, RefusalDelta)
            case "reasoning_summary_text.delta":
                self._grow(event, ThinkingDelta)
            case "function_call_arguments.delta":
                self._grow(event, lambda more: ToolCallDelta(self._open[index]["call"], more))
            case "output_text.done" | "reasoning_summary_text.done":
                assert self._open[index]["words"] == event["text"]
            case "refusal.done":
                assert self._open[index]["words"] == event["refusal"]
            case "function_call_arguments.done":
                assert self._open[index].pop("words") == event["arguments"]
            case "content_part.done" | "reasoning_summary_part.done":
                part = event["part"]
                assert self._open[index].pop("words") == part.get("text", part.get("refusal"))
            case "output_item.done":
                self._done(index, event["item"])
            case "completed" | "incomplete" as status:
                assert not self._open
                assert event["response"]["status"] == status
                self.response = event["response"]
            case _:
                raise AssertionError(event)

    def _added(self, index, item):
        assert index == len(self._items) + len(self._open)
        assert all("call" in each for each in self._open.values()), "a message or a thought is over before others begin"
        self._open[index] = {"id": item["id"]}
        if item["type"] == "function_call":
            self._open[index] |= {"call": self._calls, "words": ""}
            signature = _thought_signature(item)
            self.deltas.append(ToolCallBegun(self._calls, item["call_id"], item["name"], signature))
            self._calls += 1

    def _grow(self, event, delta):
        item = self._open[event["output_index"]]
        assert item["id"] == event["item_id"]
        item["words"] += event["delta"]
        if event["delta"]:
            self.deltas.append(delta(event["delta"]))

    def _done(self, index, item):
        assert self._open.pop(index).keys() <= {"id", "call"}
        self._items[index] = item
        if item["type"] == "reasoning" and item["encrypted_content"]:
            redacted, signature = _signature(item)
            self.deltas.append(SignatureDelta(signature, redacted))
