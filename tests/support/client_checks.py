"""What the official client of OpenAI's API must find on any server."""

TOOL = {
    "type": "function",
    "function": {
        "name": "look",
        "parameters": {
            "type": "object",
            "properties": {"at": {"type": "string"}, "far": {"type": "integer"}},
            "required": ["at", "far"],
        },
    },
}


def chat_streamed_is_the_chat(client, asked):
    """Ask twice; return the whole answer, which has text."""
    whole = client.chat.completions.create(**asked)
    assert whole.choices[0].message.content
    chunks = list(
        client.chat.completions.create(**asked, stream=True, stream_options={"include_usage": True})
    )
    said = "".join(choice.delta.content or "" for chunk in chunks for choice in chunk.choices)
    assert said == whole.choices[0].message.content
    assert chunks[-1].usage == whole.usage
    assert chunks[-2].choices[0].finish_reason == whole.choices[0].finish_reason
    return whole


def completion_streamed_is_the_completion(client, model):
    asked = {"model": model, "prompt": "Once", "seed": 5, "max_tokens": 12, "logprobs": 2}
    whole = client.completions.create(**asked)
    chunks = list(client.completions.create(**asked, stream=True))
    assert "".join(chunk.choices[0].text for chunk in chunks) == whole.choices[0].text
    tokens = [t for chunk in chunks if chunk.choices[0].logprobs for t in chunk.choices[0].logprobs.tokens]
    assert tokens == whole.choices[0].logprobs.tokens
    assert len(tokens) == whole.usage.completion_tokens
