"""An object that behaves as the one it stands for, but for some members."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, SupportsIndex


class MeasuredProxy:
    """A session some of whose members are measured; everything else is the wrapped session's own.

    ``isinstance(proxy, type(session))`` stays true, and the proxy copies and pickles as the session does: the copy is
    not measured.
    """

    def __init__(self, session: Any, members: Mapping[str, Any]) -> None:
        own = self.__dict__
        own["_session"] = session
        own.update(members)

    @property  # type: ignore[misc]
    def __class__(self) -> type:
        return type(self._session)

    def __getattr__(self, name: str) -> Any:
        session = self.__dict__.get("_session")
        if session is None:  # half-made, by copy or pickle
            raise AttributeError(name)
        return getattr(session, name)

    def __setattr__(self, name: str, value: object) -> None:
        setattr(self._session, name, value)

    def __delattr__(self, name: str) -> None:
        delattr(self._session, name)

    def __reduce_ex__(self, protocol: SupportsIndex, /) -> Any:
        return self._session.__reduce_ex__(protocol)

    def __dir__(self) -> list[str]:
        return dir(self._session)

    def __repr__(self) -> str:
        return f"<measured {self._session!r}>"
