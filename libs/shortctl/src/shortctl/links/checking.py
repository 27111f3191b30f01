"""A dry run: what is wrong with rows as far as can be told without the API."""

from collections.abc import Callable

from shortcore.links.custom_codes import CodeError, check_custom_code
from shortcore.links.record import REDIRECT_STATUSES
from shortcore.links.targets import TargetError, TargetPolicy, normalise_target
from shortctl.links.rows import Fault, Row

_POLICY = TargetPolicy()


def validate(row: Row) -> list[Fault]:
    """Return what is wrong with a row as far as can be told without the API."""
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
            faults.append(Fault(row.line, name, "type", "This field is a text."))
            continue
        try:
            rule_of(value)
        except (TargetError, CodeError) as error:
            faults.append(Fault(row.line, name, error.rule, str(error)))
    if row.item.get("redirect_status", 302) not in REDIRECT_STATUSES:
        sentence = "A redirect's status is 301, 302, 307 or 308."
        faults.append(Fault(row.line, "redirect_status", "choice", sentence))
    return faults
