"""The rules of a link beyond the types of its fields, without I/O."""

from datetime import datetime

from shortcore.errors import FieldError
from shortcore.links.custom_codes import CodeError, check_custom_code
from shortcore.links.record import LinkState, RedirectStatus
from shortcore.links.targets import TargetError, TargetPolicy, normalise_target
from writer.links.schemas import CreateLink, EditLink
from writer.links.stored import LinkValues


class ValidationErrors:
    """Collects broken rules, so that one response lists all; `at` is the pointer of the link."""

    def __init__(self, at: str = "") -> None:
        self.fields: list[FieldError] = []
        self._at = at

    def add(self, field: str, rule: str, detail: str) -> None:
        """Add that `field` breaks `rule`."""
        self.fields.append(FieldError(f"{self._at}/{field}", rule, detail))

    def target(self, field: str, raw: str, policy: TargetPolicy) -> str:
        """Return the normal form of `raw`, or note why there is none."""
        try:
            return normalise_target(raw, policy)
        except TargetError as error:
            self.add(field, error.rule, str(error))
            return ""


def values_of_new(
    link: CreateLink,
    policy: TargetPolicy,
    now: datetime,
    errors: ValidationErrors,
    default_status: RedirectStatus,
) -> LinkValues:
    """Return the values of a link to create, all but its password; notes what is wrong."""
    values = LinkValues(
        target=errors.target("target", link.target, policy),
        redirect_status=link.redirect_status or default_status,
        state=LinkState(link.state),
        valid_from=link.valid_from,
        expires_at=link.expires_at,
        expired_target=_optional_target(link.expired_target, policy, errors),
        max_visits=link.max_visits,
        forward_query=link.forward_query,
        forward_path=link.forward_path,
        title=link.title,
        tags=tuple(link.tags),
        note=link.note,
    )
    _check_window(values, now, errors, new_end=True)
    if link.find_if_exists and link.password is not None:
        errors.add(
            "find_if_exists", "conflict", "A link with a password is always new: leave one out."
        )
    return values


def check_code(code: str, reserved: frozenset[str], errors: ValidationErrors) -> None:
    """Note why `code` cannot be chosen, if it cannot."""
    try:
        check_custom_code(code, reserved)
    except CodeError as error:
        errors.add("code", error.rule, str(error))


def values_of_edit(
    old: LinkValues,
    edit: EditLink,
    policy: TargetPolicy,
    now: datetime,
    errors: ValidationErrors,
    default_status: RedirectStatus,
) -> LinkValues:
    """Return `old` with `edit` merged into it, all but the password; notes what is wrong."""
    sent = edit.model_fields_set
    new_end = "expires_at" in sent and edit.expires_at != old.expires_at
    if "target" in sent and edit.target is None:
        errors.add("target", "required", "A link has a target; delete or disable the link instead.")
    values = LinkValues(
        target=old.target if edit.target is None else errors.target("target", edit.target, policy),
        redirect_status=edit.redirect_status or default_status
        if "redirect_status" in sent
        else old.redirect_status,
        state=LinkState(edit.state or LinkState.ACTIVE) if "state" in sent else old.state,
        valid_from=edit.valid_from if "valid_from" in sent else old.valid_from,
        expires_at=edit.expires_at if "expires_at" in sent else old.expires_at,
        expired_target=_optional_target(edit.expired_target, policy, errors)
        if "expired_target" in sent
        else old.expired_target,
        max_visits=edit.max_visits if "max_visits" in sent else old.max_visits,
        password_hash=old.password_hash,
        forward_query=bool(edit.forward_query) if "forward_query" in sent else old.forward_query,
        forward_path=bool(edit.forward_path) if "forward_path" in sent else old.forward_path,
        title=edit.title if "title" in sent else old.title,
        tags=tuple(edit.tags or ()) if "tags" in sent else old.tags,
        note=edit.note if "note" in sent else old.note,
    )
    _check_window(values, now, errors, new_end=new_end)
    return values


def _optional_target(raw: str | None, policy: TargetPolicy, errors: ValidationErrors) -> str | None:
    return None if raw is None else errors.target("expired_target", raw, policy)


def _check_window(
    values: LinkValues, now: datetime, errors: ValidationErrors, *, new_end: bool
) -> None:
    if values.expires_at is None:
        return
    if values.valid_from is not None and values.expires_at <= values.valid_from:
        errors.add("expires_at", "order", "A link ends after it begins (valid_from).")
    # Other fields of an expired link can still be edited.
    if new_end and values.expires_at <= now:
        errors.add("expires_at", "past", "The end of a link lies in the future.")
