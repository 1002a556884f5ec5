"""Parameters of formulas: arms that change them, and sweeps that search them."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import ValidationError, ValidationInfo

from shaperun.common.validation import (
    is_number,
    located_error,
    unknown_name_error,
    validation_context,
)
from shaperun.envs.base import Environment
from shaperun.rewards.config import FormulaTerm, RewardConfig, TermDefinition, define_term
from shaperun.rewards.formula import ExpressionError
from shaperun.study.sweep import Sweep, ends_of, split_parameter


def inherit_formulas(terms: Mapping[str, object], info: ValidationInfo) -> dict[str, object]:
    """Return an arm's terms; those that are parameters only complete the study's term.

    A term is left out if the study's is invalid, which is reported there.

    Raises:
        PydanticCustomError: the study's term has no such parameter, or no parameters.
    """
    shared = validation_context(info, "terms") or {}
    return dict(
        item for own in terms.items() for item in _inherit_formula(*own, shared, info).items()
    )


def _inherit_formula(
    name: str, own: object, shared: Mapping[str, object], info: ValidationInfo
) -> dict[str, object]:
    study = shared.get(name)
    if not isinstance(own, dict) or own.keys() & {"formula", "python", "kind"}:
        return {name: own}
    if not isinstance(study, dict) or "formula" not in study or len(study) == 1:
        if not own or not all(map(is_number, own.values())):
            return {name: own}  # field validation reports it
        raise located_error(f"the study has no term {name} with parameters; give a formula", name)
    known = [key for key in study if key != "formula"]
    for key in own:
        if key not in known:
            raise unknown_name_error("parameter", str(key), known, path=(name, key))
    try:
        FormulaTerm.model_validate(study, context=info.context)
    except ValidationError:
        return {}
    try:
        FormulaTerm.model_validate({**study, **own}, context=info.context)
    except ValidationError as error:
        for problem in error.errors():
            if problem["type"] == "formula":  # it is not in the arm's part of the file
                text = f"the study's formula is invalid with these parameters: {problem['msg']}"
                raise located_error(text, name) from None
    return {name: {**study, **own}}


def check_swept_parameters(
    environment: Environment, terms: Mapping[str, TermDefinition], base: RewardConfig, sweep: Sweep
) -> None:
    """Refuse parameters in a sweep that change nothing, or with which a formula is invalid.

    Raises:
        PydanticCustomError: names the parameter.
    """
    for name, values in sweep.weights.items():
        if parameter := split_parameter(name):
            term, key = parameter
            if not (base.weights.get(term) or term in sweep.weights):
                problem = f"{term} has no weight in the arm {sweep.base}; give it one"
                raise located_error(problem, "weights", name)
            for value in ends_of(values):
                _check_value(environment, terms[term], key, value, name)


def _check_value(
    environment: Environment, definition: TermDefinition, key: str, value: float, name: str
) -> None:
    assert isinstance(definition, FormulaTerm)  # noqa: S101 (as its name has been checked)
    try:
        define_term(environment, "", definition.with_parameter(key, value))
    except ExpressionError as error:
        problem = f"the formula is invalid with {key} = {value:g}: {error}"
        raise located_error(problem, "weights", name) from None
