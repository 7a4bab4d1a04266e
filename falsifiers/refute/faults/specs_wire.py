"""Faults on the wire: a proxy in front of any engine changes requests or answers (`WIRE`).

`of requests` is the share of requests that the fault touches, by the order in which they come.
"""

from refute.faults.base import FaultSpec

ALL_EVENTS = 1000.0

_SHARE = "of requests"


def _shared(name: str, breaks: str, *doses: float) -> FaultSpec:
    return FaultSpec(name=name, seam="wire", breaks=breaks, default=1.0, doses=doses or (0.5,), unit=_SHARE)


WIRE = (
    FaultSpec(
        name="wire-buffered",
        seam="wire",
        breaks="Events are held back until so many are there, or the stream ends.",
        default=ALL_EVENTS,
        doses=(4.0, 8.0),
        unit="events",
    ),
    FaultSpec(
        name="wire-merged",
        seam="wire",
        breaks="The texts of so many content events come as one event.",
        default=4.0,
        doses=(2.0,),
        unit="events",
    ),
    FaultSpec(
        name="wire-stalled",
        seam="wire",
        breaks="A stream stands still once, before its third content event.",
        default=1000.0,
        doses=(250.0, 500.0),
        unit="ms",
    ),
    FaultSpec(
        name="wire-jitter",
        seam="wire",
        breaks="Before every event is a random pause of up to this much.",
        default=1000.0,
        doses=(250.0, 500.0),
        unit="ms",
    ),
    FaultSpec(
        name="wire-cut",
        seam="wire",
        breaks="The connection breaks after so many events with text, or before [DONE]; bodies are halved.",
        default=2.0,
        doses=(6.0, 4.0),
        unit="events kept",
    ),
    FaultSpec(
        name="wire-temperature-forced",
        seam="wire",
        breaks="Every request is run at this temperature, whatever it asks for.",
        default=2.0,
        doses=(0.5, 1.0),
        unit="temperature",
    ),
    _shared("wire-done-dropped", "Streams end without [DONE]."),
    _shared("wire-finish-dropped", "The finish_reason stays null to the end."),
    _shared("wire-role-dropped", "The role is missing in the first delta, and in whole messages."),
    _shared("wire-usage-dropped", "Usage that was asked for is left out."),
    _shared("wire-usage-unasked", "Streams end with a usage chunk that nobody asked for."),
    _shared("wire-usage-wrong", "Usage counts one completion token too many."),
    _shared("wire-token-repeated", "One content event of a stream comes twice.", 0.25, 0.5),
    _shared("wire-text-emptied", "The content of whole answers is empty.", 0.25, 0.5),
    _shared("wire-utf8-cut", "Characters beyond ASCII are cut in streams: each half comes as U+FFFD.", 0.5),
    _shared("wire-seed-stripped", "The seed is taken out of requests.", 0.5),
    _shared("wire-seed-fixed", "Every request, also one without a seed, is run with one and the same.", 0.5),
    _shared("wire-stop-stripped", "Stop texts are taken out of requests.", 0.5),
    _shared("wire-logprobs-shifted", "Log probabilities are too large by 1.", 0.5),
    _shared("wire-tools-as-text", "Tool calls come as text in the content, as the model wrote them.", 0.5),
    _shared("wire-stream-off", "Answers that were to be streamed come as one JSON object.", 0.5),
    FaultSpec(
        name="wire-error-once",
        seam="wire",
        breaks="One request in so many is answered with 500.",
        default=0.25,
        doses=(0.1,),
        unit=_SHARE,
    ),
    _shared("wire-errors-hidden", "Refusals come with status 200.", 0.5),
    _shared("wire-errors-plain", "Refusals come as plain text instead of an error object.", 0.5),
    _shared("wire-limits-hidden", "Answers end after one token, whatever max_tokens says."),
    _shared("wire-cached", "A prompt that was answered is answered so again, whatever else is asked.", 0.5),
    _shared("wire-client-kept", "The engine is not told that a client left.", 0.5),
    _shared("wire-counters-zero", "What the engine tells of its work is 0.", 0.5),
    FaultSpec(
        name="wire-gaps-stretched",
        seam="wire",
        breaks="The times shown have gaps of this multiple of the bound between events; nothing sleeps.",
        default=1.1,
        doses=(1.02, 1.05),
        unit="x bound",
    ),
    FaultSpec(
        name="wire-first-late",
        seam="wire",
        breaks="The times shown have the first content at this multiple of the bound; nothing sleeps.",
        default=1.1,
        doses=(1.02, 1.05),
        unit="x bound",
    ),
    FaultSpec(
        name="wire-rate-lowered",
        seam="wire",
        breaks="The times shown make the rate of requests this multiple of the floor; nothing sleeps.",
        default=0.9,
        doses=(0.98, 0.95),
        unit="x floor",
    ),
)
