"""What a conversation can ask for: each feature is seen where it is, can be left out, and is refused by its name."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from standby.clients import ClientError
from standby.clients.dialects import (
    ANSWERS,
    FEATURES,
    Conversation,
    File,
    Image,
    Message,
    Reasoning,
    ResponseFormat,
    Text,
    Thinking,
    ToolCall,
    ToolResult,
    fitted,
)
from tests.clients.conversations import conversations, few
from tests.clients.examples import ANSWERS_BY_NAME, CALLS, CONVERSATIONS, PNG, QUESTION

BY_NAME = {feature.name: feature for feature in FEATURES}
NEEDS = {
    "parallel_calls": {"multi_turn", "tools", "tool_results"},
    "system": {"multi_turn"},
    "developer": {"multi_turn"},
    "thinking": {"multi_turn"},
    "image_detail": {"image_data"},
    "tool_results": {"multi_turn", "tools"},
    "tool_media": {"multi_turn", "tools", "tool_results", "image_data"},
    "tool_errors": {"multi_turn", "tools", "tool_results"},
    "tool_strict": {"tools"},
    "tool_choice": {"tools"},
    "parallel_tool_calls": {"tools"},
}
"""What a conversation asks for besides, since there is no such feature without it."""
STAYS = {"system", "developer", "multi_turn", "parallel_calls", "tool_results"}
"""What no conversation can be without."""


class Wire:
    """A provider that can do these things, and `lacks` what it is told."""

    name = "somebody"

    def __init__(self, supports, lacks=None):
        self.supports = dict.fromkeys(supports, "")
        self._lacks = lacks or {}

    def lacks(self, conversation):
        return self._lacks


def asked_of(conversation):
    return {feature.name for feature in FEATURES if feature.asked(conversation)}


def all_but(*names):
    return BY_NAME.keys() - set(names)


def test_every_feature_has_an_example():
    """The table of the features has no row that is not tested."""
    assert CONVERSATIONS.keys() == BY_NAME.keys()
    assert ANSWERS_BY_NAME.keys() == ANSWERS.keys()


@pytest.mark.parametrize("name", BY_NAME)
def test_an_example_asks_for_its_feature(name):
    """For it, for what it needs, and for nothing else."""
    assert asked_of(CONVERSATIONS[name]) == {name} | NEEDS.get(name, set())


def test_a_question_asks_for_nothing():
    """One turn of one speaker, in words, is what everybody can do."""
    assert asked_of(Conversation(messages=(QUESTION,))) == set()


@pytest.mark.parametrize("name", sorted(all_but(*STAYS)))
def test_without_a_feature_the_rest_stays(name):
    """What is left out is that feature, and nothing beside it."""
    without = BY_NAME[name].without(CONVERSATIONS[name])
    only_there = {"image_data"} if name == "tool_media" else set()
    assert asked_of(without) == asked_of(CONVERSATIONS[name]) - {name} - only_there


@pytest.mark.parametrize("name", BY_NAME)
def test_what_a_wire_cannot_do_is_refused_by_name(name):
    """Before anything is sent, as a fault of the request that another candidate may not have."""
    with pytest.raises(ClientError) as refused:
        fitted(CONVERSATIONS[name], Wire(all_but(name)), ())
    error = refused.value
    assert (error.code, error.status, error.work, error.scope) == ("unsupported_parameter", 400, "not_sent", "request")
    assert error.vendor["param"] == name
    assert error.message == f"somebody cannot do what is asked: {name}"


@pytest.mark.parametrize("name", sorted(all_but(*STAYS)))
def test_what_may_be_left_out_is_left_out_and_named(name):
    """The conversation goes without it."""
    conversation, dropped = fitted(CONVERSATIONS[name], Wire(all_but(name)), {name})
    assert dropped == (name,)
    assert conversation == BY_NAME[name].without(CONVERSATIONS[name])


@pytest.mark.parametrize("name", sorted(STAYS))
def test_what_a_conversation_is_made_of_is_never_left_out(name):
    """Without its turns it would be another conversation, whatever the operator allows."""
    with pytest.raises(ClientError, match=name):
        fitted(CONVERSATIONS[name], Wire(all_but(name)), {name})


def test_what_a_wire_can_do_stays_though_it_might_go():
    """`drop` is a permission, not an order."""
    conversation = CONVERSATIONS["seed"]
    assert fitted(conversation, Wire(BY_NAME), {"seed"}) == (conversation, ())


def test_a_value_out_of_range_is_refused_with_its_reason():
    """The wire has the feature, and says why it cannot do this one."""
    wire = Wire(BY_NAME, {"temperature": "0 to 1"})
    with pytest.raises(ClientError, match=r"cannot do what is asked: temperature \(0 to 1\)$"):
        fitted(CONVERSATIONS["temperature"], wire, {"seed"})
    assert fitted(CONVERSATIONS["temperature"], wire, {"temperature"})[0].temperature is None


def test_what_goes_is_not_out_of_range_any_more():
    """Temperature must be 1 while a model thinks; where the thinking is left out it may be any."""

    class Thinks(Wire):
        def lacks(self, conversation):
            return {} if conversation.reasoning is None else {"temperature": "1 while it thinks"}

    conversation = replace(CONVERSATIONS["temperature"], reasoning=Reasoning("low"))
    left, dropped = fitted(conversation, Thinks(all_but("reasoning")), {"reasoning", "temperature"})
    assert (left, dropped) == (CONVERSATIONS["temperature"], ("reasoning",))


def test_what_goes_with_something_else_is_not_refused():
    """Where images in results of tools may go, nobody is asked whether those images may."""
    wire = Wire(all_but("tool_media", "image_data"))
    left, dropped = fitted(CONVERSATIONS["tool_media"], wire, {"tool_media"})
    assert (left, dropped) == (BY_NAME["tool_media"].without(CONVERSATIONS["tool_media"]), ("tool_media",))


def test_what_only_the_caller_knows_is_refused_or_left_out_by_its_own_name():
    """A key that no other dialect has."""
    conversation = replace(CONVERSATIONS["seed"], extra={"prediction": {}, "store": True})
    with pytest.raises(ClientError, match=r"cannot do what is asked: prediction, store$"):
        fitted(conversation, Wire(BY_NAME), {"seed"})
    with pytest.raises(ClientError, match=r"cannot do what is asked: store$"):
        fitted(conversation, Wire(BY_NAME), {"prediction"})
    left, dropped = fitted(conversation, Wire(BY_NAME), {"prediction", "store"})
    assert (left, dropped) == (CONVERSATIONS["seed"], ("prediction", "store"))


def test_all_that_is_missing_is_named_at_once():
    """An operator who writes `drop` need not come back for the next one."""
    conversation = replace(CONVERSATIONS["seed"], n=2, extra={"store": True})
    with pytest.raises(ClientError, match=r"cannot do what is asked: seed, n, store$"):
        fitted(conversation, Wire(()), ())


def test_a_turn_of_nothing_but_what_goes_goes_with_it():
    """No vendor takes an empty turn; one that was empty before is the caller's own."""
    thought = Message("assistant", (Thinking("Hm.", "s"),))
    empty = Message("assistant", ())
    without = BY_NAME["thinking"].without(Conversation(messages=(QUESTION, thought, empty, QUESTION)))
    assert without.messages == (QUESTION, empty, QUESTION)


def test_signatures_of_calls_are_thoughts_too():
    """They go with the thoughts, and the call stays."""
    signed = replace(CALLS[0], signature="s")
    conversation = Conversation(messages=(QUESTION, Message("assistant", (signed,))))
    assert BY_NAME["thinking"].asked(conversation)
    assert BY_NAME["thinking"].without(conversation).messages[1].parts == (CALLS[0],)


def test_images_in_results_of_tools_are_images():
    """They are seen there, and left out there."""
    result = ToolResult("call_paris", (Text("See:"), Image(data=PNG, media_type="image/png")))
    conversation = Conversation(messages=(QUESTION, Message("tool", (result,))))
    without = BY_NAME["image_data"].without(conversation)
    assert without.messages[1].parts == (replace(result, parts=(Text("See:"),)),)


def test_recordings_are_no_documents():
    """Who reads PDF need not hear."""
    sound = Conversation(messages=(Message("user", (File(data="UklGRg==", media_type="audio/mpeg"),)),))
    assert asked_of(sound) == {"audio"}


@pytest.mark.parametrize("kind", ["json_object", "json_schema"])
def test_json_mode_and_a_schema_are_two_features(kind):
    """Some vendors have only one of them."""
    asked = asked_of(Conversation(messages=(QUESTION,), response_format=ResponseFormat(kind)))
    assert asked == {kind}


@pytest.mark.parametrize("value", [{"temperature": 0.0}, {"seed": 0}, {"logprobs": 0}, {"logit_bias": {}}])
def test_zero_is_asked_for(value):
    """What was said is not what was not."""
    assert asked_of(Conversation(messages=(QUESTION,), **value)) == set(value)


@few
@given(st.data(), st.sets(st.sampled_from(sorted(BY_NAME))))
def test_what_is_fitted_fits(data, supports):
    """Where all may be left out, what is left asks for nothing that is not there, and what went is named; or it is refused."""
    conversation = data.draw(conversations(BY_NAME, signed_calls=True))
    asked = asked_of(conversation)
    if asked & STAYS - supports:
        with pytest.raises(ClientError):
            fitted(conversation, Wire(supports), BY_NAME)
        return
    left, dropped = fitted(conversation, Wire(supports), BY_NAME)
    assert asked_of(left) <= supports
    assert set(dropped) == asked - supports


@few
@given(conversations(BY_NAME, signed_calls=True))
def test_calls_and_their_results_stay_together(conversation):
    """Whatever goes, every result that stays still has its call."""
    for feature in FEATURES:
        left = conversation if feature.without is None else feature.without(conversation)
        parts = [part for message in left.messages for part in message.parts]
        calls = {part.id for part in parts if isinstance(part, ToolCall)}
        assert {part.id for part in parts if isinstance(part, ToolResult)} == calls
