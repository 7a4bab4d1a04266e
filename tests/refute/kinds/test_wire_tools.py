"""Tool calls on hand-made replies: a call told as text, or a broken one, refutes."""

from typing import Any

import pytest
from wire_replies import DONE, delta, reply, stream, whole

from refute.kinds.base import Observation
from refute.kinds.wire_tools import Called, ToolCalls

KIND = ToolCalls(Called(max_tokens=64))
ARGUMENTS = '{"file_path": "apple.txt"}'
AS_TEXT = '<tool_call>\n{"name": "Read"}\n</tool_call>'


def call(
    arguments: str = ARGUMENTS,
    name: str = "Read",
    number: str | None = "call_1",
    kind: str | None = "function",
) -> dict[str, Any]:
    return {"id": number, "type": kind, "function": {"name": name, "arguments": arguments}}


def called(finish: str = "tool_calls", content: str | None = None, **how: Any) -> Any:
    return whole(content, finish, tool_calls=[call(**how)])


def streamed(*parts: str, finish: str = "tool_calls", begun: Any = None, again: Any = None) -> Any:
    """A stream of one call. begun, again: changes of its first part, and one more part at its end."""
    first = {"index": 0, **call(arguments=""), **(begun or {})}
    rest = [{"index": 0, "function": {"arguments": part}} for part in parts]
    more = [] if again is None else [{"index": 0, **again}]
    opening = delta(role="assistant", content=None, tool_calls=[first])
    told = [delta(tool_calls=[part]) for part in (*rest, *more)]
    return stream(opening, *told, delta(finish), DONE)


def json_events(answer: Any) -> list[str]:
    """The events of a stream without its [DONE]."""
    return [data for _, data in answer["events"] if data != DONE]


def wrong(as_whole: Any, as_stream: Any = None) -> str | None:
    samples = {"whole": as_whole, "streamed": as_stream or streamed(ARGUMENTS[:9], ARGUMENTS[9:])}
    return KIND.wrong(Observation({}, samples))


def test_a_call_that_is_the_same_streamed_and_whole_does_not_refute() -> None:
    assert wrong(called()) is None


@pytest.mark.parametrize(
    ("as_whole", "as_stream", "why"),
    [
        (whole(AS_TEXT), None, "is the text of a call"),
        (called(content=AS_TEXT), None, "is the text of a call"),
        (called(), stream(delta(role="assistant", content=AS_TEXT), delta("stop"), DONE), "text of a call"),
        (called("stop"), None, "finish_reason 'stop' with a call"),
        (called(), streamed(ARGUMENTS, finish="stop"), "finish_reason 'stop' with a call"),
        (whole("Done.", "tool_calls"), None, "without a call"),
        (called(arguments="{"), None, "expected a JSON object"),
        (called(arguments="[]"), None, "expected a JSON object"),
        (called(name="Write"), None, "the name 'Read'"),
        (called(number=""), None, "expected an id"),
        (called(number=None), None, "tool_calls[0].id"),
        (called(kind=None), None, "tool_calls[0].type"),
        (called(), streamed(ARGUMENTS, begun={"index": None}), "tool_calls[0].index"),
        (called(), streamed(ARGUMENTS, again={"id": "call_1"}), "call 0 is given an id or a name again"),
        (called(), streamed(ARGUMENTS, again={"function": {"name": "Read"}}), "an id or a name again"),
        (called(), stream(*json_events(streamed(ARGUMENTS))), "[DONE] is missing"),
        (called(), streamed('{"file_path": "river.txt"}'), "as a stream"),
        (whole("I cannot."), None, "calls []"),
        (reply("{}", 500), None, "the whole answer: status 500"),
        (called(), reply("{}", 500), "the stream: status 500"),
    ],
)
def test_each_departure_refutes(as_whole: Any, as_stream: Any, why: str) -> None:
    assert why in (wrong(as_whole, as_stream) or "")


def test_a_case_counts_only_where_the_model_called() -> None:
    for answer, counts in ((called(), True), (whole("No."), False), (called("length"), False)):
        assert KIND.informative(Observation({}, {"whole": answer, "streamed": answer})) is counts
