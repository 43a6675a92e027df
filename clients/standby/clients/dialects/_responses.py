"""OpenAI's Responses API, as it is spoken by callers; providers that have it are called with the caller's own bytes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from . import _responses_items as items
from ._responses_asked import conversation_of
from ._responses_stream import ResponsesWriter
from ._values import Answer, Choice, Conversation, Refusal, Text, Thinking

__all__ = ["RESPONSES"]


class Responses:
    """The dialect."""

    def conversation(self, data: Mapping[str, Any]) -> Conversation:
        """What a request says.

        Raises:
            InvalidRequest: It is not of this dialect.
        """
        return conversation_of(data)

    def answered(self, answer: Answer, conversation: Conversation) -> Mapping[str, Any]:
        """The body of a whole answer. There is no more than one choice of it: no more can be asked for."""
        choice = answer.choices[0]
        output = _output(choice, answer.id)
        finish = items.settled(choice.finish, output)
        if output and "status" in output[-1]:
            output[-1]["status"] = items.status_of(finish)
        return items.response(
            conversation,
            vendors_id=answer.id,
            model=answer.model,
            created=answer.created,
            output=output,
            finish=finish,
            usage=answer.usage,
        )

    def writer(self, conversation: Conversation) -> ResponsesWriter:
        """Writes one stream."""
        return ResponsesWriter(conversation)


RESPONSES: Final = Responses()


def _output(choice: Choice, vendors_id: str) -> list[items.Item]:
    output: list[items.Item] = []
    logprobs = choice.logprobs
    for part in choice.parts:
        index = len(output)
        if isinstance(part, Text | Refusal):
            said = items.part_of(part, logprobs if isinstance(part, Text) else ())
            if isinstance(part, Text):
                logprobs = ()  # of all that is said; nobody counts them by parts
            if output and output[-1]["type"] == "message":
                output[-1]["content"].append(said)
            else:
                output.append(items.message(items.item_id("msg", vendors_id, index), [said], "completed"))
        elif isinstance(part, Thinking):
            output.append(items.reasoning(items.item_id("rs", vendors_id, index), part))
        else:
            output.append(items.function_call(items.item_id("fc", vendors_id, index), part, "completed"))
    return output
