"""What was asked for, as plain data: nothing that does not belong to the engine, no secret."""

from pathlib import Path

from refute.recordable import Requested
from refute.select import Named, Selection


def test_what_belongs_to_another_engine_was_not_asked_for():
    asked = Requested.of(Selection("fake", None, "simulated", "array", "gpu"), seed=1)
    assert (asked.target, asked.backend, asked.device, asked.seed) == ("fake", None, None, 1)


def test_of_a_model_only_the_name_of_its_file_is_kept():
    asked = Requested.of(Selection("bundled", Path("/home/someone/m.gguf"), "named", "array", "auto"))
    assert (asked.model, asked.backend, asked.device) == ("m.gguf", "array", None)


def test_of_an_endpoint_no_secret_is_kept():
    named = Named("https://user:hush@example.org/v1?api_key=hush", "m", key="hush-hush")
    asked = Requested.of(Selection("openai", None, "named", "array", "auto", endpoint=named))
    assert (asked.target, asked.model_name) == ("openai", "m")
    assert "hush" not in str(asked.to_json())
