"""Chat messages: photos keep every pixel on the way to a processor and to a server."""

from __future__ import annotations

import base64
import io
import json

import numpy as np
import PIL.Image
import pytest
from hypothesis import given
from hypothesis import strategies as st

from retouch_gym.chat import (
    BARE,
    IEA_EDIT,
    assistant_message,
    describe_calls,
    describe_tools,
    opening,
    photos_of,
    system_message,
    to_openai,
    to_pil,
    tool_schemas,
    user_message,
)
from retouch_gym.errors import ImageError
from retouch_gym.tools import IEA, SUMMARY


def noise(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def test_photos_come_before_the_words_and_are_not_copied() -> None:
    photos = [noise(3, 5), noise(4, 2)]
    message = user_message("warmer", photos)
    assert message["role"] == "user"
    assert [block["type"] for block in message["content"]] == ["image", "image", "text"]
    assert all(np.shares_memory(a, b) for a, b in zip(photos_of([message]), photos, strict=True))
    assert message["content"][-1] == {"type": "text", "text": "warmer"}
    with pytest.raises(ImageError, match="photo 2 is float64"):
        user_message("", [photos[0], np.zeros((3, 3, 3))])  # type: ignore[list-item]


@given(st.integers(1, 9), st.integers(1, 9), st.integers(0, 2**32 - 1))
def test_conversion_is_lossless(height: int, width: int, seed: int) -> None:
    photo = noise(height, width, seed)
    photo.flags.writeable = False
    messages = [system_message("s"), user_message("u", [photo]), assistant_message("a")]
    picture = photos_of(to_pil(messages))[0]
    assert isinstance(picture, PIL.Image.Image)
    assert np.array_equal(np.asarray(picture), photo)

    sent = json.loads(json.dumps(to_openai(messages)))
    assert [message["role"] for message in sent] == ["system", "user", "assistant"]
    block, words = sent[1]["content"]
    assert block["type"] == "image_url"
    head, data = block["image_url"]["url"].split(",")
    assert head == "data:image/png;base64"
    assert np.array_equal(np.asarray(PIL.Image.open(io.BytesIO(base64.b64decode(data)))), photo)
    assert words == {"type": "text", "text": "u"}


def test_the_messages_given_stay_as_they_are() -> None:
    photo = noise(2, 2)
    messages = [user_message("u", [photo]), {"role": "assistant", "content": "plain text", "name": "x"}]
    assert to_openai(messages)[1] == to_pil(messages)[1] == messages[1]
    assert photos_of(messages)[0] is messages[0]["content"][0]["image"]


def test_an_opening_has_a_system_turn_only_where_the_template_has_one() -> None:
    photo = noise(2, 2)
    assert [message["role"] for message in opening(IEA_EDIT, {"instruction": "x"}, [photo])] == ["system", "user"]
    (only,) = opening(BARE, {"instruction": "x"}, [photo])
    assert only["content"][1]["text"] == " x"


def test_tools_are_described() -> None:
    lines = describe_tools(IEA).splitlines()
    assert len(lines) == len(IEA.controls)
    assert lines[0].startswith("- exposure (-100..100): ")
    calls = describe_calls(IEA).splitlines()
    assert [line.split("(")[0] for line in calls] == [f"- {tool.name}" for tool in IEA.tools]
    assert calls[0].startswith("- exposure(value: -100..100): ")
    assert any(line.startswith("- finish(): ") for line in calls)
    assert describe_calls(SUMMARY).startswith("- summarize(text: string): ")
    schemas = json.loads(json.dumps(tool_schemas(IEA)))
    assert [schema["function"]["name"] for schema in schemas] == [tool.name for tool in IEA.tools]
    assert {schema["type"] for schema in schemas} == {"function"}
