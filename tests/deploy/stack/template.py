"""Reads a CloudFormation template and fills in its parameters and conditions, as far as this project's own goes.

https://docs.aws.amazon.com/AWSCloudFormation/latest/TemplateReference/intrinsic-function-reference.html
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

PSEUDO = {
    "AWS::AccountId": "123456789012", "AWS::Partition": "aws", "AWS::Region": "eu-central-1", "AWS::StackName": "gw",
}  # fmt: skip
NOTHING = object()
"""What AWS::NoValue leaves: no entry at all."""


class _Loader(yaml.SafeLoader):
    """Makes `!Sub x` what `{Fn::Sub: x}` is."""


def _short(loader: Any, suffix: str, node: yaml.Node) -> dict[str, Any]:
    construct: Callable[..., Any] = {
        yaml.ScalarNode: loader.construct_scalar,
        yaml.SequenceNode: lambda each: loader.construct_sequence(each, deep=True),
        yaml.MappingNode: lambda each: loader.construct_mapping(each, deep=True),
    }[type(node)]
    value = construct(node)
    if suffix == "GetAtt":
        value = value.split(".", 1)
    return {suffix if suffix == "Ref" else f"Fn::{suffix}": value}


_Loader.add_multi_constructor("!", _short)


class Template:
    """A template with its parameters given; what has a default need not be."""

    def __init__(self, path: Path, **parameters: Any) -> None:
        self.text: dict[str, Any] = yaml.load(path.read_text(), _Loader)
        declared = self.text["Parameters"]
        assert set(parameters) <= set(declared)
        self._values = {name: self._typed(given, parameters.get(name)) for name, given in declared.items()}
        self.conditions = {name: self._fill(value) for name, value in self.text["Conditions"].items()}
        self.resources: dict[str, dict[str, Any]] = {
            name: {"Type": resource["Type"], **self._fill(resource["Properties"])}
            for name, resource in self.text["Resources"].items()
            if self.conditions.get(resource.get("Condition"), True)
        }

    def of_type(self, kind: str) -> dict[str, dict[str, Any]]:
        return {name: resource for name, resource in self.resources.items() if resource["Type"] == kind}

    @staticmethod
    def _typed(declared: dict[str, Any], given: Any) -> Any:
        value = declared.get("Default") if given is None else given
        assert value is not None, declared
        if "AllowedValues" in declared:
            assert value in declared["AllowedValues"]
        if "AllowedPattern" in declared:
            assert re.fullmatch(declared["AllowedPattern"], value)
        if isinstance(value, str) and (
            declared["Type"].startswith("List<") or declared["Type"] == "CommaDelimitedList"
        ):
            return value.split(",")
        return value

    def _fill(self, node: Any) -> Any:
        if isinstance(node, list):
            return [filled for each in node if (filled := self._fill(each)) is not NOTHING]
        if not isinstance(node, dict):
            return node
        if len(node) == 1:
            ((name, argument),) = node.items()
            if name == "Ref" or name.startswith("Fn::"):
                return self._function(name.removeprefix("Fn::"), argument)
            if name == "Condition" and isinstance(argument, str):
                return self.conditions[argument]
        filled = {key: self._fill(value) for key, value in node.items()}
        return {key: value for key, value in filled.items() if value is not NOTHING}

    def _function(self, name: str, argument: Any) -> Any:
        match name:
            case "Ref":
                return self._ref(argument)
            case "GetAtt":
                return f"<{argument[0]}.{argument[1]}>"
            case "If":
                return self._fill(argument[1] if self.conditions[argument[0]] else argument[2])
            case "Join":
                return argument[0].join(str(each) for each in self._fill(argument[1]))
            case "Equals":
                first, second = self._fill(argument)
                return first == second
            case "Not":
                return not self._fill(argument)[0]
            case "Sub":
                return re.sub(r"\$\{([^}]+)\}", lambda found: self._named(found[1]), argument)
        raise ValueError(f"Fn::{name} is not filled in here")

    def _named(self, name: str) -> str:
        return f"<{name}>" if "." in name else str(self._ref(name))

    def _ref(self, name: str) -> Any:
        if name == "AWS::NoValue":
            return NOTHING
        if name in PSEUDO:
            return PSEUDO[name]
        if name in self._values:
            return self._values[name]
        assert name in self.text["Resources"], name
        return f"<{name}>"
