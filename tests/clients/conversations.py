"""Hypothesis strategies of conversations and answers, valid as real ones are, and all that a wire can do is in them.

`supports` is a wire's: what it cannot do is not generated. What a field may hold differs by vendor; a strategy of that
field, given by its name, takes the place of the usual one: ``conversations(supports, temperature=st.floats(0, 1))``.
"""

from __future__ import annotations

import base64
import functools
import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from standby.clients import Usage
from standby.clients.dialects import (
    Answer,
    Begun,
    CacheMark,
    Choice,
    Conversation,
    Counted,
    Delta,
    File,
    Finished,
    Image,
    Logprob,
    LogprobsDelta,
    Message,
    Reasoning,
    Refusal,
    RefusalDelta,
    ResponseFormat,
    SignatureDelta,
    Text,
    TextDelta,
    Thinking,
    ThinkingDelta,
    Tool,
    ToolCall,
    ToolCallBegun,
    ToolCallDelta,
    ToolChoice,
    ToolResult,
)

few = settings(max_examples=40, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
"""For tests of many conversations: to draw one takes 10 ms, and far longer where the machine is busy."""

MOST_MARKS = 4
"""How many marks for the cache a conversation may have: Anthropic refuses a fifth."""

_LETTERS = "abcdefghijklmnopqrstuvwxyz"

words = st.text(min_size=1, max_size=12).filter(str.strip)
"""Any characters, some of them not white: nobody takes a text of nothing else."""
names = st.text(alphabet=_LETTERS + "_", min_size=1, max_size=8).map(lambda text: f"a{text}")
idents = st.text(alphabet=_LETTERS + "0123456789", min_size=4, max_size=8)
base64s = st.binary(min_size=1, max_size=12).map(lambda content: base64.b64encode(content).decode())
addresses = idents.map(lambda ident: f"https://files.example/{ident}")

json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(-1e6, 1e6) | st.text(max_size=6),
    lambda children: st.lists(children, max_size=2) | st.dictionaries(names, children, max_size=2),
    max_leaves=4,
)
arguments = st.dictionaries(names, json_values, max_size=2).map(json.dumps)
schemas = st.dictionaries(names, st.sampled_from(["string", "integer", "boolean"]), min_size=1, max_size=2).map(
    lambda kinds: {
        "type": "object",
        "properties": {name: {"type": kind} for name, kind in kinds.items()},
        "required": list(kinds),
        "additionalProperties": False,
    }
)

texts = words.map(Text)
thoughts = st.builds(Thinking, words, base64s) | st.builds(Thinking, st.just(""), base64s, st.just(True))

_FIELDS: dict[str, st.SearchStrategy[Any]] = {
    "stop": st.lists(words, min_size=1, max_size=4, unique=True).map(tuple),
    "temperature": st.floats(0, 1).filter(lambda value: value != 1),
    "top_p": st.floats(0.01, 0.99),
    "top_k": st.integers(1, 40),
    "max_tokens": st.integers(1, 100_000),
    "seed": st.integers(0, 2**31 - 1),
    "n": st.integers(2, 4),
    "frequency_penalty": st.floats(-1.9, 1.9).filter(bool),
    "presence_penalty": st.floats(-1.9, 1.9).filter(bool),
    "logit_bias": st.dictionaries(st.integers(1, 99_999).map(str), st.integers(-100, 100), min_size=1, max_size=2),
    "logprobs": st.integers(0, 5),
    "reasoning": st.sampled_from(["low", "medium", "high"]).map(Reasoning),
    "verbosity": st.sampled_from(["low", "high"]),
    "user": idents,
    "metadata": st.dictionaries(names, st.text(max_size=6), min_size=1, max_size=2),
    "service_tier": st.sampled_from(["flex", "priority"]),
}
"""What a field holds where it says something: never what it would be when left out."""


@st.composite
def conversations(
    draw: st.DrawFn,
    supports: Collection[str],
    *,
    signed_calls: bool = False,
    **fields: st.SearchStrategy[Any],
) -> Conversation:
    """Conversations that ask for nothing but what is in ``supports``.

    Args:
        draw: Hypothesis's own.
        supports: Names of features.
        signed_calls: Whether calls of tools may have signatures.
        fields: What these fields hold, instead of what they usually do; ``include_usage`` is false unless it is here.
    """
    supports = frozenset(supports)
    tools = tuple(draw(st.lists(_tools(supports), max_size=2, unique_by=lambda tool: tool.name)))
    tools = tools if "tools" in supports else ()
    messages: list[Message] = draw(_instructions(supports))
    messages.append(draw(_user_turns(supports)))
    if "multi_turn" in supports:
        for number in range(draw(st.integers(0, 2))):
            messages += draw(_exchanges(supports, tools, number, signed_calls=signed_calls))
            if messages[-1].role == "assistant" or draw(st.booleans()):
                messages.append(draw(_user_turns(supports)))
    else:
        messages = messages[-1:]
    known = {
        name: strategy
        for name, strategy in {**_FIELDS, **fields}.items()
        if name in supports or name == "include_usage"
    }
    chosen = {name: draw(strategy) for name, strategy in known.items() if draw(st.integers(0, 2)) == 0}
    conversation = Conversation(
        messages=tuple(messages),
        tools=tools,
        tool_choice=draw(_choices_of_tools(tools)) if tools and "tool_choice" in supports else None,
        parallel_tool_calls=draw(st.sampled_from([None, False]))
        if tools and "parallel_tool_calls" in supports
        else None,
        response_format=draw(_formats(supports)),
        **chosen,
    )
    return draw(_marked(conversation)) if "cache" in supports else conversation


@functools.cache
def _media(supports: frozenset[str]) -> st.SearchStrategy[Any]:
    """Images and files of the kinds that are supported; nothing where none is."""
    pictures = st.sampled_from(["image/png", "image/jpeg", "image/gif", "image/webp"])
    details = st.sampled_from(["", "low", "high"] if "image_detail" in supports else [""])
    titles = st.sampled_from(["", "report.pdf", "notes 2"])
    pdf = st.just("application/pdf")
    kinds: Mapping[str, st.SearchStrategy[Any]] = {
        "image_data": st.builds(Image, data=base64s, media_type=pictures, detail=details),
        "image_url": st.builds(Image, url=addresses, detail=details),
        "file_data": st.builds(File, data=base64s, media_type=pdf, name=titles),
        "file_url": st.builds(File, url=addresses, media_type=pdf, name=titles),
        "file_id": st.builds(File, file_id=idents.map(lambda ident: f"file-{ident}")),
        "audio": st.builds(File, data=base64s, media_type=st.sampled_from(["audio/wav", "audio/mpeg"])),
    }
    return st.one_of([strategy for name, strategy in kinds.items() if name in supports])


@functools.cache
def _contents(supports: frozenset[str]) -> st.SearchStrategy[Any]:
    """Parts of what a user says."""
    return texts | _media(supports)


@st.composite
def _instructions(draw: st.DrawFn, supports: frozenset[str]) -> list[Message]:
    if "multi_turn" not in supports:
        return []
    roles = [role for role in ("system", "developer") if role in supports]
    said = draw(st.lists(st.sampled_from(roles), max_size=2)) if roles else []
    return [Message(role, (draw(texts),)) for role in said]  # type: ignore[arg-type]


@st.composite
def _user_turns(draw: st.DrawFn, supports: frozenset[str]) -> Message:
    parts = draw(st.lists(_contents(supports), min_size=1, max_size=3))
    if not any(isinstance(part, Text) for part in parts):
        parts.append(draw(texts))  # a document alone is no question, and Bedrock says so
    return Message("user", tuple(parts), draw(st.just("") | names) if "names" in supports else "")


@st.composite
def _exchanges(
    draw: st.DrawFn,
    supports: frozenset[str],
    tools: Sequence[Tool],
    number: int,
    *,
    signed_calls: bool,
) -> list[Message]:
    """What the assistant said, and the results of what it asked for."""
    thought = draw(st.lists(thoughts, max_size=2)) if "thinking" in supports else []
    if draw(st.integers(0, 5)) == 0:
        return [Message("assistant", (*thought, Refusal(draw(words))))]
    calls: list[ToolCall] = []
    if tools and "tool_results" in supports:
        for index in range(draw(st.integers(0, 2 if "parallel_calls" in supports else 1))):
            name = draw(st.sampled_from([tool.name for tool in tools]))
            signature = draw(st.just("") | base64s) if signed_calls else ""
            calls.append(ToolCall(f"call_{number}{index}{draw(idents)}", name, draw(arguments), signature))
    said = draw(st.lists(texts, min_size=0 if calls else 1, max_size=1))
    turns = [Message("assistant", (*thought, *said, *calls))]
    if calls:
        failed = st.booleans() if "tool_errors" in supports else st.just(False)
        results = st.lists(_contents(supports) if "tool_media" in supports else texts, min_size=1, max_size=2)
        told = (ToolResult(call.id, tuple(draw(results)), draw(failed)) for call in calls)
        turns.append(Message("tool", tuple(told)))
    return turns


@functools.cache
def _tools(supports: frozenset[str]) -> st.SearchStrategy[Tool]:
    return st.builds(
        Tool,
        names,
        st.text(max_size=8).map(str.strip),
        st.none() | schemas,
        st.sampled_from([None, True]) if "tool_strict" in supports else st.none(),
    ).map(lambda tool: tool if tool.parameters else replace(tool, strict=None))


def _choices_of_tools(tools: Sequence[Tool]) -> st.SearchStrategy[ToolChoice | None]:
    named = st.sampled_from([ToolChoice("tool", tool.name) for tool in tools])
    return st.none() | st.sampled_from([ToolChoice("none"), ToolChoice("required")]) | named


@functools.cache
def _formats(supports: frozenset[str]) -> st.SearchStrategy[ResponseFormat | None]:
    whole = st.builds(
        ResponseFormat,
        st.just("json_schema"),
        names,
        schemas,
        st.sampled_from([None, True]),
        st.text(max_size=8).map(str.strip),
    )
    kinds = {"json_object": st.just(ResponseFormat("json_object")), "json_schema": whole}
    return st.none() | st.one_of([strategy for kind, strategy in kinds.items() if kind in supports])


@st.composite
def _marked(draw: st.DrawFn, conversation: Conversation) -> Conversation:
    """The same with a few marks for the cache, of one time to live."""
    mark = CacheMark(draw(st.sampled_from(["", "5m", "1h"])))
    left = MOST_MARKS

    def mark_some(part: Any) -> Any:
        nonlocal left
        if isinstance(part, Thinking | Refusal) or not left or draw(st.integers(0, 3)):
            return part
        left -= 1
        return replace(part, cache=mark)

    tools = tuple(map(mark_some, conversation.tools))
    messages = tuple(replace(message, parts=tuple(map(mark_some, message.parts))) for message in conversation.messages)
    return replace(conversation, tools=tools, messages=messages)


# -- answers -----------------------------------------------------------------------------------------------------


@st.composite
def answers(
    draw: st.DrawFn,
    supports: Collection[str],
    *,
    id_prefix: str = "chatcmpl-",
    finishes: Collection[str] = ("stop", "length"),
    signed_calls: bool = False,
) -> Answer:
    """Answers that tell nothing but what is in ``supports``; several where that has ``n``.

    Args:
        draw: Hypothesis's own.
        supports: Names of features, those of answers among them.
        id_prefix: How the vendor's ids begin.
        finishes: Why a choice may end that has neither calls nor a refusal in it.
        signed_calls: Whether calls of tools may have signatures.
    """
    many = draw(st.integers(1, 3)) if "n" in supports else 1
    with_logprobs = "answer_logprobs" in supports and draw(st.booleans())
    return Answer(
        id=id_prefix + draw(idents) if "answer_id" in supports else "",
        model=draw(names),
        choices=tuple(
            draw(_likely_choices() if with_logprobs else _choices(supports, finishes, signed_calls=signed_calls))
            for _ in range(many)
        ),
        usage=draw(_usages(supports)) if "answer_usage" in supports else None,
        created=draw(st.integers(1, 2**31 - 1)),
    )


@st.composite
def _choices(draw: st.DrawFn, supports: Collection[str], finishes: Collection[str], *, signed_calls: bool) -> Choice:
    thought: list[Thinking] = []
    if "answer_thinking" in supports:
        signed = "answer_signature" in supports
        thought = draw(st.lists(thoughts, max_size=2) if signed else st.lists(words.map(Thinking), max_size=1))
    if "answer_refusal" in supports and draw(st.integers(0, 5)) == 0:
        return Choice((*thought, Refusal(draw(words))), "refusal")
    calls: list[ToolCall] = []
    if "answer_tool_calls" in supports:
        signature = st.just("") | base64s if signed_calls else st.just("")
        ids = draw(st.lists(idents, max_size=2, unique=True))
        calls = [ToolCall(f"call_{ident}", draw(names), draw(arguments), draw(signature)) for ident in ids]
    said = draw(st.lists(texts, min_size=0 if calls else 1, max_size=1))
    parts = (*thought, *said, *calls)
    if calls:
        return Choice(parts, "tool_calls")
    if "answer_stop_sequence" in supports and draw(st.booleans()):
        return Choice(parts, "stop_sequence", draw(words))
    return Choice(parts, draw(st.sampled_from(list(finishes))))  # type: ignore[arg-type]


@st.composite
def _likely_choices(draw: st.DrawFn) -> Choice:
    """A text, and how likely each of its tokens was."""
    tokens = draw(st.lists(words, min_size=1, max_size=3))
    likely = st.floats(-20, 0)
    top = st.lists(st.tuples(words, likely), max_size=2, unique_by=lambda pair: pair[0]).map(tuple)
    return Choice(
        (Text("".join(tokens)),), "stop", logprobs=tuple(Logprob(token, draw(likely), draw(top)) for token in tokens)
    )


@st.composite
def _usages(draw: st.DrawFn, supports: Collection[str]) -> Usage:
    cached, written, thought = (
        draw(st.integers(0, 1000)) if f"answer_{name}" in supports else 0
        for name in ("cached_tokens", "cache_write_tokens", "reasoning_tokens")
    )
    return Usage(
        input_tokens=draw(st.integers(1, 1000)) + cached + written,
        output_tokens=draw(st.integers(1, 1000)) + thought,
        cached_tokens=cached,
        cache_write_tokens=written,
        reasoning_tokens=thought,
    )


# -- streams -----------------------------------------------------------------------------------------------------


@st.composite
def deltas_of(draw: st.DrawFn, answer: Answer) -> list[Delta]:
    """A stream of the answer, its texts cut anyhow, its choices mixed anyhow."""
    lanes = [draw(_deltas_of_choice(choice, number)) for number, choice in enumerate(answer.choices)]
    deltas: list[Delta] = [Begun(answer.id, answer.model, answer.created)]
    while any(lanes):
        lane = draw(st.sampled_from([lane for lane in lanes if lane]))
        deltas.append(lane.pop(0))
        if lane and isinstance(lane[0], LogprobsDelta):
            deltas.append(lane.pop(0))
    return deltas if answer.usage is None else [*deltas, Counted(answer.usage)]


@st.composite
def _deltas_of_choice(draw: st.DrawFn, choice: Choice, number: int) -> list[Delta]:
    deltas: list[Delta] = []
    calls = 0
    for part in choice.parts:
        match part:
            case Text() if choice.logprobs:
                for token in choice.logprobs:
                    deltas += [TextDelta(token.token, number), LogprobsDelta((token,), number)]
            case Text():
                deltas += [TextDelta(piece, number) for piece in draw(_pieces(part.text))]
            case Refusal():
                deltas += [RefusalDelta(piece, number) for piece in draw(_pieces(part.text))]
            case Thinking():
                deltas += [ThinkingDelta(piece, number) for piece in draw(_pieces(part.text))]
                if part.signature:
                    deltas.append(SignatureDelta(part.signature, part.redacted, number))
            case ToolCall():
                deltas.append(ToolCallBegun(calls, part.id, part.name, part.signature, number))
                deltas += [ToolCallDelta(calls, piece, number) for piece in draw(_pieces(part.arguments))]
                calls += 1
    return [*deltas, Finished(choice.finish, choice.stop_sequence, number)]


@st.composite
def _pieces(draw: st.DrawFn, text: str) -> list[str]:
    """The text in pieces, none of them empty."""
    cuts = sorted(draw(st.sets(st.integers(1, len(text) - 1), max_size=3))) if len(text) > 1 else []
    return [text[start:end] for start, end in zip([0, *cuts], [*cuts, len(text)], strict=True) if start < end]
