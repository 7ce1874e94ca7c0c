"""The chat view, for multimodal language models: messages with photos in, the model's text out."""

from __future__ import annotations

import math
from typing import Any, Literal, Unpack, cast

from gymnasium import Space

from retouch_gym.chat.describing import describe_history, describe_photos, describe_recipe
from retouch_gym.chat.formats import MAX_ANSWER, AnswerFormat, get_answer_format
from retouch_gym.chat.messages import Message, assistant_message, opening, user_message
from retouch_gym.chat.prompts import Prompts, PromptsLike, get_prompts
from retouch_gym.envs.base import BaseRetouchEnv
from retouch_gym.envs.engine import one_of
from retouch_gym.envs.options import EnvOptions
from retouch_gym.envs.session import MAX_FEEDBACK, MAX_INSTRUCTION, Session, clip
from retouch_gym.envs.vector import VECTOR_OPTIONS, BaseRetouchVectorEnv
from retouch_gym.envs.view import MAX_RECIPE, Rules, View, read_only
from retouch_gym.errors import ConfigurationError
from retouch_gym.images import fit
from retouch_gym.rewards.base import get_reward
from retouch_gym.rewards.combination import WeightedSum
from retouch_gym.rewards.format import FormatReward
from retouch_gym.spaces import MessagesSpace, TextSpace
from retouch_gym.tasks import Mode
from retouch_gym.tools.base import show
from retouch_gym.types import Image, Unparsable

MAX_TEXT = 4 * (MAX_INSTRUCTION + MAX_FEEDBACK + MAX_RECIPE) + MAX_ANSWER
"""Most characters of a text block."""

NOW, ORIGINAL = "the photo as it is now", "the photo before any edit"

CONTEXT_LABELS: dict[Mode, tuple[str, ...]] = {
    "edit": (),
    "refine": (),
    "summary": ("the photo after the edit",),
    "match": ("the goal",),
    "transfer": ("the example before its edit", "the example after its edit"),
}
"""What the further photos of each mode are, in words."""


class ChatView(View):
    """Conversations with photos. See `ChatEnv` for the arguments."""

    def __init__(
        self,
        *,
        answer_format: str | AnswerFormat = "iea",
        prompts: PromptsLike = None,
        photos: Literal["all", "last"] = "all",
        longest: int | None = None,
    ) -> None:
        one_of("photos", photos, ("all", "last"))
        if longest is not None and (not isinstance(longest, int) or longest < 1):
            raise ConfigurationError(f"longest is {longest!r}; expected a number of pixels of at least 1, or None.")
        self.answer_format = get_answer_format(answer_format)
        self.prompts: Prompts = get_prompts(prompts)
        self.keeps_photos = photos == "all"
        self.longest = longest

    def bind(self, rules: Rules) -> ChatView:
        """See `View.bind`."""
        for mode in rules.modes:
            self.prompts.for_task(mode)
        return super().bind(rules)

    def observation_space(self) -> Space[Any]:
        """Conversations."""
        return MessagesSpace(MAX_TEXT)

    def action_space(self) -> Space[Any]:
        """Texts."""
        return TextSpace(MAX_ANSWER)

    def read(self, action: Any, session: Session) -> tuple[object, str | None]:
        """The calls in the model's text."""
        if not isinstance(action, str):
            return Unparsable(f"expected the answer as a text, got {type(action).__name__}"), show(action)
        parsed = self.answer_format.parse(action, session.task.mode)
        return parsed, clip(action, MAX_ANSWER)

    def observe(self, session: Session) -> tuple[Message, ...]:
        """The conversation so far. The photos are read-only; the messages are new."""
        template = self.prompts.for_task(session.task.mode)
        first = session.photos[0] if session.photos else None
        labels, photos = self._first_photos(session, session.image if first is None else first)
        values = self._values(session, 0) | {
            "tools": self.answer_format.tools(session.tools),
            "guide": self.answer_format.guide(session.task.mode),
            "photos": describe_photos(labels),
        }
        messages = opening(template, values, [self._shown(photo) for photo in photos])
        for number, turn in enumerate(session.turns, 1):
            messages.append(assistant_message(turn.text or ""))
            last = number == len(session.turns)
            image = session.photos[number] if session.photos else session.image
            seen = [self._shown(image)] if (last or session.photos) and session.task.mode != "summary" else []
            following = self._values(session, number) | {"photos": describe_photos([NOW]) if seen else ""}
            messages.append(user_message(template.following(following), seen))
        return tuple(messages)

    def _values(self, session: Session, number: int) -> dict[str, Any]:
        """What the fields of a template stand for at moment `number`."""
        moment = session.moments[number]
        new = number == 0 or moment.requests > session.moments[number - 1].requests
        *earlier, request = session.requests[: moment.requests]
        return {
            "instruction": request,
            "request": request if new else "",
            "history": describe_history((*session.task.history, *earlier)),
            "recipe": describe_recipe(moment.recipe),
            "feedback": moment.feedback,
            "turns_left": session.max_turns - number,
        }

    def _first_photos(self, session: Session, image: Image) -> tuple[list[str], list[Image]]:
        mode = session.task.mode
        context = [photo.load() for photo in session.task.context]
        labels = [NOW, *CONTEXT_LABELS[mode]][: 1 + len(context)]
        photos = [image, *context]
        if mode == "refine":
            return [ORIGINAL, *labels], [session.source, *photos]
        return (["the photo before the edit", *labels[1:]] if mode == "summary" else labels), photos

    def _shown(self, photo: Image) -> Image:
        return read_only(photo if self.longest is None else fit(photo, self.longest))


class ChatOptions(EnvOptions, total=False):
    """Arguments of the chat environments; `ChatEnv` explains them."""

    answer_format: str | AnswerFormat
    prompts: PromptsLike
    photos: Literal["all", "last"]
    longest: int | None
    format_weight: float


def _split(options: ChatOptions) -> tuple[ChatView, EnvOptions]:
    """The view, and the arguments that are left for the environment."""
    rest: dict[str, Any] = dict(options)
    own = {name: rest.pop(name) for name in ("answer_format", "prompts", "photos", "longest") if name in rest}
    weight = rest.pop("format_weight", 0.0)
    if isinstance(weight, bool) or not isinstance(weight, int | float) or not 0 <= weight < math.inf:
        raise ConfigurationError(f"format_weight is {weight!r}; expected a number of at least 0.")
    if weight:
        reward = get_reward(rest.pop("reward", "likeness"), **(rest.pop("reward_kwargs", None) or {}))
        rest["reward"] = WeightedSum([(reward, 1.0), (FormatReward(), float(weight))])
    return ChatView(**own), cast(EnvOptions, rest)


class ChatEnv(BaseRetouchEnv):
    """Retouch a photo in a conversation: messages with photos in, the model's text out.

    ## Description
    The same tasks, rules, rendering and rewards as `RetouchEnv`, for models that read and write text. The
    environment writes the prompt and reads the answer, so that what a model is trained on and what it is
    tested on cannot drift apart.

    ## Action Space
    `TextSpace`: the model's answer as text, special tokens removed, in one of three formats:

    | answer_format | An answer |
    |---|---|
    | ``iea`` | ``<think>too dark</think><answer>{"exposure": 20}</answer>``, the format of IEA |
    | ``tool_call`` | ``<tool_call>{"name": "exposure", "arguments": {"value": 20}}</tool_call>``, as Qwen writes |
    | ``json`` | ``{"reasoning": "too dark", "calls": [{"name": "exposure", "arguments": {"value": 20}}]}`` |

    Reading is strict: an answer that is not in the format costs a turn, changes nothing, and comes back with
    what was found and what was expected. In a summary the answer is words: a call of ``summarize``, or in
    ``iea`` the text inside ``<answer>``.

    ## Observation Space
    `MessagesSpace`: the conversation so far, a tuple of messages whose content is a list of blocks, as Hugging
    Face's and OpenAI's APIs take them: ``{"type": "text", "text": str}`` and
    ``{"type": "image", "image": uint8 (H, W, 3) sRGB}``. `retouch_gym.chat.to_pil` and
    `retouch_gym.chat.to_openai` convert the photos. The conversation only ever grows (with
    ``photos="all"``), so that a prefix that was encoded stays valid.

    ## Rewards
    As `RetouchEnv`, plus ``format_weight`` times the share of turns that were well-formed and not refused; then
    ``info["reward_components"]`` names the parts, ``format.…`` among them.

    ## Starting State
    As `RetouchEnv`: the system turn and the user's first turn with the photo.

    ## Episode End
    As `RetouchEnv`.

    ## Arguments
    >>> import gymnasium, retouch_gym
    >>> env = gymnasium.make("Retouch/Chat-v0", answer_format="json", format_weight=0.1, max_turns=2)
    >>> messages, info = env.reset(seed=0)
    >>> [message["role"] for message in messages]
    ['system', 'user']
    >>> messages, reward, terminated, truncated, info = env.step("brighter!")
    >>> info["tool_error"]
    "the answer is not valid JSON: expecting value at character 0, found 'brighter!'"
    >>> messages, reward, terminated, truncated, info = env.step(
    ...     '{"calls": [{"name": "exposure", "arguments": {"value": 20}}, {"name": "finish", "arguments": {}}]}'
    ... )
    >>> terminated, info["reward_components"]["format.parsed"]
    (True, 0.5)

    Args:
        answer_format: Name, ``"module:attribute"`` or an `AnswerFormat`.
        prompts: What the model is told: None for the built-in prompts, a `PromptTemplate`, `Prompts`, a mapping
            or the path of a JSON file, so that a released checkpoint can be given its own. See
            `retouch_gym.chat.get_prompts`.
        photos: ``"all"`` shows the photo after every turn; ``"last"`` only the first ones and the last.
        longest: Shrink what is shown so that the longer side is at most this many pixels; the edit itself is
            always rendered at full size. None shows every pixel.
        format_weight: Weight of the format in the reward, 0 or more.
        toolset: See `RetouchEnv`, as for all further arguments.

    Raises:
        ConfigurationError: If an argument is not known or the arguments do not go together.
        DatasetError: If the dataset cannot be found or is empty.

    ## Version History
    * v0: first release.
    """

    def __init__(self, **options: Unpack[ChatOptions]) -> None:
        view, rest = _split(options)
        super().__init__(view, **rest)


class ChatVectorEnv(BaseRetouchVectorEnv):
    """Many `ChatEnv` in one: ``gymnasium.make_vec("Retouch/Chat-v0", num_envs=16)``. See `RetouchVectorEnv`."""

    def __init__(self, num_envs: int = 1, **options: Any) -> None:
        own = {name: options.pop(name) for name in VECTOR_OPTIONS if name in options}
        view, rest = _split(cast(ChatOptions, options))
        super().__init__(view, num_envs, **own, **rest)
