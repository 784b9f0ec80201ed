"""harvest-bridge: Harvest v1 XML calls, served by the v2 JSON API. Only the version is here."""

__version__ = "0.1.0"
