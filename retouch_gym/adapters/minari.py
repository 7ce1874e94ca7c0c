"""Export of recordings to Minari, for offline reinforcement learning with numbers.

With Minari installed (``pip install 'retouch-gym[recording]'``)::

    from retouch_gym.adapters.minari import export

    exported = export("recordings/", "retouch/edits-v0", actions="box", size=36)
    exported.dataset.sample_episodes(4)

Every recorded episode, whichever view it was played in, is played again in the numeric view of
`Retouch/Sliders-v0`: the recorded photos and requests are observed, and each turn becomes the numbers that set
the sliders as the turn did. Rewards, terminations and truncations are the recorded ones; nothing is scored again.
The photo at the end has to be the recorded one, pixel by pixel. An episode that numbers cannot express is skipped,
and the reason given.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from copy import deepcopy
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any, cast

import gymnasium
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from retouch_gym.datasets.recording_format import Header
from retouch_gym.datasets.recordings import RecordedEpisode, RecordedTurn, find_recordings, read_episodes, read_header
from retouch_gym.envs.options import EnvOptions
from retouch_gym.envs.session import Session
from retouch_gym.envs.sliders import SlidersView, to_unit
from retouch_gym.envs.view import Rules
from retouch_gym.errors import ConfigurationError, DatasetError, RetouchError
from retouch_gym.renderers.base import Renderer, get_renderer
from retouch_gym.tools.toolset import Toolset, get_toolset

ENV_ID = "Retouch/Sliders-v0"

CHUNK = 64
"""Episodes that are in memory at once."""


@dataclass(frozen=True)
class Exported:
    """What an export came to.

    Args:
        dataset: The `minari.MinariDataset`.
        episodes: How many episodes it holds.
        skipped: Why each of the others is not in it, by recording and number, such as ``"worker-7/000003"``.
    """

    dataset: Any
    episodes: int
    skipped: Mapping[str, str]


class _InexpressibleError(Exception):
    """Why an episode cannot be expressed in numbers."""


def export(
    folder: str | Path,
    dataset_id: str,
    *,
    toolset: str | Toolset | None = None,
    renderer: str | Renderer | None = None,
    strict: bool = False,
    metadata: Mapping[str, Any] | None = None,
    **view: Any,
) -> Exported:
    """Write recorded episodes as a Minari dataset, which `minari.load_dataset` then finds.

    Photos are stored without loss (Minari's ``jpeg_encoding`` is off). The environment goes into the dataset, for
    ``recover_environment``, where the recording could write all its arguments down and it can be made here. The id
    of the task is the episode's option ``task_id``, which a reset of that environment takes.

    Args:
        folder: Folder of one recording or of many, all of one toolset and with tasks of the same modes.
        dataset_id: Minari's id: ``(namespace/)name-v0``.
        toolset: The toolset of the recipes, where its recorded name is not one of this package.
        renderer: What renders, where its recorded name is not one of this package.
        strict: Whether an episode that cannot be expressed raises.
        metadata: Passed on to `minari.create_dataset_from_buffers`: ``author``, ``description``, ``data_format``, ….
        view: Options of the numeric view, such as ``size``, ``words``, ``actions``, ``sliders``. See `SlidersEnv`.

    Raises:
        ConfigurationError: If Minari is not installed, an option is not known, or the toolset or renderer is not.
        DatasetError: If there is no recording or a line is damaged, recordings do not go together, no episode can
            be expressed, or, with `strict`, one cannot.
        ValueError: From Minari, if the id is malformed or taken.
    """
    create, buffer_type = _minari()
    headers = _headers(Path(folder))
    player = _Player(headers, renderer, _bound(headers, toolset, view))
    skipped: dict[str, str] = {}
    buffers = _buffers(folder, player, buffer_type, skipped, strict)
    first = list(islice(buffers, CHUNK))
    if not first:
        name, why = next(iter(skipped.items()), ("none", "there are none"))
        raise DatasetError(f"No episode below {str(folder)!r} can be exported; the first ({name}): {why}.")
    dataset = create(
        dataset_id,
        first,
        env=_environment(headers, view),
        observation_space=player.view.observation_space(),
        action_space=player.view.action_space(),
        jpeg_encoding=False,
        **dict(metadata or {}),
    )
    while more := list(islice(buffers, CHUNK)):
        dataset.update_dataset_from_buffer(more)
    return Exported(dataset, int(dataset.total_episodes), skipped)


def _minari() -> tuple[Callable[..., Any], Callable[..., Any]]:
    try:
        minari: Any = importlib.import_module("minari")
        collector: Any = importlib.import_module("minari.data_collector")
    except ImportError as error:
        raise ConfigurationError(f"Minari is missing ({error}). pip install 'retouch-gym[recording]'") from error
    return minari.create_dataset_from_buffers, collector.EpisodeBuffer


def _headers(root: Path) -> dict[str, Header]:
    headers = {folder.relative_to(root).as_posix(): read_header(folder) for folder in find_recordings(root)}
    (first, header), *others = headers.items()
    for name, other in others:
        if (other.toolset, other.dataset.modes) != (header.toolset, header.dataset.modes):
            raise DatasetError(
                f"The recordings {first!r} and {name!r} differ in toolset or modes: {header.toolset!r} with "
                f"{header.dataset.modes} and {other.toolset!r} with {other.dataset.modes}. Export them one by one."
            )
    return headers


def _bound(headers: Mapping[str, Header], toolset: str | Toolset | None, options: Mapping[str, Any]) -> SlidersView:
    header = next(iter(headers.values()))
    modes = tuple(mode for mode in header.dataset.modes if mode != "summary")
    if not modes:
        raise DatasetError("These are recordings of summaries, which are words; numbers cannot express them.")
    try:
        view = SlidersView(**options)
    except TypeError as error:
        raise ConfigurationError(f"The numeric view does not take these options: {error}") from error
    return view.bind(Rules(get_toolset(toolset or header.toolset), header.max_turns, modes))


def _environment(headers: Mapping[str, Header], view: Mapping[str, Any]) -> gymnasium.Env[Any, Any] | None:
    """The numeric environment of the recordings; None if it is not the same for all or cannot be made here."""
    notes = [header.environment for header in headers.values()]
    if notes[0].id is None or notes[0].left_out or any(note != notes[0] for note in notes):
        return None
    kwargs = {name: value for name, value in notes[0].kwargs.items() if name in EnvOptions.__annotations__}
    with suppress(RetouchError):
        return gymnasium.make(ENV_ID, **deepcopy(kwargs), **view)
    return None


def _buffers(
    folder: str | Path, player: _Player, buffer_type: Callable[..., Any], skipped: dict[str, str], strict: bool
) -> Iterator[Any]:
    """The episodes that can be expressed, as Minari wants them; adds the others to `skipped`."""
    for episode in read_episodes(folder):
        name = f"{episode.recording}/{episode.number:06d}".removeprefix("./")
        try:
            observations, actions = player.play(episode)
        except _InexpressibleError as error:
            if strict:
                raise DatasetError(f"Episode {name!r} cannot be exported: {error}.") from error
            skipped[name] = str(error)
            continue
        last = len(actions) - 1
        yield buffer_type(
            seed=episode.seeds.reset if episode.seeds.episode == 0 else None,
            options={"task_id": episode.task.id},
            observations=_stack(observations),
            actions=np.stack(actions),
            rewards=[turn.reward for turn in episode.turns],
            terminations=[episode.terminated and number == last for number in range(len(actions))],
            truncations=[episode.truncated and number == last for number in range(len(actions))],
        )


class _Player:
    """Plays recorded episodes again in the numeric view."""

    def __init__(self, headers: Mapping[str, Header], renderer: str | Renderer | None, view: SlidersView) -> None:
        self.headers = headers
        self.view = view
        self.renderers = {name: get_renderer(renderer or header.renderer) for name, header in headers.items()}

    def play(self, episode: RecordedEpisode) -> tuple[list[Any], list[NDArray[Any]]]:
        """Observations before the first turn and after each, and the actions.

        Raises:
            _InexpressibleError: If numbers cannot express the episode.
        """
        if episode.task.mode == "summary":
            raise _InexpressibleError("a summary is words")
        if episode.reward is None:
            raise _InexpressibleError("its reward is not valid")
        renderer, header = self.renderers[episode.recording], self.headers[episode.recording]
        view = self.view.bind(replace(self.view.rules, max_turns=header.max_turns))
        session = Session.start(view.rules.toolset, header.max_turns, episode.task)
        session.show(renderer.render([session.source], [session.recipe])[0])
        observations, actions = [view.observe(session)], []
        for number, turn in enumerate(episode.turns, 1):
            action = _action(view, session, turn, number)
            plan, _ = view.read(action, session)
            if session.act(plan):
                session.show(renderer.render([session.source], [session.recipe])[0])
            if session.recipe != turn.recipe:
                raise _InexpressibleError(
                    f"turn {number} leads to {turn.recipe.to_json()}, in numbers to {session.recipe.to_json()}"
                )
            if turn.requests > len(session.requests):
                session.hear(episode.requests[turn.requests - 1])
            observations.append(view.observe(session))
            actions.append(action)
        if not np.array_equal(session.image, episode.final.load()):
            raise _InexpressibleError(
                f"the photo at the end is another one with renderer {renderer.name!r} as it is here"
            )
        return observations, actions


def _action(view: SlidersView, session: Session, turn: RecordedTurn, number: int) -> NDArray[Any]:
    """The numbers that do what a turn did."""
    if view.actions == "box":
        # A vector sets every slider, so that where a turn led to is all there is to say; what was refused led nowhere.
        return np.array([to_unit(turn.recipe[control.name], control) for control in view.controls], np.float32)
    tool, level = _choice(view, session, turn, number)
    if view.actions == "multi-discrete":
        return np.array([tool, level], cast(spaces.MultiDiscrete, view.action_space()).dtype)
    beyond = tool - len(view.controls)
    return np.array(tool * view.levels + level if beyond < 0 else len(view.controls) * view.levels + beyond, np.int64)


def _choice(view: SlidersView, session: Session, turn: RecordedTurn, number: int) -> tuple[int, int]:
    """The tool and the level of a turn of one call."""
    calls = turn.turn.calls if turn.turn.error is None else ()
    if len(calls) > 1:
        raise _InexpressibleError(f"turn {number} has {len(calls)} calls; a discrete action is one")
    if not calls:
        return _standstill(view, session, number)
    name = calls[0].name
    if name in view.extras:
        return len(view.controls) + view.extras.index(name), 0
    for tool, control in enumerate(view.controls):
        for level in range(view.levels):
            if control.name == name and view.value_of(control, level) == turn.recipe[name]:
                return tool, level
    raise _InexpressibleError(
        f"turn {number} sets {name} to {turn.recipe[name]:g}, which none of {view.levels} levels does"
    )


def _standstill(view: SlidersView, session: Session, number: int) -> tuple[int, int]:
    """A choice that changes nothing, for a turn that did nothing or was refused."""
    for tool, control in enumerate(view.controls):
        for level in range(view.levels):
            if view.value_of(control, level) == session.recipe[control.name]:
                return tool, level
    raise _InexpressibleError(f"turn {number} changes nothing, which no discrete action does here")


def _stack(observations: list[Any]) -> Any:
    if isinstance(observations[0], dict):
        return {name: np.stack([observation[name] for observation in observations]) for name in observations[0]}
    return np.stack(observations)
