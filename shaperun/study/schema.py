"""JSON Schema of study files for editors, with every term and every hyperparameter."""

from __future__ import annotations

from typing import Any

from shaperun.envs.builtin import environments
from shaperun.study.learners import LEARNERS
from shaperun.study.models import Study


def json_schema() -> dict[str, Any]:
    """Return the schema as plain data (JSON Schema 2020-12)."""
    schema = Study.model_json_schema(mode="validation")
    definitions = schema["$defs"]
    training = definitions["TrainingConfig"]
    training["allOf"] = [_hyperparameters(name, definitions) for name in LEARNERS]
    # An arm's training section has only keys that differ, and may leave the algorithm to the study.
    common = {k: v for k, v in training.items() if k not in ("allOf", "required", "description")}
    properties = {k: v for k, v in training["properties"].items() if k != "total_timesteps"}
    definitions["ArmTraining"] = {**common, "title": "ArmTraining", "properties": properties}
    definitions["Arm"]["properties"]["training"]["anyOf"][0] = {"$ref": "#/$defs/ArmTraining"}
    # An arm may change parameters of the study's terms.
    [terms] = definitions["Arm"]["properties"]["terms"]["patternProperties"].values()
    parameters = definitions["FormulaTerm"]["additionalProperties"]
    terms["oneOf"].append(
        {"type": "object", "additionalProperties": parameters, "minProperties": 1}
    )
    # Suggest the declared environments; any other id of gymnasium is valid too.
    definitions["EnvironmentConfig"]["properties"]["id"]["anyOf"] = [
        {"enum": list(environments())},
        {"type": "string"},
    ]
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "A shaperun study",
        **{key: value for key, value in schema.items() if key not in ("title", "description")},
        "allOf": [_terms(name) for name in environments()],
    }


def _hyperparameters(algorithm: str, definitions: dict[str, Any]) -> dict[str, Any]:
    """Return the condition for an algorithm; the first of the registry is the default."""
    schema = LEARNERS[algorithm].hyperparameters.model_json_schema()
    definitions.update(schema.pop("$defs", {}))
    chosen = {"properties": {"algorithm": {"const": algorithm}}}
    if algorithm != next(iter(LEARNERS)):
        chosen["required"] = ["algorithm"]  # type: ignore[assignment]
    return {"if": chosen, "then": {"properties": {"hyperparameters": schema}}}


def _terms(env_id: str) -> dict[str, Any]:
    """Return the condition for an environment: its terms with their formulas."""
    terms = environments()[env_id].built_in.values()
    known = {term.name: {"type": "number", "description": term.formula} for term in terms}
    arm = {"properties": {"weights": {"properties": known}}}
    # Unknown names are mistakes unless the study or the arm defines terms.
    closed = {"properties": {"weights": {"propertyNames": {"enum": list(known)}}}}
    defines = {"required": ["terms"]}
    chosen = {"properties": {"environment": {"properties": {"id": {"const": env_id}}}}}
    then = {
        "properties": {"arms": {"additionalProperties": arm}},
        "if": defines,
        "else": {"properties": {"arms": {"additionalProperties": {"if": defines, "else": closed}}}},
    }
    return {"if": chosen, "then": then}
