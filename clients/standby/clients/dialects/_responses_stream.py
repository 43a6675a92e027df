"""A stream as OpenAI's Responses API has it: typed events, each with its number, that build the answer item by item.

A thought and a message are over when something else begins. Calls of tools stay open until the model is done: the
arguments of several may come in turns. The last event has the whole answer once more.

https://developers.openai.com/api/reference/resources/responses/streaming-events
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import orjson

from standby.clients._protocols import Usage

from . import _responses_items as items
from ._responses_items import Item, Status
from ._values import (
    Begun,
    Conversation,
    Counted,
    Delta,
    Finish,
    Finished,
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
)

__all__ = ["ResponsesWriter"]


@dataclass(slots=True)
class _Open:
    """An item that is still being said.

    Attributes:
        index: Its place in the output.
        item: What is known of it.
        words: What its deltas said; of a message, those of its last part.
    """

    index: int
    item: Item
    words: list[str] = field(default_factory=list[str])

    @property
    def place(self) -> Item:
        """Where it is, for its events."""
        return {"item_id": self.item["id"], "output_index": self.index}

    def said(self) -> str:
        """All the words; the next ones are others."""
        words = "".join(self.words)
        self.words.clear()
        return words


class ResponsesWriter:
    """Writes one stream.

    Args:
        conversation: What was asked; the answer repeats it.
    """

    def __init__(self, conversation: Conversation) -> None:
        self._asked = conversation
        self._begun = Begun("", "")
        self._finish: Finish | None = None
        self._usage: Usage | None = None
        self._output: list[Item] = []
        self._open: _Open | None = None
        self._calls: dict[int, _Open] = {}
        self._sequence = 0
        self._written: list[bytes] = []

    def write(self, delta: Delta) -> bytes:
        """Whole events; empty for what is said at the end."""
        # There is one choice: no more can be asked for.
        if not getattr(delta, "choice", 0):
            self._take(delta)
        return self._events()

    def end(self) -> bytes:
        """What is still open, and the whole answer."""
        finish = self._finish or "stop"
        self._close_all(finish)
        self._tell(f"response.{items.status_of(finish)}", response=self._response(finish))
        return self._events()

    def _take(self, delta: Delta) -> None:
        match delta:
            case Begun():
                self._begun = delta
                self._tell("response.created", response=self._response(None))
                self._tell("response.in_progress", response=self._response(None))
            case TextDelta() if delta.text:
                self._say("output_text", delta.text)
            case RefusalDelta() if delta.text:
                self._say("refusal", delta.text)
            case LogprobsDelta():
                self._say("output_text", "", delta.logprobs)
            case ThinkingDelta() if delta.text:
                self._think(delta.text)
            case SignatureDelta():
                self._sign(delta)
            case ToolCallBegun():
                self._call(delta)
            case ToolCallDelta() if delta.arguments:
                call = self._calls[delta.index]
                call.words.append(delta.arguments)
                self._tell("response.function_call_arguments.delta", **call.place, delta=delta.arguments)
            case Finished():
                self._finish = items.settled(delta.finish, self._output)
                self._close_all(self._finish)
            case Counted():
                self._usage = delta.usage
            case _:
                pass  # no words

    # -- items -------------------------------------------------------------------------------------------------

    def _say(self, kind: Literal["output_text", "refusal"], words: str, logprobs: Sequence[Logprob] = ()) -> None:
        """More of a message. How likely its tokens are comes after them, with no words."""
        message = self._open
        if message is None or message.item["type"] != "message":
            self._close()
            message = self._open = self._added(items.message(self._id("msg"), [], "in_progress"))
        content = message.item["content"]
        if not content or content[-1]["type"] != kind:
            self._close_part(message)
            content.append(items.part_of(Refusal("") if kind == "refusal" else Text("")))
            place = {**message.place, "content_index": len(content) - 1}
            self._tell("response.content_part.added", **place, part=content[-1])
        message.words.append(words)
        place = {**message.place, "content_index": len(content) - 1}
        if kind == "refusal":
            self._tell("response.refusal.delta", **place, delta=words)
        else:
            likely = items.part_of(Text(""), logprobs)["logprobs"]
            content[-1]["logprobs"] += likely
            self._tell("response.output_text.delta", **place, delta=words, logprobs=likely)

    def _think(self, words: str) -> None:
        thought = self._thought()
        if not thought.words:
            part = {"type": "summary_text", "text": ""}
            self._tell("response.reasoning_summary_part.added", **thought.place, summary_index=0, part=part)
        thought.words.append(words)
        self._tell("response.reasoning_summary_text.delta", **thought.place, summary_index=0, delta=words)

    def _sign(self, delta: SignatureDelta) -> None:
        """The thought is over; where none began it is a hidden one."""
        thought = self._thought()
        thought.item["encrypted_content"] = items.sealed(Thinking("", delta.signature, delta.redacted))
        self._close()

    def _thought(self) -> _Open:
        thought = self._open
        if thought is None or thought.item["type"] != "reasoning":
            self._close()
            thought = self._open = self._added(items.reasoning(self._id("rs"), Thinking("")))
        return thought

    def _call(self, delta: ToolCallBegun) -> None:
        self._close()
        call = ToolCall(delta.id, delta.name, "", delta.signature)
        self._calls[delta.index] = self._added(items.function_call(self._id("fc"), call, "in_progress"))

    # -- their ends --------------------------------------------------------------------------------------------

    def _close_all(self, finish: Finish) -> None:
        """All that is open is over; the last item of an answer that was cut is cut."""
        last, status = len(self._output) - 1, items.status_of(finish)
        self._close(status)
        for call in self._calls.values():
            call.item["arguments"] = arguments = call.said()
            name = call.item["name"]
            self._tell("response.function_call_arguments.done", **call.place, name=name, arguments=arguments)
            self._done(call, status if call.index == last else "completed")
        self._calls.clear()

    def _close(self, status: Status = "completed") -> None:
        """The message or thought that is open is over."""
        item, self._open = self._open, None
        if item is None:
            return
        if item.item["type"] == "message":
            self._close_part(item)
            self._done(item, status)
            return
        if words := item.said():
            part = {"type": "summary_text", "text": words}
            item.item["summary"] = [part]
            place = {**item.place, "summary_index": 0}
            self._tell("response.reasoning_summary_text.done", **place, text=words)
            self._tell("response.reasoning_summary_part.done", **place, part=part)
        self._done(item)

    def _close_part(self, message: _Open) -> None:
        content = message.item["content"]
        if not content:
            return
        part, place = content[-1], {**message.place, "content_index": len(content) - 1}
        if part["type"] == "refusal":
            part["refusal"] = message.said()
            self._tell("response.refusal.done", **place, refusal=part["refusal"])
        else:
            part["text"] = message.said()
            self._tell("response.output_text.done", **place, text=part["text"], logprobs=part["logprobs"])
        self._tell("response.content_part.done", **place, part=part)

    def _added(self, item: Item) -> _Open:
        added = _Open(len(self._output), item)
        self._output.append(item)
        self._tell("response.output_item.added", output_index=added.index, item=item)
        return added

    def _done(self, item: _Open, status: Status | None = None) -> None:
        if status is not None:
            item.item["status"] = status
        self._tell("response.output_item.done", output_index=item.index, item=item.item)

    # -- events ------------------------------------------------------------------------------------------------

    def _tell(self, kind: str, **what: object) -> None:
        data = orjson.dumps({"type": kind, "sequence_number": self._sequence, **what})
        self._sequence += 1
        self._written.append(b"event: %b\ndata: %b\n\n" % (kind.encode(), data))

    def _events(self) -> bytes:
        written = b"".join(self._written)
        self._written.clear()
        return written

    def _id(self, kind: Literal["msg", "rs", "fc"]) -> str:
        return items.item_id(kind, self._begun.id, len(self._output))

    def _response(self, finish: Finish | None) -> Item:
        return items.response(
            self._asked,
            vendors_id=self._begun.id,
            model=self._begun.model,
            created=self._begun.created,
            output=self._output if finish else (),
            finish=finish,
            usage=self._usage,
        )
