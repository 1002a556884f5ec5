"""The JSON Schema of a study file, for editors: with every term and every hyperparameter."""

from __future__ import annotations

from typing import Any

from shaperun.envs.builtin import environments
from shaperun.study.learners import LEARNERS
from shaperun.study.models import Study


def json_schema() -> dict[str, Any]:
    """The schema as a plain document (JSON Schema 2020-12)."""
    schema = Study.model_json_schema(mode="validation")
    definitions = schema["$defs"]
    training = definitions["TrainingConfig"]
    training["allOf"] = [_hyperparameters(name, definitions) for name in LEARNERS]
    # Of an arm's own recipe only what differs stands there, and whose hyperparameters they are may
    # be said elsewhere.
    own = {k: v for k, v in training.items() if k not in ("allOf", "required", "description")}
    properties = {k: v for k, v in training["properties"].items() if k != "total_timesteps"}
    definitions["ArmTraining"] = {**own, "title": "ArmTraining", "properties": properties}
    definitions["Arm"]["properties"]["training"]["anyOf"][0] = {"$ref": "#/$defs/ArmTraining"}
    # Any other that gymnasium has will do; these are worth suggesting.
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
    """What holds where the algorithm is this one; the first is the default."""
    schema = LEARNERS[algorithm].hyperparameters.model_json_schema()
    definitions.update(schema.pop("$defs", {}))
    chosen = {"properties": {"algorithm": {"const": algorithm}}}
    if algorithm != next(iter(LEARNERS)):
        chosen["required"] = ["algorithm"]  # type: ignore[assignment]
    return {"if": chosen, "then": {"properties": {"hyperparameters": schema}}}


def _terms(env_id: str) -> dict[str, Any]:
    """What holds where the environment is this one: its terms, with their formulas."""
    terms = environments()[env_id].built_in.values()
    known = {term.name: {"type": "number", "description": term.formula} for term in terms}
    arm = {"properties": {"weights": {"properties": known}}}
    # Names that are not known are mistakes, unless terms of the study's own are defined.
    closed = {"properties": {"weights": {"propertyNames": {"enum": list(known)}}}}
    defines = {"required": ["terms"]}
    chosen = {"properties": {"environment": {"properties": {"id": {"const": env_id}}}}}
    then = {
        "properties": {"arms": {"additionalProperties": arm}},
        "if": defines,
        "else": {"properties": {"arms": {"additionalProperties": {"if": defines, "else": closed}}}},
    }
    return {"if": chosen, "then": then}
