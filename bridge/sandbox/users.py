"""Who calls, and for which company, as v2 answers it. Who there is is in seeds.py."""

from typing import Any

import msgspec

_MAY_EDIT_INVOICES = frozenset({"administrator", "managed_projects_invoice_manager"})


class User(msgspec.Struct, frozen=True, kw_only=True):
    """Whom a token belongs to: who sends or records what is created with it, in one account."""

    id: int
    first_name: str
    last_name: str
    email: str
    timezone: str
    account_id: int
    access_roles: tuple[str, ...]
    created_at: str

    @property
    def name(self) -> str:
        """Both names, as messages and payments have them."""
        return f"{self.first_name} {self.last_name}"

    @property
    def is_administrator(self) -> bool:
        """Whether everything is allowed."""
        return "administrator" in self.access_roles

    @property
    def may_edit_invoices(self) -> bool:
        """Whether invoices may be created and edited."""
        return not _MAY_EDIT_INVOICES.isdisjoint(self.access_roles)

    def described(self) -> dict[str, Any]:
        """Return the user object of v2."""
        return {
            "id": self.id,
            "first_name": self.first_name,
            "last_name": self.last_name,
            "email": self.email,
            "telephone": "",
            "timezone": self.timezone,
            "has_access_to_all_future_projects": self.is_administrator,
            "is_contractor": False,
            "is_active": True,
            "weekly_capacity": 126000,
            "default_hourly_rate": 100.0,
            "cost_rate": 50.0,
            "roles": [],
            "access_roles": self.access_roles,
            "avatar_url": f"https://cache.harvestapp.com/assets/profile_images/{self.id}.png",
            "created_at": self.created_at,
            "updated_at": self.created_at,
        }


class Company(msgspec.Struct, frozen=True, kw_only=True):
    """An account's company: the company object of v2."""

    base_uri: str
    full_domain: str
    name: str
    is_active: bool = True
    week_start_day: str = "Monday"
    wants_timestamp_timers: bool = False
    time_format: str = "hours_minutes"
    date_format: str = "%Y-%m-%d"
    plan_type: str = "simple-v4"
    clock: str = "12h"
    currency_code_display: str = "iso_code_none"
    currency_symbol_display: str = "symbol_before"
    decimal_symbol: str = "."
    thousands_separator: str = ","
    color_scheme: str = "orange"
    weekly_capacity: int = 126000
    expense_feature: bool = True
    invoice_feature: bool = True
    estimate_feature: bool = True
    approval_feature: bool = True
    team_feature: bool = True
