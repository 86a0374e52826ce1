"""JWTs: whom they let in, and every way in which they do not."""

from __future__ import annotations

import json
from typing import Any

import attrs
import pytest

from broker.core.access_settings import JwtSettings, PermissionSettings
from broker.core.authentication import Authenticator
from broker.core.dispatcher import Dispatcher
from broker.core.jwt_tokens import JwtVerifier
from broker.core.principal import AuthenticationError, Credentials, Principal
from broker.core.settings import Settings
from tests.core.jwt_maker import (
    SECRET,
    base64url,
    claims,
    ed25519_key,
    jwk,
    private_pem,
    public_pem,
    rsa_key,
    sign,
)
from tests.core.memory_mesh import TOKENS, Client, MemoryMesh

NOW = 1000.0
PERMISSIONS = [field.name for field in attrs.fields(PermissionSettings)]
KEY = ed25519_key()


def verifier(
    *algorithms: str, keys: bytes | None = None, jwks: list[Any] | None = None, **more: Any
) -> JwtVerifier:
    """One for Ed25519, with a key file, unless told otherwise."""
    return JwtVerifier(jwt_settings(*algorithms, keys=keys, jwks=jwks, **more))


def jwt_settings(
    *algorithms: str, keys: bytes | None = None, jwks: list[Any] | None = None, **more: Any
) -> JwtSettings:
    file: dict[str, Any]
    if jwks is not None:
        file = {"jwks_file": "jwks.json", "keys": json.dumps({"keys": jwks}).encode()}
    else:
        file = {"key_file": "key.pem", "keys": public_pem(KEY) if keys is None else keys}
    return JwtSettings(algorithms=algorithms or ("EdDSA",), audience="mesh", **file, **more)


def accepted(by: JwtVerifier, token: str, now: float = NOW) -> Principal:
    principal = by.authenticate(Credentials(token), now)
    assert principal is not None
    return principal


def refused(by: JwtVerifier, token: str, now: float = NOW) -> str:
    """Return why, without the beginning that is always the same."""
    with pytest.raises(AuthenticationError) as caught:
        by.authenticate(Credentials(token), now)
    begin = "data.token: the JWT "
    assert str(caught.value).startswith(begin)
    # What stands in a token is not repeated.
    assert not any(len(part) > 8 and part in str(caught.value) for part in token.split("."))
    return str(caught.value).removeprefix(begin)


# -- who is let in ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("algorithm", "keys", "signer", "header"),
    [
        ("EdDSA", public_pem(KEY), KEY, "EdDSA"),
        ("Ed25519", public_pem(KEY), KEY, "Ed25519"),
        ("RS256", public_pem(rsa_key()), rsa_key(), "RS256"),
        ("HS256", SECRET, SECRET, "HS256"),
        # The line feed is the editor's.
        ("HS256", SECRET + b"\r\n", SECRET, "HS256"),
    ],
)
def test_each_algorithm(algorithm: str, keys: bytes, signer: Any, header: str) -> None:
    principal = accepted(verifier(algorithm, keys=keys), sign(signer, claims(), alg=header))

    assert principal.name == "billing"
    assert principal.groups == {"billing"}
    assert principal.permissions == PermissionSettings()


def test_a_key_is_found_by_its_kid() -> None:
    jwks = [jwk(ed25519_key(number), kid=f"key {number}") for number in range(3)]
    by = verifier(jwks=[*jwks, jwk(rsa_key(), kid="key 1"), {"kty": "EC", "crv": "P-256"}])
    for number in range(3):
        accepted(by, sign(ed25519_key(number), claims(), kid=f"key {number}"))


def test_one_key_needs_no_kid_and_a_key_file_has_none() -> None:
    accepted(verifier(jwks=[jwk(KEY, kid="a")]), sign(KEY, claims()))
    accepted(verifier(), sign(KEY, claims(), kid="whatever the issuer calls it"))


def test_several_algorithms_each_with_its_own_keys() -> None:
    by = verifier("EdDSA", "HS256", jwks=[jwk(KEY, kid="a"), jwk(SECRET, kid="b")])

    accepted(by, sign(KEY, claims(), kid="a"))
    accepted(by, sign(SECRET, claims(), kid="b"))


@pytest.mark.parametrize(
    ("said", "groups"),
    [
        ({"group": "a"}, {"a"}),
        ({"group": None, "groups": ["a", "b"]}, {"a", "b"}),
        ({"group": "a", "groups": ["b"]}, {"a", "b"}),
    ],
)
def test_groups_come_from_the_claims(said: dict[str, Any], groups: set[str]) -> None:
    assert accepted(verifier(), sign(KEY, claims(**said))).groups == groups


def test_permissions_come_from_the_claims() -> None:
    allowed = {"send_global": False, "send_groups": ["a*"], "stats": True, "bytes_per_second": 9}

    assert accepted(
        verifier(), sign(KEY, claims(permissions=allowed))
    ).permissions == PermissionSettings(
        send_global=False, send_groups=("a*",), stats=True, bytes_per_second=9
    )


def test_other_claims_and_headers_mean_nothing() -> None:
    token = sign(KEY, claims(roles=["admin"], jti="x", iat=5), typ="at+jwt", jku="https://evil")

    assert accepted(verifier(), token).groups == {"billing"}


@pytest.mark.parametrize("audience", ["mesh", ["mesh"], ["other", "mesh"]])
def test_the_audience_may_be_one_of_many(audience: Any) -> None:
    accepted(verifier(), sign(KEY, claims(aud=audience)))


def test_times_are_kept_within_the_leeway() -> None:
    by = verifier(leeway_ms=30_000)
    token = sign(KEY, claims(exp=2000, nbf=1000))

    assert refused(by, token, 969) == "is not valid before 31 s from now"
    accepted(by, token, 970)
    assert accepted(by, token, 2029.5).expires == 2030
    assert refused(by, token, 2030) == "expired 30 s ago"


# -- who is not ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("now", "ago"),
    [(2180, "3 minutes"), (2090, "1 minute"), (9500, "2 hours"), (300_000, "3 days")],
)
def test_how_long_ago_it_expired(now: float, ago: str) -> None:
    assert refused(verifier(), sign(KEY, claims()), now) == f"expired {ago} ago"


@pytest.mark.parametrize(
    ("said", "why"),
    [
        ({"exp": None}, "has bad claims: claims: object missing required field exp"),
        ({"sub": None}, "has bad claims: claims: object missing required field sub"),
        ({"aud": None}, "has bad claims: claims: object missing required field aud"),
        ({"group": None}, "has bad claims: group or groups is missing"),
        ({"group": None, "groups": []}, "has bad claims: group or groups is missing"),
        ({"group": "$broker"}, "has bad claims: groups that begin with $ are the broker's own"),
        ({"groups": ["a", "$b"]}, "has bad claims: groups that begin with $ are the broker's own"),
        ({"group": ""}, "has bad claims: claims.group: expected str of length >= 1"),
        ({"group": ["a"]}, "has bad claims: claims.group: expected str | null, got array"),
        ({"groups": "a"}, "has bad claims: claims.groups: expected array | null, got str"),
        ({"groups": [5]}, "has bad claims: claims.groups[0]: expected str, got int"),
        ({"sub": "x" * 129}, "has bad claims: claims.sub: expected str of length <= 128"),
        ({"sub": 5}, "has bad claims: claims.sub: expected str, got int"),
        ({"exp": "2000"}, "has bad claims: claims.exp: expected float, got str"),
        ({"exp": True}, "has bad claims: claims.exp: expected float, got bool"),
        ({"nbf": "0"}, "has bad claims: claims.nbf: expected float | null, got str"),
        ({"aud": "Mesh"}, "is for another audience than 'mesh'"),
        ({"aud": "mesh "}, "is for another audience than 'mesh'"),
        ({"aud": []}, "is for another audience than 'mesh'"),
        ({"aud": ["a", "b"]}, "is for another audience than 'mesh'"),
        ({"aud": {"mesh": 1}}, "has bad claims: claims.aud: expected str | array, got object"),
        ({"iss": 5}, "has bad claims: claims.iss: expected str | null, got int"),
        ({"exp": 0}, "expired 16 minutes ago"),
        ({"exp": -5}, "expired 16 minutes ago"),
        ({"nbf": 5000}, "is not valid before 1 hour from now"),
        (
            {"permissions": []},
            "has bad claims: claims.permissions: expected object | null, got array",
        ),
        (
            {"permissions": {"stats": "yes"}},
            "has bad claims: claims.permissions.stats: expected bool, got str",
        ),
        (
            {"permissions": {"send_groups": "*"}},
            "has bad claims: claims.permissions.send_groups: expected array, got str",
        ),
        (
            {"permissions": {"send_groups": [""]}},
            "has bad claims: claims.permissions: '' is no pattern: 1 to 128 characters",
        ),
        (
            {"permissions": {"messages_per_second": 0}},
            "has bad claims: claims.permissions: must be an integer from 1 up (is 0)",
        ),
        (
            {"permissions": {"admin": True}},
            f"has bad claims: claims.permissions: unknown key; known: {', '.join(PERMISSIONS)}",
        ),
    ],
    ids=lambda value: str(value)[:30],
)
def test_claims_that_let_nobody_in(said: dict[str, Any], why: str) -> None:
    assert refused(verifier(), sign(KEY, claims(**said))) == why


@pytest.mark.parametrize("time", [b"1e999", b"NaN", b"Infinity", b"9" * 400, b"-1e999", b"1e400"])
@pytest.mark.parametrize("claim", [b"exp", b"nbf"])
def test_a_time_that_is_no_time(claim: bytes, time: bytes) -> None:
    said = b'{"sub":"a","aud":"mesh","group":"a","exp":2000,"%s":%s}' % (claim, time)
    why = refused(verifier(), sign(KEY, said))

    assert why.startswith("has bad claims") or why == "has claims that are no JSON"


def test_the_issuer_counts_where_one_is_set() -> None:
    by = verifier(issuer="https://issuer.example.org")
    accepted(by, sign(KEY, claims(iss="https://issuer.example.org")))
    for issuer in ("https://issuer.example.org/", None):
        assert refused(by, sign(KEY, claims(iss=issuer))) == (
            "is from another issuer than 'https://issuer.example.org'"
        )


@pytest.mark.parametrize("alg", ["none", "None", "NONE", "nOnE", "", None, 5, ["EdDSA"], {}])
def test_no_signature_is_none(alg: Any) -> None:
    token = sign(None, claims(), header={"alg": alg, "typ": "JWT"})

    assert refused(verifier(), token) in (
        "is not signed in a way that is accepted here: EdDSA",
        "is not well-formed",
    )


def test_an_algorithm_that_is_not_allowed() -> None:
    why = "is not signed in a way that is accepted here: EdDSA"
    by = verifier()

    assert refused(by, sign(rsa_key(), claims())) == why
    assert refused(by, sign(SECRET, claims())) == why
    assert refused(by, sign(KEY, claims(), alg="Ed25519")) == why
    assert refused(by, sign(KEY, claims(), alg="ES256")) == why


@pytest.mark.parametrize("key", [KEY, rsa_key()], ids=["Ed25519", "RSA"])
def test_a_public_key_is_no_shared_secret(key: Any) -> None:
    """The attack: sign with the public key, which everybody has, as if it were a secret."""
    forged = sign(public_pem(key), claims())
    assert "not signed in a way" in refused(verifier("EdDSA", "Ed25519"), forged)
    # Even where both ways are allowed, each key has its own.
    by = verifier("EdDSA", "RS256", "HS256", jwks=[jwk(key, kid="a"), jwk(SECRET, kid="b")])
    assert refused(by, sign(public_pem(key), claims(), kid="a")) == (
        "is signed with a key that is not known here"
    )
    assert refused(by, sign(public_pem(key), claims(), kid="b")) == (
        "has a signature that does not fit"
    )
    with pytest.raises(ValueError, match="is a public key or a certificate, not a secret"):
        verifier("HS256", keys=public_pem(key))


def test_a_signature_of_somebody_else() -> None:
    why = "has a signature that does not fit"
    assert refused(verifier(), sign(ed25519_key(1), claims())) == why
    assert refused(verifier("HS256", keys=SECRET), sign(SECRET[:-1], claims())) == why
    header, said, _ = sign(KEY, claims()).split(".")
    other = base64url(json.dumps(claims(group="admin")).encode())
    signature = sign(KEY, claims()).split(".")[2]
    assert refused(verifier(), f"{header}.{other}.{signature}") == why
    for cut in ("", signature[:-4], "AAAA"):
        assert refused(verifier(), f"{header}.{said}.{cut}") == why


def test_claims_are_only_spoken_of_to_whoever_can_sign() -> None:
    forged = sign(ed25519_key(1), claims(exp=5, aud="other"))

    assert refused(verifier(), forged) == "has a signature that does not fit"


@pytest.mark.parametrize("kid", ["b", "", "A", "a ", "../../a", "x" * 400])
def test_a_kid_that_is_not_there(kid: str) -> None:
    by = verifier(jwks=[jwk(KEY, kid="a")])

    assert (
        refused(by, sign(KEY, claims(), kid=kid)) == "is signed with a key that is not known here"
    )


@pytest.mark.parametrize("kid", [5, ["a"], {"a": 1}, True])
def test_a_kid_that_is_no_text(kid: Any) -> None:
    assert refused(verifier(jwks=[jwk(KEY, kid="a")]), sign(KEY, claims(), kid=kid)) == (
        "is not well-formed"
    )


def test_the_kid_of_another_key() -> None:
    by = verifier(jwks=[jwk(KEY, kid="a"), jwk(ed25519_key(1), kid="b")])

    assert refused(by, sign(KEY, claims(), kid="b")) == "has a signature that does not fit"
    assert refused(by, sign(KEY, claims())) == (
        "does not say by kid which of several keys it is signed with"
    )


def test_a_key_that_is_meant_for_something_else() -> None:
    for use in ({"use": "enc"}, {"key_ops": ["sign"]}, {"alg": "Ed25519"}):
        by = verifier(jwks=[jwk(KEY, kid="a", **use), jwk(ed25519_key(1), kid="b")])
        assert "not known" in refused(by, sign(KEY, claims(), kid="a"))


@pytest.mark.parametrize(
    "more",
    [
        {"crit": ["exp"], "exp": 5},
        {"crit": ["b64"], "b64": False},
        {"crit": []},
        {"b64": False},
        {"crit": "exp"},
        {"crit": ["unheard-of"], "unheard-of": True},
    ],
    ids=str,
)
def test_critical_headers_are_refused(more: dict[str, Any]) -> None:
    assert refused(verifier(), sign(KEY, claims(), **more)) in (
        "has critical headers, of which none is known here",
        "is not well-formed",
    )


@pytest.mark.parametrize("cty", ["JWT", "jwt", "application/jwt"])
def test_a_token_inside_a_token_is_refused(cty: str) -> None:
    inner = sign(KEY, claims())

    assert refused(verifier(), sign(KEY, inner.encode(), cty=cty)) == (
        "has another one inside, which is not taken here"
    )
    assert refused(verifier(), sign(KEY, inner.encode())) == "has claims that are no JSON"


def test_an_encrypted_token_is_nobodys() -> None:
    authenticator = Authenticator(Settings(tokens=TOKENS, jwt=jwt_settings()))
    with pytest.raises(AuthenticationError, match=r"^data\.token: is not known here$"):
        authenticator.authenticate(Credentials("e30.e30.e30.e30.e30"), NOW)


@pytest.mark.parametrize(
    "token",
    [
        "..",
        "a.b.c",
        "e30.e30.e30",  # {} as a header
        "bnVsbA.e30.",  # null
        "W10.e30.",  # []
        "IkVkRFNBIg.e30.",  # "EdDSA"
        "\u00e9.\u00e9.\u00e9",
        "\ud800.a.b",
        "e30=.e30.e30",
        " .a.b",
        base64url(b"\xff{}") + ".e30.e30",
        base64url(b'{"alg":"EdDSA"' + b"[" * 3000) + ".e30.e30",
        base64url(b'{"alg":"EdDSA","a":' + b"[" * 3000 + b"]" * 3000 + b"}") + ".e30.e30",
        sign(KEY, claims()) + "=",
        sign(KEY, claims()) + "\n",
        "\n" + sign(KEY, claims()),
        sign(KEY, claims()).replace(".", ". ", 1),
    ],
)
def test_what_is_no_jwt_though_it_has_two_dots(token: str) -> None:
    assert refused(verifier(), token) in (
        "is not well-formed",
        "has a signature that does not fit",
        "is not signed in a way that is accepted here: EdDSA",
    )


@pytest.mark.parametrize("said", [b"", b"[]", b"null", b"\xff", b"{", b"[" * 2000 + b"]" * 2000])
def test_claims_that_are_none(said: bytes) -> None:
    assert "claims" in refused(verifier(), sign(KEY, said))


def test_a_huge_token_is_not_looked_into() -> None:
    long = sign(KEY, claims(x="x" * 9000))

    assert refused(verifier(), long) == "has more than 8192 characters"


# -- the keys --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("algorithms", "keys", "problem"),
    [
        (["EdDSA"], b"", "is empty"),
        (["HS256"], b"\n", "is empty"),
        (["EdDSA"], b"hello", "has no key in PEM that EdDSA could use"),
        (["RS256"], public_pem(KEY), "has no key in PEM that RS256 could use"),
        (["EdDSA"], public_pem(rsa_key()), "has no key in PEM that EdDSA could use"),
        (["RS256"], public_pem(rsa_key(1024)), "holds an RSA key of fewer than 2048 bits"),
        (["EdDSA"], private_pem(KEY), "holds a private key, which is the issuer's alone"),
        (["RS256"], private_pem(rsa_key()), "holds a private key, which is the issuer's alone"),
        (["HS256"], SECRET[:31], "holds a secret of fewer than 32 bytes"),
        (["EdDSA", "HS256"], SECRET, "one key can't serve EdDSA, HS256"),
    ],
)
def test_a_key_file_that_is_no_good(algorithms: list[str], keys: bytes, problem: str) -> None:
    with pytest.raises(ValueError, match=f"^{problem}") as caught:
        verifier(*algorithms, keys=keys)

    assert SECRET[:31].decode() not in str(caught.value)


@pytest.mark.parametrize(
    ("jwks", "problem"),
    [
        ("[]", "is no JWK set"),
        ("{}", "is no JWK set"),
        ('{"keys": 5}', "is no JWK set"),
        ('{"keys": ["a"]}', "is no JWK set"),
        ("{", "is no JWK set"),
        ("[" * 5000, "is no JWK set"),
        ('{"keys": []}', "has no key that EdDSA could use"),
        ({"keys": [jwk(SECRET)]}, "has no key that EdDSA could use"),
        ({"keys": [jwk(KEY, use="enc")]}, "has no key that EdDSA could use"),
        ({"keys": [{"kty": "OKP", "crv": "Ed25519"}]}, "keys[0]: is no JWK"),
        ({"keys": [{"kty": "OKP", "crv": "Ed25519", "x": "AA"}]}, "keys[0]: "),
        ({"keys": [{"kty": "OKP", "crv": "Ed25519", "x": 5}]}, "keys[0]: is no JWK"),
        ({"keys": [jwk(KEY, d=base64url(bytes(32)))]}, "keys[0]: holds a private key"),
        ({"keys": [jwk(KEY, kid="a"), jwk(KEY, kid="a")]}, "has two keys with the same kid"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_a_set_of_keys_that_is_no_good(jwks: Any, problem: str) -> None:
    content = jwks if isinstance(jwks, str) else json.dumps(jwks)
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - which one is looked at below
        JwtVerifier(
            JwtSettings(
                algorithms=("EdDSA",),
                audience="mesh",
                jwks_file="jwks.json",
                keys=content.encode(),
            )
        )

    assert str(caught.value).startswith(problem)


# -- on the mesh -----------------------------------------------------------------------------------


def mesh_of(**more: Any) -> MemoryMesh:
    """Its clock says 1000, to the dispatcher as to people."""
    return MemoryMesh(Settings(tokens=TOKENS, jwt=jwt_settings(**more)))


def identify(mesh: MemoryMesh, token: str, **said: Any) -> Client:
    client = mesh.connect()
    client.send(op=1, data={"token": token, **said})
    return client


def test_a_client_is_let_in_by_its_jwt_beside_those_with_tokens() -> None:
    mesh = mesh_of()
    (welcome,) = identify(mesh, sign(KEY, claims()), name="billing-7").take()

    assert welcome["data"]["group"] == "billing"
    mesh.join("web")


def test_a_client_gets_no_more_than_the_claims_say() -> None:
    mesh = mesh_of()
    token = sign(KEY, claims(permissions={"send_global": False}))
    (end,) = identify(mesh, token, group="admin").take()
    assert end["error"]["message"] == "data.group: you may not join 'admin'"
    client = identify(mesh, token, permissions={"send_global": True}, groups=["admin"])
    client.take()
    client.send(op=0, event="E", intent={"target": "GLOBAL"})
    assert client.take()[0]["error"]["code"] == "FORBIDDEN"


def test_a_bad_jwt_ends_the_connection() -> None:
    (end,) = identify(mesh_of(), sign(KEY, claims(exp=820))).take()

    assert (end["op"], end["data"]) == (2, "IDENTIFY_FAILED")
    assert end["error"]["message"] == "data.token: the JWT expired 3 minutes ago"


def test_a_connection_ends_when_its_jwt_has_expired() -> None:
    mesh = mesh_of(leeway_ms=30_000)
    client = identify(mesh, sign(KEY, claims(exp=1015)))
    other = mesh.join("web")
    client.take()
    mesh.pass_time(44)
    assert [frame["op"] for frame in client.take()] == [3]
    mesh.pass_time(2)
    (end,) = client.take()

    assert (end["op"], end["data"]) == (2, "UNAUTHORIZED")
    assert end["error"]["message"] == (
        "the token that you identified yourself with has expired; come back with a new one"
    )
    assert not other.gone


def test_a_deadline_is_on_the_alarm_so_that_somebody_looks() -> None:
    mesh = mesh_of(leeway_ms=0)
    identify(mesh, sign(KEY, claims(exp=1015)))

    assert mesh.dispatcher.alarm.time <= 1015.1


@pytest.mark.parametrize("exp", [10**12, 10**300, 1e300])
def test_a_jwt_of_all_eternity(exp: float) -> None:
    mesh = mesh_of()
    client = identify(mesh, sign(KEY, claims(exp=exp)))
    client.take()

    assert not client.gone


def test_who_leaves_before_is_forgotten() -> None:
    mesh = mesh_of()
    client = identify(mesh, sign(KEY, claims(exp=1015)))
    assert len(mesh.dispatcher._entrance._expiring) == 1
    client.leave()

    assert len(mesh.dispatcher._entrance._expiring) == 0


def test_after_a_reload_those_stay_whose_key_is_still_there() -> None:
    jwks = [jwk(ed25519_key(number), kid=str(number)) for number in range(2)]
    mesh = MemoryMesh(Settings(jwt=jwt_settings(jwks=jwks)))
    clients = [
        identify(mesh, sign(ed25519_key(number), claims(), kid=str(number))) for number in range(2)
    ]
    for client in clients:
        client.take()
    mesh.dispatcher.reload(Settings(jwt=jwt_settings(jwks=jwks[1:])), mesh.now)

    assert [client.gone for client in clients] == [True, False]
    (end,) = clients[0].take()
    assert (end["data"], end["error"]["message"]) == (
        "UNAUTHORIZED",
        "what you identified yourself with is not accepted any more",
    )


@pytest.mark.parametrize(
    "settings",
    [
        Settings(),
        Settings(jwt=jwt_settings("Ed25519")),
        Settings(jwt=JwtSettings(algorithms=("EdDSA",), audience="b", key_file="k", keys=b"")),
        Settings(jwt=jwt_settings(issuer="somebody")),
        Settings(jwt=jwt_settings(keys=public_pem(ed25519_key(1)))),
    ],
    ids=["no JWTs", "another algorithm", "another audience", "another issuer", "another key"],
)
def test_after_a_reload_those_go_whose_jwt_would_not_be_accepted(settings: Settings) -> None:
    if settings.jwt is not None and not settings.jwt.keys:
        good = JwtSettings(algorithms=("EdDSA",), audience="b", key_file="k", keys=public_pem(KEY))
        settings = Settings(jwt=good)
    mesh = mesh_of()
    client = identify(mesh, sign(KEY, claims()))
    client.take()
    mesh.dispatcher.reload(settings, mesh.now)

    assert client.gone


def test_a_reload_with_a_bad_key_changes_nothing() -> None:
    mesh = mesh_of()
    client = identify(mesh, sign(KEY, claims()))
    client.take()
    with pytest.raises(ValueError, match="has no key in PEM"):
        mesh.dispatcher.reload(Settings(jwt=jwt_settings(keys=b"hello")), mesh.now)

    assert not client.gone
    mesh.join("web")


def test_a_wall_clock_that_is_set_decides_for_newcomers_and_disconnects_nobody() -> None:
    wall = NOW
    mesh = mesh_of(leeway_ms=0)
    mesh.dispatcher = Dispatcher(
        Settings(tokens=TOKENS, jwt=jwt_settings(leeway_ms=0)), wall_clock=lambda: wall
    )
    client = identify(mesh, sign(KEY, claims(exp=1060)))
    client.take()
    wall += 3600
    mesh.pass_time(50)
    assert not client.gone
    (end,) = identify(mesh, sign(KEY, claims(exp=1060))).take()
    assert end["error"]["message"] == "data.token: the JWT expired 59 minutes ago"
    # Sixty seconds were left to it, and these are over, whatever the wall clock says.
    wall -= 7200
    mesh.pass_time(11)
    assert client.gone
