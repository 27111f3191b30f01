"""The rules of a link beyond the types of its fields, without I/O."""

from collections.abc import Collection
from datetime import datetime

from shortcore.errors import FieldError
from shortcore.links.custom_codes import CodeError, check_custom_code
from shortcore.links.record import RedirectStatus
from shortcore.links.targets import TargetError, TargetPolicy, normalise_host, normalise_target
from writer.links.schemas import CreateLink, EditLink, ReplaceLink, WholeLink
from writer.links.stored import LinkValues


class ValidationErrors:
    """Collects broken rules, so that one response lists all; `at` is the pointer of the link."""

    def __init__(self, at: str = "") -> None:
        self.fields: list[FieldError] = []
        self._at = at

    def add(self, field: str, rule: str, detail: str) -> None:
        """Add that `field` breaks `rule`."""
        self.fields.append(FieldError(f"{self._at}/{field}", rule, detail))

    def target(self, field: str, raw: str, policy: TargetPolicy, old: str | None = None) -> str:
        """Return the normal form of `raw`, or add the rule that it breaks.

        The `old` target of the link is always accepted, because an earlier policy allowed it.
        """
        if raw == old:
            return raw
        try:
            return normalise_target(raw, policy)
        except TargetError as error:
            self.add(field, error.rule, str(error))
            return ""


def values_of_new(
    link: WholeLink,
    policy: TargetPolicy,
    now: datetime,
    errors: ValidationErrors,
    default_status: RedirectStatus,
    old: LinkValues | None = None,
) -> LinkValues:
    """Return the values of `link`, except its password; adds broken rules to `errors`.

    `old` has the values that `link` replaces: unchanged values are accepted even if the rules have
    changed.
    """
    values = LinkValues(
        target=errors.target("target", link.target, policy, None if old is None else old.target),
        redirect_status=link.redirect_status or default_status,
        enabled=link.enabled,
        valid_from=link.valid_from,
        expires_at=link.expires_at,
        expired_target=_optional_target(
            link.expired_target, policy, errors, None if old is None else old.expired_target
        ),
        max_visits=link.max_visits,
        forward_query=link.forward_query,
        forward_path=link.forward_path,
        title=link.title,
        tags=tuple(link.tags),
        note=link.note,
    )
    new_end = old is None or values.expires_at != old.expires_at
    _check_window(values, now, errors, new_end=new_end)
    return values


def check_find(link: CreateLink, errors: ValidationErrors) -> None:
    """Add an error if `link` asks for an equal link with fields that make this impossible."""
    if link.find_if_exists and link.password is not None:
        errors.add(
            "find_if_exists", "conflict", "A link with a password is always new: leave one out."
        )


def check_address(
    sent: EditLink | ReplaceLink, host: str, codes: Collection[str], errors: ValidationErrors
) -> None:
    """Add an error if `sent` names another address than that of the link: `host` and `codes`."""
    if "domain" in sent.model_fields_set and _normal_host(sent.domain) != host:
        errors.add("domain", "immutable", f"The domain of this link is {host}, and stays so.")
    if "code" in sent.model_fields_set and sent.code not in codes:
        errors.add(
            "code", "immutable", "The code of a link cannot be changed; create another link."
        )


def check_code(code: str, reserved: frozenset[str], errors: ValidationErrors) -> None:
    """Add an error if `code` is not allowed as a custom code."""
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
    """Return `old` merged with `edit`, except the password; adds broken rules to `errors`."""
    sent = edit.model_fields_set
    new_end = "expires_at" in sent and edit.expires_at != old.expires_at
    if "target" in sent and edit.target is None:
        errors.add("target", "required", "A link has a target; delete or disable the link instead.")
    values = LinkValues(
        target=old.target
        if edit.target is None
        else errors.target("target", edit.target, policy, old.target),
        redirect_status=edit.redirect_status or default_status
        if "redirect_status" in sent
        else old.redirect_status,
        enabled=edit.enabled is not False if "enabled" in sent else old.enabled,
        valid_from=edit.valid_from if "valid_from" in sent else old.valid_from,
        expires_at=edit.expires_at if "expires_at" in sent else old.expires_at,
        expired_target=_optional_target(edit.expired_target, policy, errors, old.expired_target)
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


def _optional_target(
    raw: str | None, policy: TargetPolicy, errors: ValidationErrors, old: str | None
) -> str | None:
    return None if raw is None else errors.target("expired_target", raw, policy, old)


def _normal_host(host: str | None) -> str | None:
    try:
        return None if host is None else normalise_host(host)
    except ValueError:
        return None


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
