"""Opening, training and saving: what moves, what travels, and what comes back from the disk."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file
from transformers import AutoModelForImageTextToText, PreTrainedModel

from retouch_agents.chat import ChatFormat
from retouch_agents.encoding import Prompt, collate
from retouch_agents.errors import ModelError
from retouch_agents.finetuning import FineTuning, load_trainable_state, reference_of, trainable_state
from retouch_agents.models import load_model, load_policy, load_processor, save_policy
from retouch_agents.scoring import score
from retouch_gym.errors import ConfigurationError
from retouch_gym.tools import IEA

LORA = FineTuning(lora_rank=4, lora_alpha=8)
ANSWERS = [np.array([35, 39, 42]), np.array([37, 33]), np.array([41, 36, 38, 34])]


def _prompts(folder: Path) -> tuple[list[Prompt], int]:
    chat = ChatFormat.from_pretrained(folder, IEA)
    photo = np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8)
    common = {"image": photo, "recipe": "{}", "feedback": "", "turns_left": 1}
    return [chat.encode({**common, "instruction": text}) for text in ("warmer", "make it brighter")], chat.pad_id


def _score(model: PreTrainedModel, folder: Path) -> torch.Tensor:
    prompts, pad_id = _prompts(folder)
    found = score(model, prompts, [0, 0, 1], ANSWERS, pad_id=pad_id)
    return found.logprobs * found.mask


def _logits(model: torch.nn.Module, folder: Path) -> torch.Tensor:
    prompts, pad_id = _prompts(folder)
    with torch.inference_mode():
        logits: torch.Tensor = model.eval()(**collate(prompts, pad_id)).logits
    return logits


def _train(model: PreTrainedModel, folder: Path, steps: int = 1) -> None:
    model.eval()
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-2, weight_decay=0.0)
    for _ in range(steps):
        optimizer.zero_grad()
        (-_score(model, folder).sum()).backward()
        optimizer.step()


def _moved(model: PreTrainedModel, change: Callable[[], None]) -> tuple[set[str], set[str]]:
    """Names of the parameters that `change` moved, and of those that it left."""
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    change()
    moved = {name for name, parameter in model.named_parameters() if not torch.equal(parameter, before[name])}
    return moved, set(before) - moved


def _trainable(model: PreTrainedModel) -> set[str]:
    return {name for name, parameter in model.named_parameters() if parameter.requires_grad}


def test_every_parameter_that_the_model_uses_moves(family: Path) -> None:
    model = load_policy(family)
    moved, left = _moved(model, lambda: _train(model, family))
    # LLaVA reads the last layer but one of its tower, as published; what comes after has no part in anything.
    unused = {name for name in left if ".vision_tower." in name and (".layers.1." in name or "post_layernorm" in name)}
    assert left == unused
    assert moved | unused == _trainable(model)


def test_a_frozen_tower_stays_and_the_rest_moves(family: Path) -> None:
    model = load_policy(family, FineTuning(freeze_vision=True))
    moved, left = _moved(model, lambda: _train(model, family))
    assert moved == _trainable(model)
    assert all(".vision" in name or ".visual." in name for name in left)
    assert len(left) > 10
    assert any("merger" in name or "projector" in name or "connector" in name for name in moved)


def test_a_frozen_projector_stays(family: Path) -> None:
    model = load_policy(family, FineTuning(freeze_vision=True, freeze_projector=True))
    moved, left = _moved(model, lambda: _train(model, family))
    assert moved == _trainable(model)
    assert all(".language_model." in name or ".text_model." in name or name.startswith("lm_head") for name in moved)
    assert any("merger" in name or "projector" in name or "connector" in name for name in left)


def test_with_lora_the_adapter_alone_moves_and_it_lies_in_the_language_model(family: Path) -> None:
    model = load_policy(family, LORA)
    moved, left = _moved(model, lambda: _train(model, family, steps=2))  # the first step moves B only, as B is 0
    assert moved == _trainable(model)
    assert all(".lora_" in name for name in moved)
    assert all("visual" not in name and "vision" not in name for name in moved)
    assert not any(".lora_" in name for name in left)


@pytest.mark.parametrize("tuning", [FineTuning(), FineTuning(freeze_vision=True), LORA], ids=["full", "tower", "lora"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
def test_the_state_that_travels_is_all_there_is_to_know(qwen: Path, tuning: FineTuning, dtype: torch.dtype) -> None:
    model = load_policy(qwen, tuning, dtype=dtype)
    _train(model, qwen, steps=2)
    state = trainable_state(model)
    assert set(state) >= _trainable(model)
    if tuning.lora:
        whole = sum(tensor.numel() for tensor in model.state_dict().values())
        assert sum(tensor.numel() for tensor in state.values()) < 0.3 * whole
    other = load_policy(qwen, tuning, dtype=dtype)
    # NumPy has no bfloat16: weights travel as float32.
    load_trainable_state(other, {name: torch.from_numpy(t.float().numpy()) for name, t in state.items()})
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, other.state_dict()[name]), name


def test_the_state_does_not_follow_later_training(qwen: Path) -> None:
    model = load_policy(qwen, LORA)
    state = trainable_state(model)
    kept = {name: tensor.clone() for name, tensor in state.items()}
    _train(model, qwen)
    assert all(torch.equal(state[name], kept[name]) for name in kept)


def test_a_state_of_another_fine_tuning_is_refused(qwen: Path) -> None:
    state = trainable_state(load_policy(qwen, FineTuning(freeze_vision=True)))
    with pytest.raises(ModelError, match="same FineTuning"):
        load_trainable_state(load_policy(qwen), state)


def test_a_trained_model_opens_with_transformers(family: Path, tmp_path: Path) -> None:
    model = load_policy(family, FineTuning(freeze_vision=True))
    _train(model, family)
    saved = save_policy(model, family, tmp_path / "saved")
    opened = AutoModelForImageTextToText.from_pretrained(saved)
    assert torch.allclose(_logits(opened, saved), _logits(model, family), atol=1e-5)
    assert not torch.allclose(_logits(load_model(family), family), _logits(model, family), atol=1e-3)


def test_a_trained_adapter_opens_with_peft_and_merged_with_transformers(family: Path, tmp_path: Path) -> None:
    model = load_policy(family, LORA)
    _train(model, family, steps=2)
    expected = _logits(model, family)
    adapter = save_policy(model, family, tmp_path / "adapter")
    assert not (adapter / "model.safetensors").exists()
    base = AutoModelForImageTextToText.from_pretrained(family)
    assert torch.allclose(_logits(PeftModel.from_pretrained(base, str(adapter)), adapter), expected, atol=1e-5)
    assert torch.allclose(_logits(load_model(adapter), adapter), expected, atol=1e-5)
    merged = save_policy(model, family, tmp_path / "merged", merge=True)
    opened = AutoModelForImageTextToText.from_pretrained(merged)
    assert torch.allclose(_logits(opened, merged), expected, atol=1e-5)
    assert (adapter / "retouch_prompt.json").is_file()
    assert (merged / "retouch_prompt.json").is_file()


def test_saving_leaves_the_model_in_training(qwen: Path, tmp_path: Path) -> None:
    model = load_policy(qwen, LORA)
    before = trainable_state(model)
    save_policy(model, qwen, tmp_path / "merged", merge=True)
    assert set(before) == _trainable(model)
    assert all(torch.equal(tensor, before[name]) for name, tensor in trainable_state(model).items())


def test_an_adapter_is_trained_further_and_held_to_where_it_started(qwen: Path, tmp_path: Path) -> None:
    model = load_policy(qwen, LORA)
    _train(model, qwen, steps=2)
    first = save_policy(model, qwen, tmp_path / "first")
    again = load_policy(first, LORA)
    start = _logits(model, qwen)
    assert torch.equal(_logits(again, qwen), start)
    _train(again, qwen, steps=2)
    assert not torch.allclose(_logits(again, qwen), start, atol=1e-3)
    with reference_of(again) as reference:
        assert torch.equal(_logits(reference, qwen), start)
    second = save_policy(again, first, tmp_path / "second")
    assert json.loads((second / "adapter_config.json").read_text())["base_model_name_or_path"] == str(qwen)
    assert torch.allclose(_logits(load_model(second), second), _logits(again, qwen), atol=1e-5)
    assert not any("start" in name for name in load_file(second / "adapter_model.safetensors"))


def test_the_reference_is_the_base_and_costs_no_copy(qwen: Path) -> None:
    model = load_policy(qwen, LORA)
    base = _logits(load_model(qwen), qwen)
    assert torch.allclose(_logits(model, qwen), base, atol=1e-6)  # B = 0
    _train(model, qwen, steps=2)
    trained, trainable, memory = _logits(model, qwen), _trainable(model), len(list(model.parameters()))
    with reference_of(model) as reference:
        assert reference is model
        assert torch.allclose(_logits(reference, qwen), base, atol=1e-6)
    assert torch.equal(_logits(model, qwen), trained)
    assert (_trainable(model), len(list(model.parameters()))) == (trainable, memory)


def test_gradients_survive_a_look_at_the_reference(qwen: Path) -> None:
    gradients = []
    for look in (False, True):
        model = load_policy(qwen, LORA)
        loss = _score(model, qwen).sum()
        if look:
            with reference_of(model) as reference, torch.no_grad():
                _score(reference, qwen)
        loss.backward()
        gradients.append({name: p.grad for name, p in model.named_parameters() if p.grad is not None})
    assert set(gradients[0]) == _trainable(model)
    assert all(torch.equal(gradients[0][name], gradients[1][name]) for name in gradients[0])


def test_a_reference_without_an_adapter_is_refused(qwen: Path) -> None:
    with pytest.raises(ModelError, match="second one"), reference_of(load_policy(qwen)):
        pass


def test_the_random_start_is_the_seeds_and_no_one_elses(qwen: Path) -> None:
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    one = trainable_state(load_policy(qwen, LORA))
    assert torch.equal(torch.rand(3), expected)
    same = trainable_state(load_policy(qwen, LORA))
    other = trainable_state(load_policy(qwen, FineTuning(lora_rank=4, lora_alpha=8, lora_seed=1)))
    assert all(torch.equal(one[name], same[name]) for name in one)
    assert any(not torch.equal(one[name], other[name]) for name in one if "lora_A" in name)


def test_an_adapter_is_float32_beside_bfloat16_weights(qwen: Path, tmp_path: Path) -> None:
    model = load_policy(qwen, LORA, dtype=torch.bfloat16)
    assert {tensor.dtype for tensor in trainable_state(model).values()} == {torch.float32}
    _train(model, qwen, steps=2)
    folder = save_policy(model, qwen, tmp_path)
    again = trainable_state(load_policy(folder, LORA, dtype=torch.bfloat16))
    assert all(torch.equal(tensor, again[name]) for name, tensor in trainable_state(model).items())


def _gradients(family: Path, tuning: FineTuning) -> tuple[dict[str, torch.Tensor], int]:
    """Gradients of a score, and the bytes that were kept for the backward pass."""
    model = load_policy(family, tuning).eval()
    own = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
    kept: dict[int, torch.UntypedStorage] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        total = _score(model, family).sum()
    total.backward()
    assert not any(module.training for module in model.modules())
    size = sum(storage.nbytes() for storage in kept.values())
    return {name: p.grad for name, p in model.named_parameters() if p.grad is not None}, size


@pytest.mark.parametrize("lora", [0, 4], ids=["full", "lora"])
def test_checkpointing_keeps_less_and_gives_the_same_gradients(family: Path, lora: int) -> None:
    kept, memory = _gradients(family, FineTuning(lora_rank=lora))
    computed, less = _gradients(family, FineTuning(lora_rank=lora, gradient_checkpointing=True))
    assert set(kept) == set(computed)
    largest = max(float(gradient.abs().max()) for gradient in kept.values())
    for name, gradient in kept.items():
        assert torch.allclose(gradient, computed[name], rtol=1e-3, atol=1e-6 * largest), name
    assert less < 0.7 * memory


def test_without_gradients_prompts_are_shared_as_ever(qwen: Path) -> None:
    model = load_policy(qwen, FineTuning(gradient_checkpointing=True)).eval()
    with torch.no_grad():
        found = _score(model, qwen)
    assert torch.equal(found, _score(load_policy(qwen).eval(), qwen).detach())
    assert torch.allclose(found, _score(model, qwen).detach(), atol=1e-5)


@pytest.mark.parametrize(
    ("targets", "expected"),
    [
        (("q_proj", "v_proj"), {"q_proj", "v_proj"}),
        (r".*visual\.blocks\.\d+\.attn\.(qkv|proj)", {"qkv", "proj"}),
        ("all-linear", {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}),
    ],
)
def test_targets_are_names_an_expression_or_the_whole_language_model(
    qwen: Path, targets: Any, expected: set[str]
) -> None:
    model = load_policy(qwen, FineTuning(lora_rank=2, lora_targets=targets))
    assert {name.split(".lora_")[0].rpartition(".")[2] for name in _trainable(model)} == expected


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"lora_rank": -1}, "0 .full fine-tuning"),
        ({"lora_alpha": 16}, "set lora_rank"),
        ({"lora_rank": 4, "lora_alpha": 0}, "above 0"),
        ({"lora_rank": 4, "lora_dropout": 1.0}, r"\[0, 1\)"),
        ({"lora_rank": 4, "lora_targets": ()}, "empty"),
        ({"lora_rank": 4, "lora_targets": "("}, "regular expression"),
        ({"attention": "flash"}, "flash_attention_2"),
    ],
)
def test_settings_out_of_range_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        FineTuning(**settings)


def test_settings_from_json_are_the_same(qwen: Path) -> None:
    assert FineTuning(**json.loads('{"lora_rank": 4, "lora_targets": ["q_proj"]}')).lora_targets == ("q_proj",)


def test_targets_that_match_nothing_name_what_there_is(qwen: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"down_proj.*q_proj"):
        load_policy(qwen, FineTuning(lora_rank=4, lora_targets=("query",)))


def test_flash_attention_where_it_is_not_installed_says_what_to_do(qwen: Path) -> None:
    with pytest.raises(ConfigurationError, match="sdpa"):
        load_policy(qwen, FineTuning(attention="flash_attention_2"), dtype=torch.bfloat16)


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_the_kinds_of_attention_agree(qwen: Path, attention: Any) -> None:
    model = load_policy(qwen, FineTuning(attention=attention))
    assert model.config._attn_implementation == attention
    assert torch.allclose(_score(model, qwen), _score(load_model(qwen), qwen), atol=1e-4)


def _adapter(qwen: Path, folder: Path) -> Path:
    return save_policy(load_policy(qwen, LORA), qwen, folder)


def test_pickled_adapters_are_not_opened(qwen: Path, tmp_path: Path) -> None:
    folder = _adapter(qwen, tmp_path)
    (folder / "adapter_model.safetensors").rename(folder / "adapter_model.bin")
    with pytest.raises(ModelError, match="can run code"):
        load_model(folder)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"peft_type": "IA3"}, "plain LORA"),
        ({"megatron_config": {}, "megatron_core": "antigravity"}, "Megatron"),
        ({"base_model_name_or_path": None}, "base_model_name_or_path"),
    ],
)
def test_other_adapters_are_not_opened(qwen: Path, tmp_path: Path, change: dict[str, Any], message: str) -> None:
    folder = _adapter(qwen, tmp_path)
    file = folder / "adapter_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **change}))
    with pytest.raises(ModelError, match=message):
        load_model(folder)


def test_an_adapter_of_another_rank_is_not_trained_further(qwen: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="rank 4"):
        load_policy(_adapter(qwen, tmp_path), FineTuning(lora_rank=8))


@pytest.mark.parametrize("tuning", [None, LORA], ids=["merged", "further"])
def test_an_adapter_of_another_model_is_refused(
    qwen: Path, families: Any, tmp_path: Path, tuning: FineTuning | None
) -> None:
    folder = _adapter(qwen, tmp_path / "adapter")
    file = folder / "adapter_config.json"
    other = families.llava(tmp_path / "llava")
    file.write_text(json.dumps({**json.loads(file.read_text()), "base_model_name_or_path": str(other)}))
    with pytest.raises(ModelError, match="does not fit"):
        load_policy(folder, tuning)


def test_a_base_beside_the_adapter_may_be_named_relatively(qwen: Path, tmp_path: Path) -> None:
    folder = _adapter(qwen, tmp_path / "adapter")
    (tmp_path / "base").symlink_to(qwen)
    file = folder / "adapter_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "base_model_name_or_path": "../base"}))
    assert torch.allclose(_logits(load_model(folder), folder), _logits(load_model(qwen), qwen), atol=1e-5)
    assert load_processor(folder).tokenizer.eos_token_id is not None
