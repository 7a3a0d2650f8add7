"""An endpoint that fails, stalls, refuses, asks for a key or talks nonsense."""

import sys
from traceback import format_exception
from types import SimpleNamespace

import pytest

from scopeworks.evaluate.latents.explain.asking import endpoint as module
from scopeworks.evaluate.latents.explain.asking.endpoint import Endpoint, PassingError
from scopeworks.evaluate.latents.explain.asking.request import Answer, Request
from scopeworks.evaluate.latents.explain.asking.settings import AskingSettings
from scopeworks.settings import resolve
from scopeworks.tests.evaluate.latents.language_server import LanguageServer

REQUEST = Request("parrot", (("system", "repeat"), ("user", "é\n")), 0.0, 9, 3)


def asked(server: LanguageServer, url: str | None = None, **settings) -> Answer:
    given = {"endpoint": url or server.url, "llm": "parrot"} | settings
    endpoint = Endpoint(AskingSettings.model_validate(given))
    try:
        return endpoint.answer(REQUEST)
    finally:
        endpoint.close()


def test_an_answer_comes_with_its_tokens():
    with LanguageServer(lambda text: f"<{text}>") as server:
        assert asked(server) == Answer("<é\n>", 7, 3)
        assert server.answered == {REQUEST.key: 1}


def test_what_fails_or_stalls_is_asked_again():
    with LanguageServer(str.upper, fail_every=2, stall_s=30.0) as server:
        for _ in range(3):
            assert asked(server, timeout_s=0.2).text == "É\n"
        assert server.n_failed == 2 and server.answered[REQUEST.key] == 3


@pytest.mark.parametrize(
    ("refusal", "settings", "error", "match"),
    [
        ((503, "full <b>", {}), {"attempts": 2}, OSError, r"answered 503: full <b>"),
        ((404, "no such model", {}), {}, ValueError, r"404: no such model; check --endpoint and"),
        ((403, "", {}), {}, ValueError, "asks for a key; name the variable .* with --key-from"),
        ((200, "<html>", {}), {"attempts": 1}, OSError, "must answer as chat completions do, but"),
        ((200, '{"choices": 3}', {}), {"attempts": 1}, OSError, "choices: input should be a"),
        (
            (200, "no", {"Content-Encoding": "gzip"}),
            {"attempts": 2},
            OSError,
            "cannot be read: Err",
        ),
        ((302, "", {"Location": "/elsewhere"}), {}, ValueError, "answered 302"),
    ],
)
def test_refusals_are_one_line(refusal, settings, error, match):
    with LanguageServer(str) as server:
        server.refuse = refusal
        with pytest.raises(error, match=match):
            asked(server, **settings)
        assert server.seen == settings.get("attempts", 1)


def test_nobody_there_is_one_line():
    with LanguageServer(str) as server:
        url = server.url
    with pytest.raises(OSError, match="chat/completions cannot be reached"):
        asked(server, url=url, attempts=2)


def test_a_completion_without_text_is_an_empty_answer():
    with LanguageServer(str) as server:
        server.refuse = (200, '{"choices": [{"message": {"content": null}}]}', {})
        assert asked(server) == Answer("")


def test_the_key_comes_from_the_environment(monkeypatch, capsys):
    monkeypatch.setenv("SOME_KEY", "s3cret\n")
    with LanguageServer(str, key="s3cret") as server:
        assert asked(server, key_from="SOME_KEY").text == "é\n"
        with pytest.raises(ValueError, match="401: it asks for a key") as caught:
            monkeypatch.setenv("SOME_KEY", "0ther")
            asked(server, key_from="SOME_KEY")
    assert "0ther" not in str(caught.value) and "s3cret" not in capsys.readouterr().err
    monkeypatch.delenv("SOME_KEY")
    with pytest.raises(ValueError, match="key_from must name a variable that holds the key"):
        asked(server, key_from="SOME_KEY", url="http://127.0.0.1:9")


@pytest.mark.parametrize(
    ("refusal", "error"),
    [
        ((400, 'no header "Bearer {}"', {}), ValueError),
        ((503, "x" * 180 + "{}", {}), OSError),  # a line is cut within the key
        ((200, '{{"choices": "{}"}}', {}), OSError),
        ((200, "<html>{}", {"Content-Encoding": "{}"}), OSError),
    ],
)
@pytest.mark.parametrize("escaped", ["/", r"\/"])
def test_a_key_that_the_server_repeats_is_not_shown(monkeypatch, refusal, error, escaped):
    monkeypatch.setenv("SOME_KEY", "s3cr/" + "e" * 60 + "t")
    with LanguageServer(str) as server:
        status, body, headers = refusal
        server.refuse = (status, body.format("s3cr" + escaped + "e" * 60 + "t"), headers)
        with pytest.raises(error, match=r"\*\*\*") as caught:
            asked(server, key_from="SOME_KEY", attempts=1)
    assert "s3cr" not in str(caught.value)


def test_an_answer_that_drips_has_one_time_limit():
    with (
        LanguageServer(lambda _: "long " * 100, drip_s=0.05) as server,
        pytest.raises(OSError, match=r"gave no answer in 0\.4 s"),
    ):
        asked(server, timeout_s=0.4, attempts=1)


def test_an_answer_is_not_read_beyond_its_limit(monkeypatch):
    monkeypatch.setattr(module, "_MOST_BYTES", 4)
    with (
        LanguageServer(str, drip_s=30.0) as server,
        pytest.raises(ValueError, match="answered more than 4 bytes; check --endpoint"),
    ):
        asked(server, timeout_s=5.0, attempts=1)


HTTP = module._http()  # pyright: ignore


@pytest.mark.parametrize(
    "kind",
    [
        kind
        for kind in vars(HTTP).values()
        if isinstance(kind, type) and issubclass(kind, Exception)
    ],
)
def test_no_error_of_the_client_escapes(monkeypatch, kind):
    def fail(*_: object, **_more: object) -> None:
        raise Exception.__new__(kind, "broken")

    monkeypatch.setattr(HTTP.Client, "stream", fail)
    with LanguageServer(str) as server, pytest.raises((ValueError, OSError), match="endpoint"):
        asked(server, attempts=1)


def test_servers_say_how_long_to_wait():
    waits = []

    def wait(timeout: float) -> None:
        waits.append(timeout)

    stub = SimpleNamespace(wait=wait, is_set=lambda: False)
    retried = module._retrying(3, stub)  # pyright: ignore

    def fail() -> Answer:
        raise PassingError("busy", after=21.5)

    with pytest.raises(PassingError, match="busy"):
        retried(fail)
    assert waits == [21.5, 21.5]


def test_what_the_extra_brings_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "tenacity", None)
    with (
        LanguageServer(str) as server,
        pytest.raises(ValueError, match=r"pip install 'scopeworks\[latents\]'"),
    ):
        asked(server)


def test_requests_keep_their_pace(monkeypatch):
    waits, clock = [], iter([100.0, 100.1, 100.2])
    stub = SimpleNamespace(wait=waits.append)
    monkeypatch.setattr(module.time, "monotonic", lambda: next(clock))
    pace = module._Pace(60.0, stub)  # pyright: ignore
    for _ in range(3):
        pace.wait()
    assert waits == pytest.approx([0.0, 0.9, 1.8])


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        ({"endpoint": "http://x"}, "llm must name the language model"),
        ({"endpoint": "ftp://x", "llm": "m"}, "endpoint must be a URL as .*, got 'ftp://x'"),
        ({"endpoint": "", "llm": "m"}, "endpoint must be a URL as"),
        ({"endpoint": "http://x", "llm": "m", "llm_model": "y"}, "must not both be given"),
        ({"llm": "m"}, "llm has no effect without endpoint"),
        ({"llm_model": "y", "key_from": "K"}, "key_from has no effect without endpoint"),
        ({"timeout_s": 1e10}, r"timeout_s\s+Input should be less than or equal to 86400"),
        ({"timeout_s": 1e-9}, r"timeout_s\s+Input should be greater than or equal to 0.01"),
        ({"requests_per_minute": 1e-300}, r"per_minute\s+Input should be greater than or equal"),
    ],
)
def test_settings_that_do_not_fit_are_refused(settings, match):
    with pytest.raises(ValueError, match=match):
        AskingSettings.model_validate(settings)


@pytest.mark.parametrize(
    "settings",
    [
        {"endpoint": "http://me:s3cret@127.0.0.1/v1"},
        {"endpoint": "https://s3cret@host"},
        {"endpoint": "http://host/v1?key=s3cret"},
        {"endpoint": "http://host/v1#s3cret"},
        {"endpoint": "me:s3cret@host/v1"},
        {"endpoint": "http://host/v1", "key_from": "sk-s3cret"},
    ],
)
def test_a_secret_in_the_settings_is_refused_and_not_shown(settings):
    with pytest.raises(ValueError, match=r"variable that holds the key.* --key-from") as caught:
        resolve(AskingSettings, llm="m", **settings)
    assert "s3cret" not in "".join(format_exception(caught.value))
