"""macurr inside other people's training libraries. Each module needs its library, behind an extra of its name."""

from __future__ import annotations

__all__: list[str] = []
