"""A caller with a known key is admitted as the tenant of that key; no other is."""

import pytest

from proxy.call import Call
from proxy.errors import SluiceError
from proxy.stages.admission import Keyring


def call(credential: str | None = None) -> Call:
    return Call("1", "openai", "chat/completions", "m", b"", {}, credential=credential)


def tenant(keyring: Keyring, credential: str | None) -> str | None:
    made = call(credential)
    keyring.admit(made)
    return made.tenant


def test_open_keys_make_one_tenant_of_all() -> None:
    keyring = Keyring(False, ["sk-a"])
    assert {tenant(keyring, credential) for credential in (None, "sk-a", "rubbish")} == {"open"}


def test_each_key_is_a_tenant_whose_name_does_not_give_it_away() -> None:
    keyring = Keyring(True, ["sk-secret-a", "sk-secret-b"])
    names = [tenant(keyring, key) for key in ("sk-secret-a", "sk-secret-b", "sk-secret-a")]
    assert names[0] == names[2] != names[1]
    assert not any("secret" in (name or "") for name in names)
    assert "secret" not in repr(keyring)


@pytest.mark.parametrize("shown", [None, "", "sk", "sk-a ", "SK-A", "sk-aa", "\x00"])
def test_nothing_else_opens_the_door(shown: str | None) -> None:
    with pytest.raises(SluiceError) as raised:
        tenant(Keyring(True, ["sk-a", ""]), shown)
    assert (raised.value.code, raised.value.status) == ("invalid_api_key", 401)
    assert "sk-a" not in raised.value.message


def test_who_was_admitted_stays_so() -> None:
    made = call()
    made.tenant = "vapi"
    Keyring(True, ["sk-a"]).admit(made)
    assert made.tenant == "vapi"


def test_required_keys_with_none_configured_let_nobody_in() -> None:
    with pytest.raises(SluiceError):
        tenant(Keyring(True, [""]), "")


def test_keys_that_operators_made_are_asked_after_the_config_s_own() -> None:
    asked: list[str] = []

    def made(call: Call, credential: str) -> bool:
        asked.append(credential)
        if credential == "sk-made":
            call.tenant = "key-made"
        return credential == "sk-made"

    keyring = Keyring(True, ["sk-a"], made)
    assert tenant(keyring, "sk-a") != "key-made" and asked == []
    assert tenant(keyring, "sk-made") == "key-made"
    with pytest.raises(SluiceError) as raised:
        tenant(keyring, "sk-b")
    assert raised.value.code == "invalid_api_key"
    assert tenant(Keyring(False, [], made), "sk-made") == "open"
