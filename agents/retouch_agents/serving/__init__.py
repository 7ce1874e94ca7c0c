"""Sampling from a model behind a server: vLLM, SGLang, or OpenAI's chat API with token ids and log-probabilities."""

from retouch_agents.serving.generator import EndpointGenerator
from retouch_agents.serving.http import GenerationError
from retouch_agents.serving.settings import EndpointSettings

__all__ = ["EndpointGenerator", "EndpointSettings", "GenerationError"]
