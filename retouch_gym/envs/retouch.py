"""The environment: retouch one photo by instruction, call by call."""

from __future__ import annotations

from typing import Unpack

from retouch_gym.envs.base import BaseRetouchEnv
from retouch_gym.envs.options import EnvOptions
from retouch_gym.envs.view import StructuredView


class RetouchEnv(BaseRetouchEnv):
    """Retouch a photo by instruction with tools that set sliders.

    ## Description
    The agent sees a photo and a request, such as "make it warmer and a little brighter". In each turn
    it calls tools of a toolset. The calls fold into a recipe: a later value of a slider replaces the
    earlier one, nothing is applied twice, and the photo is always rendered anew from the original. When
    the agent calls ``finish``, or its turns are used up, the result is scored. With ``max_turns=1`` the
    task is single-shot: one plan, one reward.

    `task` chooses what is asked (see `retouch_gym.tasks.Mode`): to edit; to refine an earlier edit, with
    which the episode begins; to say what was asked for, where before and after are shown (the only call is
    then ``summarize``); to match a goal photo that is shown; to transfer the edit of an example to another
    photo. With a `user` the episode is a conversation: after every turn that was not refused the user looks
    at the photo and asks for the next change, until content or out of turns; ``finish`` then asks the
    user, who may want more.

    ## Action Space
    `PlanSpace(toolset)`: a structured action, no text and no vector.

    | Action | Meaning |
    |---|---|
    | `ToolCall(name, arguments)` | one call |
    | list or tuple of `ToolCall` | a plan of at most 64 calls, applied together or not at all; one turn |
    | `Unparsable(reason, text)` | the agent's answer held no call; `reason` becomes feedback |

    With ``toolset="iea"`` there are 16 sliders that take ``{"value": int}``, −100..100 with 0 = untouched
    (fade and grain 0..100), ``finish``, and ``undo``, which takes back the last change. An unknown tool, a bad
    argument, or anything that is no action at all is never an exception: it costs a turn, changes nothing,
    and is explained in ``feedback`` and ``info["tool_error"]``.

    ## Observation Space
    A `Dict` of:

    | Key | Space | Meaning |
    |---|---|---|
    | image | uint8 (H, W, 3) | the photo as it is now, sRGB, 0..255 |
    | original | uint8 (H, W, 3) | the photo before any edit |
    | context | tuple of uint8 (H, W, 3) | further photos: the goal, an example before and after, the photo after |
    | task | text | what is asked: edit, refine, summary, match or transfer |
    | instruction | text | what the user asks for now |
    | history | text | earlier requests, a JSON list, the oldest first |
    | feedback | text, ≤ 2000 characters | what came of the last turn; empty at the start |
    | recipe | text | what is set: JSON object of control to value; curves, crop and locals where there are any |
    | turns_left | 0..max_turns | turns until the episode ends by itself |

    H and W are the photo's and differ from task to task. The arrays are read-only views; copy them before
    writing. The task's reference and known recipe are hidden.

    ## Rewards
    0.0 before the end. At the end the value of the `Reward`, whose range depends on the reward: with
    ``"likeness"`` −1..1, 0 for the untouched photo and 1 for the reference exactly. With
    ``reward_mode="delta"`` every turn from state s to s' pays γΦ(s') − Φ(s), the potential-based shaping of Ng,
    Harada & Russell (1999) with the reward as the potential Φ and γ the `discount`. The discounted return of an
    episode of T turns is then γᵀΦ(s_T) − Φ(s₀), which is γ times that of ``"final"`` less what the first photo is
    worth: which policy is best stays the same. A reward that fails raises `RewardError`; with
    ``on_reward_error="truncate"`` the step returns 0.0, truncated, and ``info["reward_valid"]`` is False: that
    0.0 is a placeholder which a trainer has to mask.

    A reward whose `scope` is ``"group"`` ranks the episodes of a task against each other. It needs groups that are
    scored whole: a vector environment with a ``group_size`` and ``max_turns=1``, or GRPO's runner. A single
    environment refuses it.

    ``info`` always has ``task_id``, ``kind`` and ``tool_error`` (None or a text); at the end also
    ``finished``, ``recipe`` (a `Recipe`), ``reward_valid``, ``reward_components``, ``reward_details`` (a mapping
    with whatever else the reward noted, a judge's rationale for instance), and, if the reward failed,
    ``reward_error``.

    ## Starting State
    A task drawn uniformly from the dataset by the environment's generator, with an empty recipe. The same
    seed gives the same episode bit for bit, in any process. ``reset(options={"task_id": "…"})`` or
    ``{"index": 3}`` chooses the task, so that a group of episodes can share one.

    ## Episode End
    Termination: the agent called ``finish`` (alone or in a plan), the user is content, or no turns are left.
    The limit is part of the task and observed, so reaching it terminates and does not truncate;
    ``info["finished"]`` tells the two apart. Truncation: only for a reward or renderer that failed with
    ``on_reward_error="truncate"``.

    ## Arguments
    >>> import gymnasium, retouch_gym
    >>> from retouch_gym import ToolCall
    >>> env = gymnasium.make("Retouch/Retouch-v0", dataset="samples", reward="likeness", max_turns=4)
    >>> obs, info = env.reset(seed=0)
    >>> obs, reward, terminated, truncated, info = env.step(ToolCall("exposure", {"value": 400}))
    >>> info["tool_error"]
    'exposure: value = 400 should be less than or equal to 100'
    >>> obs, reward, terminated, truncated, info = env.step(
    ...     [ToolCall("exposure", {"value": 40}), ToolCall("temperature", {"value": -10})]
    ... )
    >>> obs["recipe"], obs["turns_left"]
    ('{"exposure": 40, "temperature": -10}', 2)
    >>> obs, reward, terminated, truncated, info = env.step(ToolCall("finish"))
    >>> terminated, info["finished"], -1 <= reward <= 1
    (True, True, True)

    Args:
        toolset: Name or `Toolset`.
        dataset: Name such as ``"samples"`` or ``"folder:photos/"``, ``"module:attribute"``, or a `Dataset`.
        dataset_kwargs: Options for a dataset given by name.
        task: What is asked of the agent, one mode or several in turn; None leaves it to the dataset.
        user: None, or the name or object of a `User` with whom the episode is a conversation, such as
            ``"scripted"``.
        user_kwargs: Options for a user given by name.
        reward: Name, ``"module:attribute"`` or a `Reward`.
        reward_kwargs: Options for a reward given by name.
        reward_mode: ``"final"``, or ``"delta"`` to pay every turn what it gained.
        discount: γ of ``reward_mode="delta"``, 0..1: the one that the trainer discounts with.
        renderer: Name, ``"module:attribute"`` or a `Renderer`.
        max_turns: Turns of an episode, 1 or more.
        on_reward_error: ``"raise"``, or ``"truncate"`` to go on and mask.
        cache_mb: Most megabytes (2²⁰ bytes) of source photos and references kept in memory.
        render_mode: None, ``"rgb_array"`` (before, after and reference side by side) or ``"ansi"``.

    Raises:
        ConfigurationError: If an argument is not known or the arguments do not go together.
        DatasetError: If the dataset cannot be found or is empty.

    ## Version History
    * v0: first release.
    """

    def __init__(self, **options: Unpack[EnvOptions]) -> None:
        super().__init__(StructuredView(), **options)
