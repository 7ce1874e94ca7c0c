"""Users: the contract by the public checker, the scripted one by what its requests lead to."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Sequence

import numpy as np
import pytest

from retouch_gym import Recipe
from retouch_gym.datasets.reader import follow, read_request
from retouch_gym.datasets.samples import SamplesDataset
from retouch_gym.errors import ConfigurationError, DatasetError
from retouch_gym.images import Pixels, resize
from retouch_gym.renderers import RENDERERS, get_renderer
from retouch_gym.renderers.base import Rendered
from retouch_gym.rewards import pixel_distance
from retouch_gym.tasks import Episode, Task, Turn
from retouch_gym.testing import TinyDataset, TinyRenderer, check_user, make_episode
from retouch_gym.tools import IEA
from retouch_gym.types import Image
from retouch_gym.users import USERS, ScriptedUser, User, get_user
from retouch_gym.users.scripted import thumbnail

NATIVE = get_renderer("native")
TURNS = 6


@pytest.mark.parametrize("name", USERS)
def test_the_public_checker_accepts_every_user(name: str) -> None:
    check_user(name)


@pytest.mark.parametrize("name", USERS)
@pytest.mark.parametrize("renderer", [name for name in RENDERERS if "iea" in get_renderer(name).toolsets])
def test_and_with_every_renderer(name: str, renderer: str) -> None:
    check_user(name, renderer=renderer)


def obey(episode: Episode, request: str) -> Episode:
    """Do exactly what the words say, as a perfect reader takes them."""
    recipe = follow(episode.recipe, request, IEA.controls)
    assert recipe != episode.recipe, f"no one could act on {request!r}"
    done = make_episode(episode.task, recipe, episode.renderer)
    return dataclasses.replace(done, turns=(*episode.turns, Turn()))


def distance(episode: Episode) -> float:
    assert episode.reference is not None
    return pixel_distance(episode.image, episode.reference)


@pytest.mark.parametrize(("kind", "least"), [("instruct", 0.8), ("restore", 0.7)])
def test_whoever_does_as_told_comes_near_the_reference(kind: str, least: float) -> None:
    user = ScriptedUser()
    episodes = [make_episode(task, Recipe("iea"), NATIVE) for task in SamplesDataset("test", size=30, kinds=[kind])]
    path = [[distance(episode)] for episode in episodes]
    for _ in range(TURNS):
        replies = user.reply(episodes, range(len(episodes)))
        episodes = [
            episode if reply is None else obey(episode, reply) for episode, reply in zip(episodes, replies, strict=True)
        ]
        for steps, episode in zip(path, episodes, strict=True):
            steps.append(distance(episode))
    falling = [all(after <= before for before, after in itertools.pairwise(steps)) for steps in path]
    halved = [steps[-1] < steps[0] / 2 for steps in path]
    assert np.mean(falling) >= 0.95
    assert np.mean(halved) >= least
    assert np.mean([reply is None for reply in user.reply(episodes, range(len(episodes)))]) >= 0.9


def flat_task(recipe: Recipe) -> Task:
    photo = TinyDataset()[0].photo
    return Task("flat", photo, "fix this photo.", reference=Rendered(photo, recipe))


@pytest.mark.parametrize(
    ("controls", "expected"),
    [
        ({"temperature": 60}, {"temperature": 60}),
        ({"brightness": -40}, {"brightness": -40}),
        ({"vignette": 80}, {"vignette": 80}),
        ({"saturation": -80}, {"saturation": -80}),
        ({"fade": 60}, {"fade": 60}),
    ],
)
def test_it_asks_for_what_is_missing(controls: dict[str, float], expected: dict[str, int]) -> None:
    episode = make_episode(flat_task(Recipe("iea", controls)), Recipe("iea"), NATIVE)
    for seed in range(5):
        (reply,) = ScriptedUser().reply([episode], [seed])
        assert reply is not None
        assert read_request(reply) == expected


def test_it_asks_to_take_back_what_was_overdone_and_to_go_on_from_there() -> None:
    task = flat_task(Recipe("iea", {"temperature": 20, "brightness": 20}))
    episode = make_episode(task, Recipe("iea", {"temperature": 80, "brightness": 20}), NATIVE)
    (reply,) = ScriptedUser().reply([episode], [0])
    assert reply is not None
    assert read_request(reply) == {"temperature": -60}
    assert ScriptedUser().reply([obey(episode, reply)], [0]) == [None]


def test_the_seed_and_the_turn_choose_the_words_only() -> None:
    episode = make_episode(TinyDataset()[0], Recipe("iea"), TinyRenderer())
    later = dataclasses.replace(episode, turns=(Turn(), Turn(error="refused")))
    replies = [reply for seed in range(12) for reply in ScriptedUser().reply([episode, later], [seed, seed])]
    assert len(set(replies)) > 6
    meanings = {tuple(read_request(reply or "").items()) for reply in replies}
    assert len(meanings) == 1


def test_tolerance_margin_and_sliders() -> None:
    task = flat_task(Recipe("iea", {"temperature": 20}))
    episode = make_episode(task, Recipe("iea"), NATIVE)
    assert ScriptedUser(tolerance=0.001).reply([episode], [0]) != [None]
    assert ScriptedUser(tolerance=0.3).reply([episode], [0]) == [None]
    assert ScriptedUser(tolerance=0, margin=0.3).reply([episode], [0]) == [None]
    only = ScriptedUser(tolerance=0, margin=0, sliders=("tint", "exposure"))
    (reply,) = only.reply([episode], [0])
    assert reply is None or set(read_request(reply)) <= {"tint", "exposure"}


def test_a_slider_at_its_end_is_moved_no_further() -> None:
    task = Task("white", TinyDataset()[0].photo, "", reference=Pixels(np.full((24, 32, 3), 255, np.uint8)))
    full = Recipe("iea", {"exposure": 100, "brightness": 100})
    user = ScriptedUser(tolerance=0, margin=0, sliders=("exposure", "brightness"))
    assert user.reply([make_episode(task, full, NATIVE)], [0]) == [None]


def test_a_reference_of_another_size_is_looked_at_too() -> None:
    task = TinyDataset()[0]
    assert task.reference is not None
    larger = dataclasses.replace(task, reference=Pixels(resize(task.reference.load(), 96, 72)))
    episodes = [make_episode(one, Recipe("iea"), TinyRenderer()) for one in (task, larger)]
    small, large = (read_request(reply or "") for reply in ScriptedUser().reply(episodes, [0, 0]))
    assert small == large != {}


def test_of_a_summary_it_asks_nothing() -> None:
    task = dataclasses.replace(TinyDataset()[0], mode="summary", reference=None)
    assert ScriptedUser().reply([make_episode(task, Recipe("iea"), TinyRenderer())], [0]) == [None]


def test_one_render_batch_for_all_episodes() -> None:
    class Counting(TinyRenderer):
        batches = 0

        def render(self, photos: Sequence[Image], recipes: Sequence[Recipe]) -> list[Image]:
            self.batches += 1
            assert all(max(photo.shape) <= 64 for photo in photos)
            return super().render(photos, recipes)

    renderer = Counting()
    episodes = [make_episode(task, Recipe("iea"), TinyRenderer()) for task in TinyDataset()]
    ScriptedUser().reply([dataclasses.replace(episode, renderer=renderer) for episode in episodes], [0, 1, 2, 3])
    assert renderer.batches == 1


def test_thumbnails_take_pixels_and_are_bounded() -> None:
    image = np.random.default_rng(0).integers(0, 256, (130, 65, 3), dtype=np.uint8)
    assert np.array_equal(thumbnail(image), image[::3, ::3])
    assert np.array_equal(thumbnail(image[:64]), image[:64:2, ::2])
    assert thumbnail(image[:64, :64]).shape == (64, 64, 3)
    assert thumbnail(image[:1]).shape == (1, 33, 3)


def test_what_cannot_be_looked_at_or_spoken_of_is_refused() -> None:
    episode = make_episode(TinyDataset()[0], Recipe("iea"), TinyRenderer())
    blind = dataclasses.replace(episode, task=dataclasses.replace(episode.task, reference=None))
    with pytest.raises(DatasetError, match=r"'tiny/train/0' has no reference"):
        ScriptedUser().reply([blind], [0])
    with pytest.raises(ConfigurationError, match="'summary' has none of them"):
        ScriptedUser().reply([dataclasses.replace(episode, recipe=Recipe("summary"))], [0])
    with pytest.raises(ValueError, match="zip"):
        ScriptedUser().reply([episode], [0, 1])


@pytest.mark.parametrize(
    "options", [{"tolerance": -0.1}, {"margin": 2}, {"sliders": ()}, {"sliders": "tint"}, {"sliders": ("grain",)}]
)
def test_options_without_meaning_are_refused(options: dict[str, object]) -> None:
    with pytest.raises(ConfigurationError, match=f"ScriptedUser {next(iter(options))}"):
        get_user("scripted", **options)


def test_names_of_users() -> None:
    ready = ScriptedUser()
    assert get_user(ready) is ready
    assert isinstance(get_user("retouch_gym.users.scripted:ScriptedUser"), ScriptedUser)
    with pytest.raises(ConfigurationError, match="Did you mean 'scripted'"):
        get_user("script")
    with pytest.raises(ConfigurationError, match="need the name of a user"):
        get_user(ready, tolerance=0.1)
    with pytest.raises(ConfigurationError, match="does not take these options"):
        get_user("scripted", mood="good")


class Grumpy(ScriptedUser):
    def reply(self, episodes: Sequence[Episode], seeds: Sequence[int]) -> list[str | None]:
        return [reply or "no." for reply in super().reply(episodes, seeds)]


class Easy(ScriptedUser):
    def reply(self, episodes: Sequence[Episode], seeds: Sequence[int]) -> list[str | None]:
        return [None for _ in episodes]


class Crowd(ScriptedUser):
    def reply(self, episodes: Sequence[Episode], seeds: Sequence[int]) -> list[str | None]:
        return [reply and f"{reply} {len(episodes)}" for reply in super().reply(episodes, seeds)]


class Forgetful(ScriptedUser):
    def __init__(self, greeting: str = "hello, ") -> None:
        super().__init__()
        self.greeting = greeting

    def __reduce__(self) -> tuple[type[Forgetful], tuple[str]]:
        return (Forgetful, ("",))

    def reply(self, episodes: Sequence[Episode], seeds: Sequence[int]) -> list[str | None]:
        return [reply and self.greeting + reply for reply in super().reply(episodes, seeds)]


class Mute(ScriptedUser):
    def reply(self, episodes: Sequence[Episode], seeds: Sequence[int]) -> list[str | None]:
        return [reply and " " for reply in super().reply(episodes, seeds)]


@pytest.mark.parametrize(
    ("user", "complaint"),
    [
        (Grumpy(), "sees the reference of"),
        (Easy(), "content with the untouched"),
        (Crowd(), "asked alone"),
        (Forgetful(), "pickled copy"),
        (Mute(), "expected words or None"),
    ],
)
def test_a_broken_user_is_caught(user: User, complaint: str) -> None:
    with pytest.raises(AssertionError, match=complaint):
        check_user(user)
