"""Tokens and the guard: hashed at rest, re-read on change, and no way in from elsewhere without one."""

from __future__ import annotations

import json
import multiprocessing
import stat
from pathlib import Path

import pytest

from collector.api.auth import (
    Guard,
    Scope,
    Tokens,
    create_token,
    digest_of,
    is_loopback_host,
    read_tokens,
    revoke_token,
)
from collector.errors import ConfigError


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "new" / "tokens.json"


def guard(path: Path, bind_host: str = "127.0.0.1") -> Guard:
    return Guard(Tokens(path), bind_host)


def status(found: Guard, wanted: Scope = Scope.INGEST, **headers: str) -> int:
    named = {"host": "127.0.0.1:4318", **{name.replace("_", "-"): value for name, value in headers.items()}}
    denied = found.check({name: value for name, value in named.items() if value != "absent"}, wanted)
    return denied.status if denied else 200


def test_a_token_is_kept_only_as_its_digest_in_a_private_file(path: Path) -> None:
    token = create_token(path, "ingest", clock_ns=lambda: 7)
    text = path.read_text()
    assert token not in text
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    (record,) = json.loads(text)["tokens"]
    assert record == {
        "id": record["id"],
        "scope": "ingest",
        "hash": digest_of(token),
        "created_ns": 7,
        "revoked": False,
    }
    assert len(token) > 40


def test_tokens_are_listed_and_revoked_by_id(path: Path) -> None:
    tokens = [create_token(path, scope) for scope in ("ingest", "read")]
    first, second = read_tokens(path)
    revoke_token(path, first.id)
    assert [record.revoked for record in read_tokens(path)] == [True, False]
    known = Tokens(path)
    assert (known.scope_of(tokens[0]), known.scope_of(tokens[1])) == (None, Scope.READ)
    with pytest.raises(ConfigError, match=rf"known: {first.id}, {second.id}"):
        revoke_token(path, "nope")


def test_an_unknown_scope_names_the_known_ones(path: Path) -> None:
    with pytest.raises(ConfigError, match=r"'write' .* ingest, read, operate"):
        create_token(path, "write")
    assert not path.exists()


@pytest.mark.parametrize("text", ["", "{", "[]", '{"tokens": 1}', '{"tokens": [{"id": "x"}]}', '{"tokens": [1]}'])
def test_a_broken_file_is_one_clear_message(path: Path, text: str) -> None:
    path.parent.mkdir()
    path.write_text(text)
    with pytest.raises(ConfigError, match=r"tokens\.json: not a readable token file"):
        Tokens(path)


def test_a_change_of_the_file_is_seen_without_a_restart(path: Path) -> None:
    known = Tokens(path)
    assert known.active() == []
    token = create_token(path, "ingest")
    assert known.scope_of(token) is Scope.INGEST
    revoke_token(path, read_tokens(path)[0].id)
    assert known.scope_of(token) is None


def test_a_file_that_breaks_while_running_keeps_the_last_good_tokens(path: Path) -> None:
    token = create_token(path, "ingest")
    known = Tokens(path)
    path.write_text("{")
    assert known.scope_of(token) is Scope.INGEST
    assert "tokens.json" in known.broken
    path.write_text('{"tokens": []}')
    assert known.scope_of(token) is None
    assert known.broken == ""


def _create_many(path: Path) -> None:
    for _ in range(5):
        create_token(path, "ingest")


def test_tokens_created_by_several_processes_are_all_kept(path: Path) -> None:
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=_create_many, args=(path,)) for _ in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(30)
    assert len(read_tokens(path)) == 15


@pytest.mark.parametrize(
    ("host", "local"),
    [
        ("localhost", True), ("LOCALHOST:4318", True), ("127.0.0.1", True), ("127.9.9.9:1", True), ("[::1]:4318", True),
        ("::1", True), ("app.localhost", True),
        ("0.0.0.0", False), ("::", False), ("192.168.1.5:4318", False), ("evil.com", False),
        ("localhost.evil.com", False),
        ("127.0.0.1.evil.com", False), ("", False), ("[::1", True), ("127.1", False),
    ],
)  # fmt: skip
def test_which_names_are_this_machine(host: str, local: bool) -> None:
    assert is_loopback_host(host) is local


def test_loopback_needs_no_token(path: Path) -> None:
    assert status(guard(path)) == 200
    create_token(path, "ingest")
    assert status(guard(path)) == 200


@pytest.mark.parametrize("host", ["evil.com", "192.168.1.5:4318", "absent", "localhost.evil.com"])
def test_a_name_that_is_not_loopback_is_refused_without_token(path: Path, host: str) -> None:
    assert status(guard(path), host=host) == 403


@pytest.mark.parametrize(
    "header", ["forwarded", "x_forwarded_for", "x_forwarded_host", "x_forwarded_anything", "x_real_ip"]
)
def test_a_request_that_a_proxy_handed_on_is_refused_without_token(path: Path, header: str) -> None:
    assert status(guard(path), **{header: "for=1.2.3.4"}) == 403


def test_a_valid_token_opens_the_way_through_a_proxy(path: Path) -> None:
    token = create_token(path, "ingest")
    headers = {"host": "fleet.example", "x_forwarded_for": "1.2.3.4", "authorization": f"Bearer {token}"}
    assert status(guard(path), **headers) == 200


@pytest.mark.parametrize(
    "authorization", ["absent", "", "Bearer", "Bearer  ", "Basic abc", "Bearer fp_wrong", "Bearer é\udcff"]
)
def test_beyond_loopback_nothing_opens_but_a_valid_token(path: Path, authorization: str) -> None:
    token = create_token(path, "ingest")
    found = guard(path, "0.0.0.0")
    assert status(found, authorization=authorization) == 401
    assert status(found, authorization=f"Bearer {token}") == 200
    assert status(found, authorization=f"bearer   {token}") == 200


def test_beyond_loopback_without_any_token_everything_is_refused(path: Path) -> None:
    assert status(guard(path, "10.0.0.1")) == 401
    assert status(guard(path, "10.0.0.1"), authorization="Bearer x") == 401


def test_a_wrong_token_is_refused_on_loopback_too_once_tokens_exist(path: Path) -> None:
    assert status(guard(path), authorization="Bearer meant-for-another-server") == 200
    create_token(path, "read")
    assert status(guard(path), authorization="Bearer wrong") == 401


@pytest.mark.parametrize(("has", "may"), [("ingest", {"ingest"}), ("read", {"read"}), ("operate", {"read", "operate"})])
def test_a_scope_opens_what_it_is_for_and_no_more(path: Path, has: str, may: set[str]) -> None:
    token = create_token(path, has)
    found = guard(path, "0.0.0.0")
    answers = {scope: status(found, scope, authorization=f"Bearer {token}") for scope in Scope}
    assert answers == {scope: 200 if scope in may else 403 for scope in Scope}


def test_the_stores_own_token_needs_no_file(path: Path) -> None:
    found = Guard(Tokens(path), "0.0.0.0", {"local-secret": Scope.OPERATE})
    assert status(found, Scope.OPERATE, authorization="Bearer local-secret") == 200
    assert status(found, Scope.OPERATE, authorization="Bearer other") == 401
    assert status(found, Scope.INGEST, authorization="Bearer local-secret") == 403


def test_digests_are_compared_in_constant_time(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import collector.api.auth as auth

    tokens = [create_token(path, "ingest") for _ in range(3)]
    compared: list[bytes] = []
    real = auth.hmac.compare_digest
    monkeypatch.setattr(auth.hmac, "compare_digest", lambda a, b: (compared.append(a), real(a, b))[1])
    assert Tokens(path).scope_of(tokens[0]) is Scope.INGEST
    assert len(compared) == 3
