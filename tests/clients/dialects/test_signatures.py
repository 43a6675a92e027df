"""Signatures of thoughts go back to whom they came from, and to nobody else."""

from standby.clients.dialects import Conversation, Message, Text, Thinking
from standby.clients.dialects._signatures import has_others_thoughts, marked, own


def conversation(*signatures):
    return Conversation(messages=(Message("assistant", tuple(Thinking("Hm.", signature) for signature in signatures)),))


def test_own():
    """A vendor knows its own signature again, as it was."""
    assert own(marked("QQ==", "gemini"), "gemini") == "QQ=="
    assert own("QQ==") == "QQ=="


def test_own__of_another():
    """One of another vendor is none, and so is one that nobody marked, to a vendor that marks its own."""
    assert own(marked("QQ==", "gemini")) == ""
    assert own(marked("QQ==", "other"), "gemini") == ""
    assert own("QQ==", "gemini") == ""


def test_marked__nothing():
    """No signature has no mark."""
    assert marked("", "gemini") == ""


def test_has_others_thoughts():
    """One signature of another's is enough; thoughts without one may be read by everybody."""
    assert has_others_thoughts(conversation("gemini:QQ==", "QQ=="), "gemini")
    assert has_others_thoughts(conversation("gemini:QQ=="))
    assert not has_others_thoughts(conversation("gemini:QQ==", ""), "gemini")
    assert not has_others_thoughts(Conversation(messages=(Message("user", (Text("QQ=="),)),)))
