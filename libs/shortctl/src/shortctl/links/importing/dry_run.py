"""The validation of a dry run: the rules for links that can be checked without the API."""

from collections.abc import Callable

from shortcore.links.custom_codes import CodeError, check_custom_code
from shortcore.links.record import REDIRECT_STATUSES
from shortcore.links.rows import Fault, Row
from shortcore.links.targets import TargetError, TargetPolicy, normalise_target

_POLICY = TargetPolicy()


def validate(row: Row) -> list[Fault]:
    """Return the faults of a row that can be found without the API."""
    if row.faults:
        return list(row.faults)
    checks: dict[str, Callable[[str], object]] = {
        "target": lambda target: normalise_target(target, _POLICY),
        "expired_target": lambda target: normalise_target(target, _POLICY),
        "code": check_custom_code,
    }
    faults = []
    if row.item.get("target") is None:
        faults.append(Fault(row.line, "target", "required", "This field is required."))
    for name, rule_of in checks.items():
        value = row.item.get(name)
        if value is None:
            continue
        if not isinstance(value, str):
            faults.append(Fault(row.line, name, "type", "This field must be a string."))
            continue
        try:
            rule_of(value)
        except (TargetError, CodeError) as error:
            faults.append(Fault(row.line, name, error.rule, str(error)))
    if row.item.get("redirect_status", 302) not in REDIRECT_STATUSES:
        sentence = "The redirect status must be 301, 302, 307 or 308."
        faults.append(Fault(row.line, "redirect_status", "choice", sentence))
    return faults
