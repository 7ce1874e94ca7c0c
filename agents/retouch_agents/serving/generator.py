"""A `Generator` whose model runs behind a server."""

from __future__ import annotations

import asyncio
import itertools
import math
import threading
from collections.abc import Coroutine, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from retouch_agents.encoding import Prompt
from retouch_agents.generation import Completion
from retouch_agents.serving.chat import ChatWire, Write
from retouch_agents.serving.http import GenerationError, JsonClient, malformed
from retouch_agents.serving.settings import EndpointSettings
from retouch_agents.serving.sglang import SGLangWire
from retouch_agents.serving.vllm import VLLMWire
from retouch_agents.serving.wires import SUPPRESSED_BIAS, Sampling, Wire, field_of
from retouch_gym.errors import ConfigurationError
from retouch_reward_models.backends.background import background_loop

Result = TypeVar("Result")

_SEEDS = 2**31
"""Seeds are taken modulo this: servers add the answer's number to them and store them in 64 bits or fewer."""

_PAIR_BIAS = 50.0
"""Added to the logits of two tokens, so that no other has a chance."""

_CLEAR_ODDS = (0.3, 10.0)
"""Log-odds between these tell temperatures apart; below is too little, above drowns in float32's rounding of p."""

_CLOSE_S = 10.0


class EndpointGenerator:
    """Samples from a server, with the contract of `TransformersGenerator.generate`.

    Tokens are those that the server sampled, never text tokenised again; log-probabilities are under the distribution
    that they were drawn from, which is checked once before the first answers. The G answers to a prompt are one request
    where the server allows it, so the prompt is encoded once there too. Answers depend on the seed, but not in the
    way that they do in `TransformersGenerator`: only at temperature 0 do the two give the same.

    Args:
        settings: The server.
        eos_ids: Tokens that end an answer.
        suppressed: Tokens that may not be sampled; those that stand for photos among them, see `placeholder_ids`.
        write: Token ids to text with special tokens; needed for ``wire="chat"`` alone.

    Attributes:
        model: Name that the next answers are asked of: the model's, or the adapter's that was pushed last.

    Raises:
        ConfigurationError: If ``wire="chat"`` has no `write`.

    Example:
        >>> settings = EndpointSettings("Qwen/Qwen2.5-VL-7B-Instruct", "http://127.0.0.1:8000")
        >>> EndpointGenerator(settings, eos_ids=[151645], suppressed=[151655, 151656]).model
        'Qwen/Qwen2.5-VL-7B-Instruct'
    """

    def __init__(
        self,
        settings: EndpointSettings,
        *,
        eos_ids: Sequence[int],
        suppressed: Sequence[int] = (),
        write: Write | None = None,
    ) -> None:
        self.settings = settings
        self.eos_ids = tuple(int(token) for token in eos_ids)
        self.suppressed = tuple(int(token) for token in suppressed)
        self.model = settings.model
        self._wire = _wire(settings, self.suppressed, write)
        self._checked = not settings.check_logprobs
        self._session: tuple[asyncio.AbstractEventLoop, JsonClient] | None = None
        self._opening = threading.Lock()

    def generate(
        self,
        prompts: Sequence[Prompt],
        *,
        group_size: int = 1,
        temperature: float = 1.0,
        max_new_tokens: int = 128,
        seeds: Sequence[int] | None = None,
    ) -> list[Completion]:
        """Draw `group_size` answers to each prompt; may be called from any thread.

        Args:
            prompts: B prompts.
            group_size: Answers per prompt, G.
            temperature: Divides the logits; 0 takes the likeliest token (log-probabilities at temperature 1).
            max_new_tokens: Most tokens of an answer, the end token included.
            seeds: One per prompt; None takes 0, 1, 2, ….

        Returns:
            B · G completions, the G of the first prompt first.

        Raises:
            ValueError: If the number of seeds is not that of the prompts, or a number is out of range.
            GenerationError: If the server left a prompt unanswered. Nothing is returned then, and what was still
                being asked is given up.
        """
        if group_size < 1 or max_new_tokens < 1 or temperature < 0:
            raise ValueError(
                f"group_size = {group_size}, max_new_tokens = {max_new_tokens} should be ≥ 1 and temperature = "
                f"{temperature} ≥ 0."
            )
        chosen = list(range(len(prompts))) if seeds is None else list(seeds)
        if len(chosen) != len(prompts):
            raise ValueError(f"{len(chosen)} seeds for {len(prompts)} prompts; give one each.")
        if not prompts:
            return []
        asked = [
            Sampling(
                # Servers refuse several likeliest answers; there is only one.
                answers=group_size if temperature else 1,
                temperature=temperature,
                max_new_tokens=max_new_tokens,
                seed=int(seed) % _SEEDS,
                eos_ids=self.eos_ids,
                bias=dict.fromkeys(self.suppressed, SUPPRESSED_BIAS),
            )
            for seed in chosen
        ]
        groups = self._run(self._generate(prompts, asked))
        return [answer for group in groups for answer in (group if temperature else group * group_size)]

    def push_adapter(self, folder: str | Path, name: str) -> None:
        """Load a LoRA adapter into the server, answer with it from now on, and unload the one before.

        Args:
            folder: Where peft's `save_pretrained` wrote it; the server opens it under the same path.
            name: Name for it that the server does not have yet, for instance with the weights' version in it.

        Raises:
            ConfigurationError: If the server cannot see the folder, there is no adapter in it, or the name is taken.
            GenerationError: If the server does not load it. The adapter before it stays in use.
        """
        path = Path(folder).resolve()
        if not self.settings.shares_files:
            raise ConfigurationError(
                f"{self.settings.base_url} is another machine, which opens {str(path)!r} only if the folder is shared; "
                "set adapter_folder to a shared folder and write adapters there."
            )
        if not (path / "adapter_config.json").is_file():
            raise ConfigurationError(f"No adapter_config.json in {str(path)!r}; expected a folder saved by peft.")
        before, self.model = self.model, self._run(self._push(path, name))
        if before != self.settings.model:
            self._run(self._unload(before))

    def drop_adapter(self) -> None:
        """Unload the adapter that was pushed last, if any, and answer with the model itself.

        Raises:
            GenerationError: If the server does not unload it.
        """
        before, self.model = self.model, self.settings.model
        if before != self.settings.model:
            self._run(self._unload(before))

    def close(self) -> None:
        """Close the connections. The generator can be used again; it then opens new ones."""
        with self._opening:
            session, self._session = self._session, None
        if session is not None and session[0] is background_loop():
            asyncio.run_coroutine_threadsafe(session[1].close(), session[0]).result(_CLOSE_S)

    async def _generate(self, prompts: Sequence[Prompt], asked: Sequence[Sampling]) -> list[list[Completion]]:
        client = self._client()
        if not self._checked:
            await self._check(client, prompts[0])
            self._checked = True
        tasks = [
            asyncio.ensure_future(self._wire.ask(client, self.model, prompt, sampling))
            for prompt, sampling in zip(prompts, asked, strict=True)
        ]
        try:
            return list(await asyncio.gather(*tasks))
        finally:
            # After a failure the others are given up, so that the server is not busy with answers to nobody.
            for task in tasks:
                task.cancel()

    async def _check(self, client: JsonClient, prompt: Prompt) -> None:
        """Find out whether log-probabilities are those after temperature and logit bias.

        With all but two tokens biased away, the log-odds of the two are d / T for a d that only the prompt sets, so
        they halve from temperature 1 to temperature 2, whichever of the two is drawn.

        Raises:
            GenerationError: If they do not.
        """
        known = {int(token) for token in prompt.input_ids} - {*self.suppressed, *self.eos_ids}
        short = Prompt(np.array([token for token in prompt.input_ids if int(token) in known][-4:], dtype=np.int64))
        for other in itertools.islice(sorted(known), 4):
            pair = dict.fromkeys((self.eos_ids[0], other), _PAIR_BIAS)
            odds = []
            for temperature in (1.0, 2.0):
                sampling = Sampling(1, temperature, 1, 0, self.eos_ids, pair)
                (answer,) = await self._wire.ask(client, self.settings.model, short, sampling)
                odds.append(_log_odds(float(answer.logprobs[0])))
            if max(odds) > _CLEAR_ODDS[1]:
                continue
            if not math.isclose(odds[0], 2.0 * odds[1], rel_tol=0.1, abs_tol=0.05):
                raise GenerationError(
                    f"{self.settings.base_url} returns log-probabilities of another distribution than it draws from: "
                    f"with all but two tokens biased away their log-odds are ±{odds[0]:.3f} at temperature 1 and "
                    f"±{odds[1]:.3f} at 2, expected half of that. Start vLLM with --logprobs-mode processed_logprobs, "
                    "SGLang without SGLANG_RETURN_ORIGINAL_LOGPROB; or pass check_logprobs=False and live with biased "
                    "ratios."
                )
            if odds[0] > _CLEAR_ODDS[0]:
                return

    async def _push(self, folder: Path, name: str) -> str:
        client = self._client()
        if name in await _served(client):
            raise ConfigurationError(f"{self.settings.base_url} serves {name!r} already; push under another name.")
        try:
            await self._wire.load_adapter(client, name, folder)
        except GenerationError:
            # A load whose answer was lost fails when it is tried again, but has succeeded.
            if name not in await _served(client):
                raise
        return name

    async def _unload(self, name: str) -> None:
        await self._wire.unload_adapter(self._client(), name)

    def _client(self) -> JsonClient:
        """The connections, in the loop that runs now."""
        loop = asyncio.get_running_loop()
        with self._opening:
            # After a fork the old connections belong to a loop that no longer runs.
            if self._session is None or self._session[0] is not loop:
                self._session = (loop, JsonClient(self.settings))
            return self._session[1]

    def _run(self, work: Coroutine[Any, Any, Result]) -> Result:
        future = asyncio.run_coroutine_threadsafe(work, background_loop())
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise


def _wire(settings: EndpointSettings, placeholders: Sequence[int], write: Write | None) -> Wire:
    if settings.wire == "vllm":
        return VLLMWire(settings.model, placeholders)
    if settings.wire == "sglang":
        return SGLangWire(settings.model, placeholders, collapse=settings.collapse_placeholders, seeded=settings.seeded)
    if write is None:
        raise ConfigurationError("wire='chat' sends text; pass write=tokenizer.decode of the policy's tokenizer.")
    return ChatWire(settings.model, placeholders, write)


async def _served(client: JsonClient) -> list[str]:
    """Names of the models and adapters that a server has."""

    def read(data: Any) -> list[str]:
        names = [item.get("id") if isinstance(item, dict) else None for item in field_of(data, "data", list)]
        if not all(isinstance(name, str) for name in names):
            raise malformed(f"models {names!r}, expected names")
        return [str(name) for name in names]

    return await client.ask("v1/models", None, read)


def _log_odds(logprob: float) -> float:
    """|log(p / (1 − p))|; infinite where rounding has made p equal to 1."""
    return abs(logprob - math.log(-math.expm1(logprob))) if logprob < 0 else math.inf
