"""A real server with a tiny model that speaks vLLM's, SGLang's and OpenAI's formats, and misbehaves as it is told.

It samples with transformers' own `generate`, so that nothing of what is tested is on both sides.
"""

from __future__ import annotations

import asyncio
import base64
import io
import json
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
import torch
import uvicorn
from peft import PeftModel
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route
from transformers import LogitsProcessor, LogitsProcessorList

from retouch_agents.chat import ChatFormat
from retouch_agents.encoding import Prompt
from retouch_agents.models import load_model, load_processor
from retouch_agents.serving import EndpointGenerator, EndpointSettings
from retouch_agents.tiny import TinySize, build_tiny
from retouch_gym.tools.iea import IEA
from retouch_reward_models.backends import Backoff

WORDS = ("make", "it", "warmer", "a", "little", "brighter", "please", "now")
MODEL = "tiny"


class RefusedError(Exception):
    """The server says 400."""


class Bias(LogitsProcessor):
    """Adds to logits before the temperature divides them, as both servers do."""

    def __init__(self, bias: dict[str, float]) -> None:
        self.bias = {int(token): value for token, value in bias.items()}

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        scores = scores.clone()
        for token, value in self.bias.items():
            scores[:, token] += value
        return scores


class TinyServer:
    """One model, its adapters, and every endpoint. `faults` holds what the next requests for answers meet."""

    def __init__(self, folder: Path) -> None:
        self.processor: Any = load_processor(folder)
        self.base: Any = load_model(folder).eval()
        self.model: Any = self.base
        self.pad = self.base.config.image_token_id
        self._lock = threading.Lock()
        self.reset()
        handlers = {
            "/v1/chat/completions/render": self.render,
            "/inference/v1/generate": self.generate_vllm,
            "/v1/chat/completions": self.chat,
            "/generate": self.generate_sglang,
            "/v1/load_lora_adapter": self.load_vllm,
            "/v1/unload_lora_adapter": self.unload,
            "/load_lora_adapter": self.load_sglang,
            "/unload_lora_adapter": self.unload,
        }
        routes = [Route(path, self._endpoint(path, work), methods=["POST"]) for path, work in handlers.items()]
        app = Starlette(routes=[*routes, Route("/v1/models", self._models)])
        config = uvicorn.Config(app, port=0, log_level="error", timeout_graceful_shutdown=1)
        self.uvicorn = uvicorn.Server(config)
        self._thread = threading.Thread(target=self.uvicorn.run, daemon=True)

    def reset(self) -> None:
        self.faults: list[str | Callable[[Any], Any]] = []
        self.adapters: dict[str, str] = {}
        self.calls: list[tuple[str, dict[str, Any]]] = []
        self.raw_logprobs = False
        self.max_pixels: int | None = None
        self.now = self.peak = 0

    def start(self) -> None:
        self._thread.start()
        while not self.uvicorn.started:
            time.sleep(0.005)
        self.url = f"http://127.0.0.1:{self.uvicorn.servers[0].sockets[0].getsockname()[1]}"

    def bodies(self, path: str) -> list[dict[str, Any]]:
        return [body for called, body in self.calls if called == path]

    def _endpoint(self, path: str, work: Callable[[dict[str, Any]], Any]) -> Callable[[Request], Any]:
        async def endpoint(request: Request) -> Response:
            body = json.loads(await request.body())
            self.calls.append((path, body))
            self.now += 1
            self.peak = max(self.peak, self.now)
            try:
                fault = self.faults.pop(0) if self.faults and "render" not in path else None
                if isinstance(fault, str):
                    return await self._misbehave(fault)
                try:
                    reply = await asyncio.to_thread(self._locked, work, body)
                except RefusedError as error:
                    return JSONResponse({"error": {"message": str(error)}}, 400)
                reply = fault(reply) if fault else reply
                return PlainTextResponse(reply) if isinstance(reply, str) else JSONResponse(reply)
            finally:
                self.now -= 1

        return endpoint

    def _locked(self, work: Callable[[dict[str, Any]], Any], body: dict[str, Any]) -> Any:
        with self._lock, torch.random.fork_rng(devices=[]):
            return work(body)

    async def _models(self, request: Request) -> Response:
        return JSONResponse({"data": [{"id": name} for name in (MODEL, *self.adapters)]})

    async def _misbehave(self, fault: str) -> Response:
        if fault == "hang":
            await asyncio.sleep(30)
        if fault == "cut":
            return StreamingResponse(_cut(), headers={"content-length": "1000"}, media_type="application/json")
        if fault == "no json":
            return Response(b'{"choices": [', media_type="application/json")
        if fault == "html":
            return Response(b"<html>10</html>", media_type="text/html")
        return JSONResponse({"error": {"message": "no"}}, int(fault))

    def render(self, body: dict[str, Any]) -> Any:
        self._adapter(body["model"], known=(MODEL,))
        text = self.processor.apply_chat_template(_plain(body["messages"]), add_generation_prompt=True, tokenize=False)
        photos = _photos(body["messages"])
        encoded = self._encode(text, photos)
        ids = encoded["input_ids"][0].tolist()
        data, start = [], 0
        for grid in encoded["image_grid_thw"]:
            count = int(grid.prod())
            patches = encoded["pixel_values"][start : start + count]
            start += count
            data.append(_packed(pixel_values=patches, image_grid_thw=grid[None]))
        features = {
            "mm_hashes": {"image": [str(index) for index in range(len(photos))]},
            "mm_placeholders": {"image": [{"offset": at, "length": n} for at, n in self._runs(ids)]},
            "kwargs_data": {"image": data},
        }
        return {"request_id": "r", "token_ids": ids, "features": features, "sampling_params": {}}

    def generate_vllm(self, body: dict[str, Any]) -> Any:
        ids, features, params = body["token_ids"], body.get("features"), body["sampling_params"]
        tensors = {}
        if features:
            spans = [(place["offset"], place["length"]) for place in features["mm_placeholders"]["image"]]
            if spans != self._runs(ids):
                raise RefusedError(f"placeholders at {spans}, tokens say {self._runs(ids)}")
            items = [_unpacked(item) for item in features["kwargs_data"]["image"]]
            tensors = {name: np.concatenate([item[name] for item in items]) for name in items[0]}
        self._adapter(body["model"])
        return {"request_id": "r", "choices": self._choices(ids, tensors, params)}

    def chat(self, body: dict[str, Any]) -> Any:
        self._adapter(body["model"])
        text = self.processor.tokenizer.apply_chat_template(
            _plain(body["messages"]), chat_template=body["chat_template"], add_generation_prompt=False, tokenize=False
        )
        encoded = self._encode(text, _photos(body["messages"]))
        ids = encoded.pop("input_ids")[0].tolist()
        choices = self._choices(ids, encoded, body)
        return {"id": "c", "choices": choices, "prompt_token_ids": ids, "usage": {}}

    def _choices(self, ids: list[int], tensors: dict[str, Any], params: dict[str, Any]) -> list[dict[str, Any]]:
        if not params["ignore_eos"] or params["top_k"] != -1 or params["repetition_penalty"] != 1.0:
            raise RefusedError("the distribution would be that of generation_config")
        answers = self._answers(ids, tensors, params, params["max_tokens"], params.get("seed"))
        return [
            {
                "index": index,
                "finish_reason": reason,
                "token_ids": tokens,
                "logprobs": {"content": [{"token": f"token_id:{token}", "logprob": lp} for token, lp in pairs]},
            }
            for index, (tokens, logprobs, reason) in enumerate(answers)
            for pairs in [list(zip(tokens, logprobs, strict=True))]
        ]

    def load_vllm(self, body: dict[str, Any]) -> Any:
        if body["lora_name"] in self.adapters:
            raise RefusedError(f"The lora adapter '{body['lora_name']}' has already been loaded.")
        self.adapters[body["lora_name"]] = body["lora_path"]
        return f"Success: LoRA adapter '{body['lora_name']}' added successfully."

    def generate_sglang(self, body: dict[str, Any]) -> Any:
        params, photos = body["sampling_params"], [_photo(url) for url in body.get("image_data", [])]
        ids = body["input_ids"]
        tensors: dict[str, Any] = {}
        if ids.count(self.pad) != len(photos):
            raise RefusedError(f"prompt has {ids.count(self.pad)} image placeholder tokens but {len(photos)} images")
        if photos:
            encoded = self._encode("<|image_pad|>" * len(photos), photos)
            # One photo's run cannot be told from the next one's in a row of placeholders, but in its grid it can.
            lengths = [int(grid.prod()) // 4 for grid in encoded["image_grid_thw"]]
            ids = [t for token in ids for t in ([token] * (lengths.pop(0) if token == self.pad else 1))]
            encoded.pop("input_ids")
            tensors = encoded
        self._adapter(body.get("lora_path") or MODEL)
        answers = self._answers(ids, tensors, params, params["max_new_tokens"], params.get("sampling_seed"))
        found = [
            {
                "text": "",
                "output_ids": tokens,
                "prompt_token_ids": ids,
                "meta_info": {
                    "finish_reason": {"type": reason},
                    "prompt_tokens": len(ids),
                    "output_token_logprobs": [[lp, token, None] for token, lp in zip(tokens, logprobs, strict=True)],
                },
            }
            for tokens, logprobs, reason in answers
        ]
        return found if params["n"] > 1 else found[0]

    def load_sglang(self, body: dict[str, Any]) -> Any:
        self.adapters[body["lora_name"]] = body["lora_path"]
        return {"success": True, "loaded_adapters": self.adapters}

    def unload(self, body: dict[str, Any]) -> Any:
        # vLLM says so in words, which nobody reads.
        del self.adapters[body["lora_name"]]
        return {"success": True, "loaded_adapters": self.adapters}

    def _adapter(self, name: str, known: tuple[str, ...] = ()) -> None:
        if name not in (known or (MODEL, *self.adapters)):
            raise RefusedError(f"The model `{name}` does not exist.")
        if isinstance(self.model, PeftModel):
            self.model.unload()
        self.model = self.base
        if name in self.adapters:
            self.model = PeftModel.from_pretrained(self.base, self.adapters[name]).eval()

    def _encode(self, text: str, photos: list[Any]) -> dict[str, Any]:
        pixels = (
            {"size": {"shortest_edge": self.max_pixels, "longest_edge": self.max_pixels}} if self.max_pixels else {}
        )
        encoded = self.processor(text=[text], images=photos or None, return_tensors="np", **pixels)
        return {name: encoded[name] for name in ("input_ids", "pixel_values", "image_grid_thw") if name in encoded}

    def _runs(self, ids: list[int]) -> list[tuple[int, int]]:
        places = [index for index, token in enumerate(ids) if token == self.pad]
        starts = [index for index in places if index - 1 not in places]
        return [(start, next(n for n in range(1, len(ids)) if start + n not in places)) for start in starts]

    def _answers(
        self, ids: list[int], tensors: dict[str, Any], params: dict[str, Any], limit: int, seed: int | None
    ) -> list[tuple[list[int], list[float], str]]:
        found = []
        for member in range(params["n"]):
            if seed is not None:
                torch.manual_seed(seed + member)
            found.append(self._answer(ids, tensors, params, limit))
        return found

    @torch.inference_mode()
    def _answer(
        self, ids: list[int], tensors: dict[str, Any], params: dict[str, Any], limit: int
    ) -> tuple[list[int], list[float], str]:
        prompt = torch.tensor([ids])
        drawn = {"temperature": params["temperature"], "top_k": 0} if params["temperature"] else {}
        found = self.model.generate(
            input_ids=prompt,
            attention_mask=torch.ones_like(prompt),
            mm_token_type_ids=(prompt == self.pad).long(),
            **{name: torch.as_tensor(value) for name, value in tensors.items()},
            logits_processor=LogitsProcessorList([Bias(params.get("logit_bias", {}))]),
            max_new_tokens=limit,
            eos_token_id=params["stop_token_ids"],
            pad_token_id=self.processor.tokenizer.pad_token_id,
            output_scores=True,
            output_logits=True,
            return_dict_in_generate=True,
            do_sample=bool(drawn),
            **drawn,
        )
        tokens = found.sequences[0, len(ids) :].tolist()
        logs = torch.stack(found.logits if self.raw_logprobs else found.scores, 1)[0].float().log_softmax(-1)
        logprobs = [float(logs[index, token]) for index, token in enumerate(tokens)]
        return tokens, logprobs, "stop" if tokens[-1] in params["stop_token_ids"] else "length"


async def _cut() -> AsyncIterator[bytes]:
    yield b'{"choices": [{"index": 0'
    raise ConnectionResetError


def _packed(**arrays: Any) -> str:
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return base64.b64encode(buffer.getvalue()).decode()


def _unpacked(text: str) -> dict[str, Any]:
    return dict(np.load(io.BytesIO(base64.b64decode(text))))


def _photo(url: str) -> Any:
    kind, _, data = url.partition(",")
    assert kind == "data:image/png;base64"
    return PIL.Image.open(io.BytesIO(base64.b64decode(data)))


def _photos(messages: list[Any]) -> list[Any]:
    parts = [part for message in messages for part in message["content"]]
    return [_photo(part["image_url"]["url"]) for part in parts if part["type"] == "image_url"]


def _plain(messages: list[Any]) -> list[Any]:
    """As servers hand messages to a template: photos without their data."""
    return [
        {
            **message,
            "content": [{"type": "image"} if part["type"] == "image_url" else part for part in message["content"]],
        }
        for message in messages
    ]


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    size = TinySize(hidden=32, layers=2, heads=2, vision_hidden=16, vision_layers=1)
    return build_tiny(tmp_path_factory.mktemp("served"), IEA, WORDS, size=size)


@pytest.fixture(scope="session")
def tiny_chat(tiny_folder: Path) -> ChatFormat:
    return ChatFormat.from_pretrained(tiny_folder, IEA)


@pytest.fixture(scope="session")
def prompts(tiny_chat: ChatFormat) -> list[Prompt]:
    """Photos of several shapes with requests of several lengths."""
    rng = np.random.default_rng(0)
    sizes = [(64, 64), (48, 96), (96, 32)]
    return [
        tiny_chat.encode(
            {
                "image": rng.integers(0, 256, (*size, 3), dtype=np.uint8),
                "instruction": " ".join(rng.choice(WORDS, count)),
                "recipe": "{}",
                "feedback": "",
                "turns_left": 1,
            }
        )
        for size, count in zip(sizes, (2, 5, 9), strict=True)
    ]


@pytest.fixture(scope="session")
def one_server(tiny_folder: Path) -> Iterator[TinyServer]:
    server = TinyServer(tiny_folder)
    server.start()
    yield server
    server.uvicorn.should_exit = True


@pytest.fixture
def server(one_server: TinyServer) -> TinyServer:
    one_server.reset()
    return one_server


@pytest.fixture
def endpoint(server: TinyServer, tiny_chat: ChatFormat) -> Iterator[Callable[..., EndpointGenerator]]:
    """Makes generators that ask the server, with short waits."""
    made = []

    def make(**options: Any) -> EndpointGenerator:
        options = {"backoff": Backoff(0.01, 0.05), "timeout_s": 30.0, "attempt_timeout_s": 10.0, **options}
        made.append(
            EndpointGenerator(
                EndpointSettings(MODEL, server.url, **options),
                eos_ids=[tiny_chat.eos_id],
                suppressed=[server.pad, server.base.config.video_token_id],
                write=tiny_chat.tokenizer.decode,
            )
        )
        return made[-1]

    yield make
    for generator in made:
        generator.close()
