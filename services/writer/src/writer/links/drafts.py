"""Drafts: checks requested links against every rule, and makes them ready to be inserted."""

import msgspec
from msgspec.structs import replace
from pydantic import ValidationError

from shortcore.clock import Now
from shortcore.errors import DomainNotFound, FieldError
from shortcore.links.custom_codes import CodeError, check_custom_code
from shortcore.links.targets import is_normal
from shortcore.settings.writer import WriterSettings
from writer.domains.cache import DomainCache
from writer.domains.repository import Domain
from writer.http.problems import error_of_validation, invalid
from writer.links.passwords import hash_password
from writer.links.rules import (
    ValidationErrors,
    check_code,
    check_find,
    values_of_edit,
    values_of_new,
)
from writer.links.schemas import CreateLink, EditLink, WholeLink
from writer.links.stored import LinkValues


class Draft(msgspec.Struct, frozen=True, gc=False):
    """A link that passed every rule; `code` is None if it is to be generated.

    `at` is the JSON pointer of the link in the request, for errors.
    """

    domain: Domain
    code: str | None
    values: LinkValues
    at: str = ""


class Drafter:
    """Makes drafts, and checks other changes by the same rules.

    `settings` may be replaced at any time.
    """

    def __init__(self, domains: DomainCache, settings: WriterSettings, now: Now) -> None:
        self.settings = settings
        self._domains = domains
        self._now = now

    async def draft(self, link: CreateLink, at: str = "") -> Draft:
        """Check `link` against every rule; raises InvalidInput that names all broken rules."""
        errors = ValidationErrors(at)
        domain = None
        try:
            domain = await self._domains.find(link.domain)
        except DomainNotFound as error:
            errors.add("domain", "unknown", error.detail)
        values = self.values_of(link, errors)
        check_find(link, errors)
        if link.code is not None:
            check_code(link.code, self.settings.reserved_codes, errors)
        if errors.fields or domain is None:
            raise invalid(errors.fields)
        if link.password is not None:
            values = replace(values, password_hash=await hash_password(link.password))
        code = None if link.code is None else domain.spelled(link.code)
        return Draft(domain, code, values, at)

    def values_of(
        self, link: WholeLink, errors: ValidationErrors, old: LinkValues | None = None
    ) -> LinkValues:
        """Return what rules.values_of_new returns under the present rules and settings."""
        status = self.settings.default_redirect_status
        return values_of_new(link, self._domains.policy, self._now(), errors, status, old)

    def values_of_edit(
        self, old: LinkValues, edit: EditLink, errors: ValidationErrors
    ) -> LinkValues:
        """Return what rules.values_of_edit returns under the present rules and settings."""
        status = self.settings.default_redirect_status
        return values_of_edit(old, edit, self._domains.policy, self._now(), errors, status)

    async def draft_item(self, item: object, at: str = "") -> Draft:
        """Check an item of a batch or a row of an import in full; raises InvalidInput."""
        try:
            link = CreateLink.model_validate(item)
        except ValidationError as error:
            found = error.errors(include_url=False, include_input=False, include_context=False)
            raise error_of_validation(map(dict, found), at) from None
        if link.find_if_exists:
            detail = "Batches and imports always create links: leave `find_if_exists` out."
            raise invalid([FieldError(f"{at}/find_if_exists", "conflict", detail)])
        return await self.draft(link, at)

    def plain(self, item: object, at: str = "") -> Draft | None:
        """Return the draft of a valid item that has a target, optionally a code, and nothing else.

        Returns None if the item must be checked in full. Nearly all links of large batches and
        imports are plain, and this takes a tenth of the time of `draft`.
        """
        if not isinstance(item, dict):
            return None
        target, code = item.get("target"), item.get("code")
        if len(item) != (1 if code is None else 2) or not isinstance(target, str):
            return None
        if (domain := self._domains.default) is None or not is_normal(target, self._domains.policy):
            return None
        if code is not None:
            if not isinstance(code, str):
                return None
            try:
                check_custom_code(code, self.settings.reserved_codes)
            except CodeError:
                return None
            code = domain.spelled(code)
        return Draft(domain, code, LinkValues(target, self.settings.default_redirect_status), at)
