"""Between tool calls and a chat model: answer formats, prompts, and messages with photos."""

from retouch_gym.chat.describing import (
    describe_calls,
    describe_effects,
    describe_history,
    describe_photos,
    describe_recipe,
    describe_tools,
    tool_schemas,
)
from retouch_gym.chat.formats import ANSWER_FORMATS, AnswerFormat, get_answer_format
from retouch_gym.chat.iea import IEAFormat
from retouch_gym.chat.json_calls import JSONFormat
from retouch_gym.chat.messages import (
    Message,
    assistant_message,
    opening,
    photos_of,
    system_message,
    to_openai,
    to_pil,
    user_message,
)
from retouch_gym.chat.prompts import BARE, IEA_EDIT, PROMPTS, Prompts, get_prompts
from retouch_gym.chat.templates import PromptTemplate
from retouch_gym.chat.tool_call import ToolCallFormat

__all__ = [
    "ANSWER_FORMATS",
    "BARE",
    "IEA_EDIT",
    "PROMPTS",
    "AnswerFormat",
    "IEAFormat",
    "JSONFormat",
    "Message",
    "PromptTemplate",
    "Prompts",
    "ToolCallFormat",
    "assistant_message",
    "describe_calls",
    "describe_effects",
    "describe_history",
    "describe_photos",
    "describe_recipe",
    "describe_tools",
    "get_answer_format",
    "get_prompts",
    "opening",
    "photos_of",
    "system_message",
    "to_openai",
    "to_pil",
    "tool_schemas",
    "user_message",
]
