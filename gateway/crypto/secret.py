"""Secret stands at the bottom of the import order, in kms_client; this is its name here."""

from kms_client.secret import Secret

__all__ = ["Secret"]
