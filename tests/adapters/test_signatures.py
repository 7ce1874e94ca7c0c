from __future__ import annotations

import inspect
from typing import Any, Literal, get_type_hints

import pydantic
import pytest

from retouch_gym.adapters.signatures import as_method
from retouch_gym.errors import ConfigurationError
from retouch_gym.tools import IEA, Arguments, ToolSpec


class Mask(pydantic.BaseModel):
    """A mask."""

    kind: Literal["linear", "radial"]
    feather: float = 0.5


class Local(Arguments):
    """Arguments of all sorts."""

    amount: float = pydantic.Field(ge=-1, le=1, description="Strength:\n  how much.")
    mask: Mask
    points: list[int] = pydantic.Field(default_factory=list, max_length=4)
    mode: Literal["add", "replace"] = "add"
    name: str | None = None
    on: bool = True


def local() -> ToolSpec:
    return ToolSpec("local", "Edits a part.\nNot the whole.", Local.model_json_schema())


def record(self: Any, name: str, arguments: dict[str, Any]) -> tuple[Any, str, dict[str, Any]]:
    return self, name, arguments


def test_signature_and_hints_say_what_the_schema_says() -> None:
    method = as_method(local(), record)
    parameters = list(inspect.signature(method).parameters.values())
    assert [parameter.name for parameter in parameters] == ["self", *Local.model_fields]
    required = {parameter.name for parameter in parameters[1:] if parameter.default is inspect.Parameter.empty}
    assert required == {"amount", "mask"}
    assert get_type_hints(method) == {
        "amount": float,
        "mask": dict,
        "points": list[int],
        "mode": Literal["add", "replace"],
        "name": str | None,
        "on": bool,
    }


def test_the_docstring_names_the_limits_that_hints_cannot() -> None:
    lines = (as_method(local(), record).__doc__ or "").splitlines()
    assert lines[:3] == ["Edits a part. Not the whole.", "", "Args:"]
    assert lines[3] == "    amount: Strength: how much. From -1 to 1."
    assert '"enum": ["linear", "radial"]' in lines[4]
    assert '"maxItems": 4' in lines[5]


def test_transformers_derives_the_schema_of_every_slider() -> None:
    transformers = pytest.importorskip("transformers.utils")
    for spec in IEA.specs:
        found = transformers.get_json_schema(as_method(spec, record))["function"]
        assert (found["name"], found["description"]) == (spec.name, spec.description)
        assert "return" not in found
        stated: Any = spec.parameters["properties"]
        assert set(found["parameters"]["properties"]) == set(stated)
        assert found["parameters"].get("required", []) == spec.parameters.get("required", [])
        for name, entry in found["parameters"]["properties"].items():
            assert entry["type"] == stated[name]["type"]
            assert entry["description"].startswith(stated[name]["description"])
            assert entry["description"].endswith(f"From {stated[name]['minimum']} to {stated[name]['maximum']}.")


def test_transformers_derives_a_schema_of_nested_arguments() -> None:
    transformers = pytest.importorskip("transformers.utils")
    found = transformers.get_json_schema(as_method(local(), record))["function"]["parameters"]
    assert found["required"] == ["amount", "mask"]
    assert found["properties"]["mask"]["type"] == "object"
    assert found["properties"]["points"]["items"] == {"type": "integer"}
    assert found["properties"]["mode"]["enum"] == ["add", "replace"]


@pytest.mark.parametrize("arguments", [{}, {"self": 1}, {"value": 1, "other": None}, {"with spaces": 2}])
def test_whatever_is_written_reaches_the_call(arguments: dict[str, Any]) -> None:
    method = as_method(IEA.by_name["exposure"].spec, record)
    assert method("me", **arguments) == ("me", "exposure", arguments)


@pytest.mark.parametrize("name", ["reset", "_hidden", "two words", "class", "2nd"])
def test_names_that_are_no_method_are_refused(name: str) -> None:
    with pytest.raises(ConfigurationError, match="Rename it"):
        as_method(ToolSpec(name, "A tool.", {"type": "object", "properties": {}}), record, ("reset",))


def test_arguments_that_are_no_parameter_are_refused() -> None:
    spec = ToolSpec("tool", "A tool.", {"type": "object", "properties": {"from": {"type": "integer"}}})
    with pytest.raises(ConfigurationError, match="argument 'from'"):
        as_method(spec, record)
