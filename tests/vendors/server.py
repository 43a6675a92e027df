"""A server that is a vendor, on a real socket: it understands what it is asked, and does what the caller's last words say."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace

from standby.clients import Usage
from standby.clients.dialects import Answer, Choice, Conversation, Refusal, Text, Thinking
from standby.demo.faults import Answer as Reply
from standby.demo.faults import Behaviour, Close, FaultServer, Stream
from tests.clients.examples import CALLS, SIGNATURE
from tests.vendors.kinds import FAILURES, Vendor

USAGE = Usage(input_tokens=20, output_tokens=10)


def _answer(*parts, finish="stop") -> Answer:
    return Answer("", "the-model", (Choice(parts, finish),), USAGE, 1_700_000_000)


ANSWERS: Mapping[str, Answer] = {
    "text": _answer(Text("Hello there.")),
    "tools": _answer(Text("Let me see."), *CALLS, finish="tool_calls"),
    "thoughts": _answer(Thinking("Hm.", SIGNATURE), Text("Hello there.")),
    "length": _answer(Text("Hello"), finish="length"),
}
"""What it answers to these words."""
REFUSALS = {"openai": True, "anthropic": True}
"""Which vendors let a model decline in its own words; others say that it was filtered."""
BREAKS = ("cut before content", "cut after content", "error before content", "error after content")
"""What it does to streams. A whole answer is cut, and its connection closed."""
IDS = {"openai": "chatcmpl-1", "anthropic": "msg_1", "gemini": "id1", "bedrock": ""}
"""What its ids look like; one says none."""
TOKENS = 7
"""How many tokens it counts in any request."""
SILENT_PIECES = {"openai": 1, "anthropic": 3, "gemini": 0, "bedrock": 1}
"""With how many events a stream begins that have no content."""


class VendorServer(FaultServer):
    """Answers as ``vendor`` does.

    Attributes:
        asked: What it was asked, in the order of asking.
    """

    def __init__(self, vendor: Vendor, *, well: bool = False) -> None:
        """Prepare the server.

        Args:
            vendor: Who it is.
            well: Whether it answers a text where its caller's words are of trouble.
        """
        super().__init__(self._behaviour_of)
        self.vendor = vendor
        self.asked: list[Conversation] = []
        self._well = well

    def _behaviour_of(self, number: int, method: str, path: str, headers: Mapping[str, str], body: bytes) -> Behaviour:
        if path.endswith(("/count_tokens", ":countTokens")):
            return Reply(body={"input_tokens": TOKENS, "totalTokens": TOKENS})
        conversation = self.vendor.conversation_of(body)
        self.asked.append(conversation)
        words = _last_words(conversation)
        if self._well and words in (*FAILURES, *BREAKS):
            words = "text"
        stream = self.vendor.asks_for_stream(path, body)
        if words in FAILURES:
            status, head, content = self.vendor.failed(words)
            return Reply(status, content, head)
        answer = self._answer_to(words)
        if not stream:
            whole = Reply(body=self.vendor.answer(answer))
            return Close(len(whole.wire) - 20, whole) if words in BREAKS else whole
        return self._streamed(words, answer)

    def _answer_to(self, words: str) -> Answer:
        if words == "refusal":
            if self.vendor.name in REFUSALS:
                return _answer(Refusal("I will not."), finish="refusal")
            return _answer(Text("I will"), finish="content_filter")
        return replace(ANSWERS.get(words, ANSWERS["text"]), id=IDS[self.vendor.name])

    def _streamed(self, words: str, answer: Answer) -> Stream:
        pieces = list(_pieces(self.vendor, self.vendor.stream(answer)))
        headers = {"content-type": self.vendor.stream_type}
        if words not in BREAKS:
            return Stream(pieces, headers=headers)
        before = SILENT_PIECES[self.vendor.name]
        kept = pieces[: before + 1 if words.endswith("after content") else before]
        if words.startswith("cut"):
            return Stream(kept, headers=headers, ending="close")
        return Stream([*kept, self.vendor.failed_in_stream("overloaded")], headers=headers)


def _last_words(conversation: Conversation) -> str:
    texts = [part.text for part in conversation.messages[-1].parts if isinstance(part, Text)]
    return texts[-1] if texts else ""


def _pieces(vendor: Vendor, content: bytes) -> Iterator[bytes]:
    """The events of a stream."""
    if vendor.stream_type == "text/event-stream":
        yield from re.findall(rb".+?(?:\r\n\r\n|\n\n)", content, re.DOTALL)
        return
    while content:
        length = int.from_bytes(content[:4], "big")
        yield content[:length]
        content = content[length:]
