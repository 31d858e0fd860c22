"""Which token, of those that a module offers."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class TokenSelector:
    """What a token must say of itself; what is `None` is not asked.

    The texts are those of CK_TOKEN_INFO without their padding. At least one is given:
    otherwise `ValueError`.
    """

    label: str | None = None
    serial: str | None = None
    manufacturer: str | None = None
    model: str | None = None
    slot_id: int | None = None

    def __post_init__(self) -> None:
        if all(value is None for value in vars(self).values()):
            raise ValueError("name the token: its label, serial, manufacturer, model or slot")

    def matches(self, token: TokenDescription) -> bool:
        """Whether `token` is as asked for in everything that is asked (RFC 7512 section 2.5)."""
        return (
            self.label in {None, token.label}
            and self.serial in {None, token.serial}
            and self.manufacturer in {None, token.manufacturer}
            and self.model in {None, token.model}
            and self.slot_id in {None, token.slot_id}
        )

    def __str__(self) -> str:
        """As in "2 tokens labelled 'mesh', of model 'X'"."""
        asked = {
            "labelled {!r}": self.label,
            "with serial {!r}": self.serial,
            "made by {!r}": self.manufacturer,
            "of model {!r}": self.model,
            "in slot {}": self.slot_id,
        }
        return ", ".join(text.format(value) for text, value in asked.items() if value is not None)


@dataclass(frozen=True)
class TokenDescription:
    """What a token says of itself, and the slot that it is in."""

    label: str
    serial: str
    manufacturer: str
    model: str
    slot_id: int

    def __str__(self) -> str:
        return f"{self.label!r} (serial {self.serial!r}, {self.model!r}, slot {self.slot_id})"
