"""Tokenizers: text comes back, whole or streamed; special tokens are not forged; ids are the right ones."""

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from refute.kinds.base import Case, Observation, Searched
from refute.kinds.parameters import whole_number
from refute.kinds.texts import hostile, rare, texts
from refute.targets.base import Target

if TYPE_CHECKING:
    from hypothesis.strategies import SearchStrategy

_REPLACED = {"", *("\ufffd" * count for count in (1, 2, 3))}
"""What decoding makes of the bytes of at most one incomplete character."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TextParameters:
    """pieces: how many pieces a text is put together from, at most."""

    pieces: int

    def __post_init__(self) -> None:
        whole_number("pieces", self.pieces, 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatParameters(TextParameters):
    """turns: how many messages of the user a chat has, at most."""

    turns: int

    def __post_init__(self) -> None:
        TextParameters.__post_init__(self)
        whole_number("turns", self.turns, 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class VectorParameters:
    """together: how many texts of the target's token reference are one case."""

    together: int

    def __post_init__(self) -> None:
        whole_number("together", self.together, 1)


class TextRoundTrip(Searched[TextParameters]):
    """Text that is encoded and decoded is the text, composed where the tokenizer says that it composes.

    The ids are stable: what came back encodes to the same ids.
    """

    name = "text-round-trip"
    rule_version = "1"
    requires = frozenset({"tokenizer"})
    parameters_type = TextParameters
    stricter = MappingProxyType({**Searched.stricter, "pieces": "higher"})

    def cases(self, target: Target) -> "SearchStrategy[dict[str, Any]]":
        """Any text, also one that spells special tokens."""
        from hypothesis import strategies as st  # noqa: PLC0415 (only a search needs it)

        return st.fixed_dictionaries({"text": texts(self.parameters.pieces, *target.special_tokens)})

    def observe(self, target: Target, case: Case) -> Observation:
        """Encode, decode, encode again; nfc: whether the tokenizer says that it composes."""
        ids = target.encode(case["text"])
        decoded = target.decode(ids)
        again = target.encode(decoded)
        samples = {"ids": list(ids), "decoded": decoded, "again": list(again), "nfc": _composes(target)}
        return Observation(case, samples)

    def refutes(self, observation: Observation) -> bool:
        """Another text, or other ids the second time."""
        text, seen = observation.case["text"], observation.samples
        expected = unicodedata.normalize("NFC", text) if seen["nfc"] else text
        return bool(seen["decoded"] != expected or seen["again"] != seen["ids"])

    def informative(self, observation: Observation) -> bool:
        """A case counts when there was text to lose."""
        return bool(observation.case["text"])


class StreamDecoding(Searched[TextParameters]):
    """Tokens handed over one by one give the text of all, each character with the token that completes it."""

    name = "stream-decoding"
    rule_version = "1"
    requires = frozenset({"tokenizer"})
    parameters_type = TextParameters
    stricter = MappingProxyType({**Searched.stricter, "pieces": "higher"})

    def cases(self, target: Target) -> "SearchStrategy[dict[str, Any]]":  # noqa: ARG002 (any target)
        """Encoded texts without their first and last tokens, joined; one is a character of many tokens."""
        from hypothesis import strategies as st  # noqa: PLC0415 (only a search needs it)

        cut = st.integers(0, 3)
        part = st.builds(_part, texts(self.parameters.pieces), cut, cut)
        around = st.lists(part, max_size=1)
        split = st.builds(_part, rare(), st.just(0), cut)
        return st.builds(
            lambda before, whole, after: {"parts": [*before, whole, *after]}, around, split, around
        )

    def observe(self, target: Target, case: Case) -> Observation:
        """Keep what came with each token, and of all tokens so far what their text has beyond that.

        ahead: per token; null where the text so far does not begin with what was given out. Reduced: the
        texts so far are not kept themselves.
        """
        ids: list[int] = []
        for part in case["parts"]:
            encoded = target.encode(part["text"])
            ids += encoded[part["skip"] : max(len(encoded) - part["drop"], 0)]
        pieces = list(target.stream_decode(ids))
        given, ahead = "", []
        for count, piece in enumerate(pieces[: len(ids)], 1):
            given += piece
            text = target.decode(ids[:count])
            ahead.append(text[len(given) :] if text.startswith(given) else None)
        return Observation(case, {"pieces": pieces, "whole": target.decode(ids), "ahead": ahead, "ids": ids})

    def refutes(self, observation: Observation) -> bool:
        """Other text in all, text that was withdrawn, or more held back than one incomplete character."""
        seen = observation.samples
        return bool(
            len(seen["pieces"]) != len(seen["ids"]) + 1
            or "".join(seen["pieces"]) != seen["whole"]
            or any(each not in _REPLACED for each in seen["ahead"])
        )

    def informative(self, observation: Observation) -> bool:
        """A case counts when some token ended within a character."""
        return any(each != "" for each in observation.samples["ahead"])


class SpecialTokensPlain(Searched[TextParameters]):
    """Text that spells special tokens is encoded to ordinary tokens only."""

    name = "special-tokens-plain"
    rule_version = "1"
    requires = frozenset({"tokenizer"})
    parameters_type = TextParameters
    stricter = MappingProxyType({**Searched.stricter, "pieces": "higher"})

    def cases(self, target: Target) -> "SearchStrategy[dict[str, Any]]":
        """Texts that spell special tokens, whole and in halves that join."""
        from hypothesis import strategies as st  # noqa: PLC0415 (only a search needs it)

        return st.fixed_dictionaries({"text": hostile(list(target.special_tokens), self.parameters.pieces)})

    def observe(self, target: Target, case: Case) -> Observation:
        """Encode; strange: those of the ids that are no tokens of plain text."""
        ids = list(target.encode(case["text"]))
        strange = sorted(set(ids).difference(target.ordinary_tokens))
        return Observation(case, {"ids": ids, "strange": strange})

    def refutes(self, observation: Observation) -> bool:
        """Any id that is not ordinary."""
        return bool(observation.samples["strange"])

    def informative(self, observation: Observation) -> bool:
        """A case counts when the text gave tokens."""
        return bool(observation.samples["ids"])


class SpecialTokensChat(Searched[ChatParameters]):
    """In a chat prompt, number and order of special tokens do not depend on what the messages say."""

    name = "special-tokens-chat"
    rule_version = "1"
    requires = frozenset({"tokenizer", "chat"})
    parameters_type = ChatParameters
    stricter = MappingProxyType({**Searched.stricter, "pieces": "higher", "turns": "higher"})

    def cases(self, target: Target) -> "SearchStrategy[dict[str, Any]]":
        """Chats with or without a system message, each message spelling special tokens."""
        from hypothesis import strategies as st  # noqa: PLC0415 (only a search needs it)

        text = hostile(list(target.special_tokens), self.parameters.pieces)
        turns = st.integers(1, self.parameters.turns)
        roles = st.builds(_roles, st.booleans(), turns)
        return roles.flatmap(
            lambda names: st.tuples(*(st.tuples(st.just(name), text) for name in names)).map(_chat)
        )

    def observe(self, target: Target, case: Case) -> Observation:
        """The special tokens, in order, of the prompt and of one whose messages all say `x`."""
        harmless = [{"role": message["role"], "content": "x"} for message in case["messages"]]
        samples = {
            "special": _special(target, case["messages"]),
            "template": _special(target, harmless),
        }
        return Observation(case, samples)

    def refutes(self, observation: Observation) -> bool:
        """Any difference."""
        return bool(observation.samples["special"] != observation.samples["template"])

    def informative(self, observation: Observation) -> bool:
        """A case counts when the template writes special tokens, so that a forged one could do harm."""
        return bool(observation.samples["template"])


class ReferenceTokens(Searched[VectorParameters]):
    """Texts get the ids that another implementation gives them."""

    name = "reference-tokens"
    rule_version = "1"
    requires = frozenset({"tokenizer", "token_reference"})
    parameters_type = VectorParameters
    stricter = MappingProxyType({**Searched.stricter, "together": "higher"})

    def cases(self, target: Target) -> "SearchStrategy[dict[str, Any]]":
        """The vectors in batches, shortest texts first.

        A text that composing changes is asked only of tokenizers that compose as the reference did.
        """
        from hypothesis import strategies as st  # noqa: PLC0415 (only a search needs it)

        reference, size = target.token_reference, self.parameters.together
        alike = reference.nfc == _composes(target)
        vectors = [
            {"text": text, "ids": list(ids)}
            for text, ids in reference.vectors
            if alike or unicodedata.is_normalized("NFC", text)
        ]
        cases: list[dict[str, Any]] = [
            {"by": reference.engine, "version": reference.version, "vectors": vectors[start : start + size]}
            for start in range(0, len(vectors), size)
        ]
        return st.sampled_from(cases)

    def observe(self, target: Target, case: Case) -> Observation:
        """Encode, and say who did it."""
        ids = [list(target.encode(vector["text"])) for vector in case["vectors"]]
        return Observation(case, {"ids": ids, "engine": target.identity.engine})

    def refutes(self, observation: Observation) -> bool:
        """Any other id."""
        expected = [vector["ids"] for vector in observation.case["vectors"]]
        return bool(observation.samples["ids"] != expected)

    def informative(self, observation: Observation) -> bool:
        """A case counts when two engines are compared: one agrees with itself."""
        return bool(observation.samples["engine"] != observation.case["by"])


def _composes(target: Target) -> bool:
    """Whether the tokenizer says that it normalizes text to Unicode NFC."""
    return target.identity.settings.get("tokenizer_nfc") is True


def _part(text: str, skip: int, drop: int) -> dict[str, Any]:
    return {"text": text, "skip": skip, "drop": drop}


def _roles(system: bool, turns: int) -> list[str]:
    """A system message or none, then questions with the answers between them."""
    return [*["system"] * system, *["user", "assistant"] * (turns - 1), "user"]


def _chat(messages: Sequence[tuple[str, str]]) -> dict[str, Any]:
    return {"messages": [{"role": role, "content": content} for role, content in messages]}


def _special(target: Target, messages: Sequence[dict[str, str]]) -> list[int]:
    known = set(target.special_tokens.values())
    return [token for token in target.encode_chat(messages) if token in known]
