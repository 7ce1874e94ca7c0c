"""An episode in progress as JSON, to be gone on with anywhere. No pixels: photos are loaded and rendered again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from retouch_gym.envs.engine import Engine
from retouch_gym.envs.session import Moment, Session
from retouch_gym.envs.slots import Slot
from retouch_gym.errors import RetouchError, StateError
from retouch_gym.recipes.recipe import Recipe
from retouch_gym.tasks import Turn
from retouch_gym.types import JSON, ToolCall

VERSION = 1
"""Version of the format."""


def dump_slot(engine: Engine, slot: Slot) -> dict[str, JSON]:
    """A slot as JSON-able data.

    | key | meaning |
    |---|---|
    | version | 1 |
    | dataset | name, split and number of tasks, so that another dataset is noticed |
    | toolset, max_turns | likewise |
    | rng | state of the generator that draws the tasks (NumPy's ``bit_generator.state``) |
    | over, value, user_seed | see `Slot` |
    | task_id | id of the task; None before the first reset |
    | session | requests, turns, moments, changes, answer, finished; None before the first reset |
    """
    session = slot.session
    return {
        "version": VERSION,
        "dataset": [engine.dataset.name, engine.dataset.split, len(engine.dataset)],
        "toolset": engine.toolset.name,
        "max_turns": engine.max_turns,
        "rng": _plain_rng(slot.rng),
        "over": slot.over,
        "value": slot.value,
        "user_seed": slot.user_seed,
        "task_id": None if session is None else session.task.id,
        "session": None if session is None else _dump_session(session),
    }


def load_slot(engine: Engine, state: Mapping[str, Any]) -> Slot:
    """Inverse of `dump_slot`, for an engine that was built alike.

    Raises:
        StateError: If the state is of another version, dataset or toolset, or is damaged.
        ImageError: If the task's photo cannot be read.
        RendererError: If it cannot be rendered.
    """
    if not isinstance(state, Mapping) or state.get("version") != VERSION:
        found = state.get("version") if isinstance(state, Mapping) else type(state).__name__
        raise StateError(f"The state has version {found!r}; this release reads {VERSION}. Pass what get_state() gave.")
    _check_same(engine, state)
    try:
        value = None if state["value"] is None else float(state["value"])
        slot = Slot(_load_rng(state["rng"]), over=bool(state["over"]), value=value)
        slot.user_seed = int(state["user_seed"])
        if state["session"] is not None:
            slot.index = engine.dataset.index_of(state["task_id"])
            slot.session = _load_session(engine, slot.index, state["session"])
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise StateError(f"The state is damaged ({type(error).__name__}: {error}).") from error
    return slot


def _check_same(engine: Engine, state: Mapping[str, Any]) -> None:
    here = {
        "dataset": [engine.dataset.name, engine.dataset.split, len(engine.dataset)],
        "toolset": engine.toolset.name,
        "max_turns": engine.max_turns,
    }
    for name, value in here.items():
        if state.get(name) != value:
            raise StateError(
                f"The state comes from an environment with {name} = {state.get(name)!r}, this one has {value!r}. "
                "Build both with the same arguments."
            )


def _dump_session(session: Session) -> dict[str, JSON]:
    return {
        "requests": list(session.requests),
        "turns": [
            {
                "calls": [{"name": call.name, "arguments": dict(call.arguments)} for call in turn.calls],
                "error": turn.error,
                "text": turn.text,
                "parsed": turn.parsed,
            }
            for turn in session.turns
        ],
        "moments": [
            {"recipe": moment.recipe.to_dict(), "feedback": moment.feedback, "requests": moment.requests}
            for moment in session.moments
        ],
        "changes": [recipe.to_dict() for recipe in session.changes],
        "answer": session.answer,
        "finished": session.finished,
    }


def _load_session(engine: Engine, index: int, data: Mapping[str, Any]) -> Session:
    session = engine.start(engine.sources.get(index))
    session.requests = [str(request) for request in data["requests"]]
    session.turns = [_turn(turn) for turn in data["turns"]]
    session.moments = [_moment(engine, moment) for moment in data["moments"]]
    session.changes = [_recipe(engine, recipe) for recipe in data["changes"]]
    session.answer, session.finished = data["answer"], bool(data["finished"])
    recipes = [moment.recipe for moment in session.moments]
    wanted = recipes if session.keep_photos else recipes[-1:]
    for image in _render_each(engine, session, wanted):
        session.show(image)
    return session


def _render_each(engine: Engine, session: Session, recipes: Sequence[Recipe]) -> list[Any]:
    images, failures = engine.render([session.source] * len(recipes), recipes)
    if failures:
        raise next(iter(failures.values()))
    return images


def _recipe(engine: Engine, data: Mapping[str, Any]) -> Recipe:
    try:
        return Recipe.from_dict(data).check(engine.toolset)
    except RetouchError as error:
        raise StateError(f"The state holds a recipe that cannot be: {error}") from error


def _moment(engine: Engine, data: Mapping[str, Any]) -> Moment:
    return Moment(_recipe(engine, data["recipe"]), str(data["feedback"]), int(data["requests"]))


def _turn(data: Mapping[str, Any]) -> Turn:
    calls = tuple(ToolCall(call["name"], call["arguments"]) for call in data["calls"])
    return Turn(calls, data["error"], data["text"], bool(data["parsed"]))


def _plain_rng(rng: np.random.Generator) -> dict[str, JSON]:
    state = rng.bit_generator.state
    if state["bit_generator"] != "PCG64":
        raise StateError(f"The generator is a {state['bit_generator']}; only NumPy's default PCG64 can be saved.")
    return {
        "bit_generator": "PCG64",
        "state": {name: int(value) for name, value in state["state"].items()},
        "has_uint32": int(state["has_uint32"]),
        "uinteger": int(state["uinteger"]),
    }


def _load_rng(state: Mapping[str, Any]) -> np.random.Generator:
    rng = np.random.Generator(np.random.PCG64())
    rng.bit_generator.state = {**state, "state": dict(state["state"])}
    return rng
