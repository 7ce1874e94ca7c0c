"""Serves a model with what ``transformers serve`` lacks: log-probabilities, and status 400 for what is no photo.

``python launch_own.py FOLDER PORT``
"""

from __future__ import annotations

import base64
import io
import sys
import threading
from typing import Any

import PIL.Image
import torch
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from transformers import AutoModelForImageTextToText, AutoProcessor

from retouch_agents.tiny import register_tiny_processor


class Server:
    def __init__(self, folder: str) -> None:
        register_tiny_processor()
        self.processor = AutoProcessor.from_pretrained(folder)
        self.model = AutoModelForImageTextToText.from_pretrained(folder, dtype=torch.float32).eval()
        self.lock = threading.Lock()

    def health(self, request: Request) -> Response:
        return JSONResponse({"status": "ok"})

    async def complete(self, request: Request) -> Response:
        body = await request.json()
        try:
            messages = [{**turn, "content": [_block(block) for block in turn["content"]]} for turn in body["messages"]]
        except (ValueError, KeyError, OSError) as error:
            return JSONResponse({"error": {"message": f"no photo: {error}"}}, 400)
        return JSONResponse(self.answer(messages, body))

    @torch.inference_mode()
    def answer(self, messages: list[dict[str, Any]], body: dict[str, Any]) -> dict[str, Any]:
        inputs = self.processor.apply_chat_template(
            messages, add_generation_prompt=True, tokenize=True, return_dict=True, return_tensors="pt"
        )
        sampling = {"do_sample": True, "temperature": body["temperature"]} if body["temperature"] else {}
        with self.lock, torch.random.fork_rng(devices=[]):
            torch.manual_seed(body.get("seed", 0))
            out = self.model.generate(
                **inputs,
                max_new_tokens=body["max_tokens"],
                return_dict_in_generate=True,
                output_logits=True,
                **({"do_sample": False} | sampling),
            )
        asked = inputs["input_ids"].shape[1]
        ids = out.sequences[0, asked:].tolist()
        ended = ids[-1] == self.model.generation_config.eos_token_id
        choice = {
            "index": 0,
            "message": {"role": "assistant", "content": self.processor.decode(ids[: len(ids) - ended])},
            "finish_reason": "stop" if ended else "length",
        }
        if body.get("logprobs"):
            choice["logprobs"] = {"content": self.logprobs(ids, out.logits, body["top_logprobs"])}
        return {"choices": [choice], "usage": {"prompt_tokens": asked, "completion_tokens": len(ids)}}

    def logprobs(self, ids: list[int], logits: tuple[torch.Tensor, ...], count: int) -> list[dict[str, Any]]:
        entries = []
        for token, row in zip(ids, logits, strict=True):
            values = row[0].log_softmax(-1)
            top = [self.entry(other, values) for other in values.topk(count).indices.tolist()]
            entries.append({**self.entry(token, values), "top_logprobs": top})
        return entries

    def entry(self, token: int, values: torch.Tensor) -> dict[str, Any]:
        return {"token": self.processor.decode([token]), "logprob": values[token].item()}


def _block(block: dict[str, Any]) -> dict[str, Any]:
    if block["type"] == "text":
        return block
    data = block["image_url"]["url"].partition("base64,")[2]
    return {"type": "image", "image": PIL.Image.open(io.BytesIO(base64.b64decode(data, validate=True)))}


if __name__ == "__main__":
    torch.set_num_threads(1)
    own = Server(sys.argv[1])
    routes = [Route("/health", own.health), Route("/v1/chat/completions", own.complete, methods=["POST"])]
    uvicorn.run(Starlette(routes=routes), host="127.0.0.1", port=int(sys.argv[2]), log_level="warning")
