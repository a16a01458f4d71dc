"""The page in a real browser: the plan is drawn, approved and run, and nobody's text is obeyed."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mlx_tinyagent.tools.local import Store, content_hash
from tests.server.browser import Browser, browsing, executable
from tests.server.live import TOKEN, Live

QUERY = "invite Noor and mail her the plan"
PLAN = """\
1. get_email_address("Noor van Dijk")
2. create_calendar_event("Budget <b>review</b>", "tomorrow at 3pm", "", "", ["$1"], "", None)
3. create_note("Agenda", "${1} is invited", "")
4. join()"""


@pytest.fixture(scope="session")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """A browser; skips, counted, where there is none."""
    program = executable()
    if program is None:
        pytest.skip("there is no Chromium on this machine")
    with browsing(program, tmp_path_factory.mktemp("profile")) as opened:
        yield opened


def submit(browser: Browser, query: str) -> None:
    """Write a request and send it."""
    browser.evaluate(
        f"find('query').value = {json.dumps(query)}; find('ask').requestSubmit(); true"
    )


@pytest.mark.slow
def test_a_plan_is_drawn_approved_and_run(
    browser: Browser, start: Callable[..., Live], store: Store, tmp_path: Path
) -> None:
    """The whole way: nothing has changed while the page asks; afterwards the graph says done."""
    live = start()
    live.script.plans[QUERY] = PLAN
    before = content_hash(store)
    browser.open(f"{live.address}/#{TOKEN}")
    assert browser.evaluate("location.hash") == ""

    submit(browser, QUERY)
    browser.wait("!find('approval').hidden")
    browser.screenshot(tmp_path / "approval.png")
    assert browser.evaluate("document.querySelectorAll('#graph g').length") == 3
    assert browser.evaluate("document.querySelectorAll('#graph > svg > path').length") == 2
    shown = browser.evaluate("find('steps').textContent")
    assert "Budget <b>review</b>" in shown
    assert "Tuesday 3 March 2026, 15:00" in shown
    assert browser.evaluate("document.activeElement.id") == "no"
    assert content_hash(store) == before

    browser.evaluate("find('yes').click(); true")
    browser.wait("document.querySelector('#log article')")
    browser.wait("find('approval').hidden && !find('send').disabled")
    picture = browser.screenshot(tmp_path / "done.png")
    assert browser.evaluate("document.querySelectorAll('#graph g.ok').length") == 3
    assert content_hash(store) != before
    assert len(picture) > 10_000


@pytest.mark.slow
def test_a_refusal_changes_nothing(
    browser: Browser, start: Callable[..., Live], store: Store
) -> None:
    """And it is said."""
    live = start()
    live.script.plans[QUERY] = PLAN
    before = content_hash(store)
    browser.open(f"{live.address}/#{TOKEN}")

    submit(browser, QUERY)
    browser.wait("!find('approval').hidden")
    browser.evaluate("find('no').click(); true")
    browser.wait("document.querySelector('#log .error')")

    assert "nothing was changed" in browser.evaluate("find('log').textContent")
    assert content_hash(store) == before


@pytest.mark.slow
def test_stop_ends_a_run(browser: Browser, live: Live) -> None:
    """The model stops at its next token."""
    live.script.plans["wait"] = "BLOCK"
    browser.open(f"{live.address}/#{TOKEN}")

    submit(browser, "wait")
    assert live.script.begun.wait(60)
    browser.evaluate("find('stop').click(); true")

    browser.wait("document.querySelector('#log .error')")
    assert live.script.ended.wait(60)


@pytest.mark.slow
def test_a_question_can_be_answered(browser: Browser, live: Live, tmp_path: Path) -> None:
    """By one of the offered answers."""
    live.script.plans["go"] = PLAN.replace("tomorrow at 3pm", "someday")
    browser.open(f"{live.address}/#{TOKEN}")

    submit(browser, "go")
    browser.wait("!find('question').hidden")
    browser.screenshot(tmp_path / "question.png")
    browser.evaluate("document.querySelector('#choices button').click(); true")
    browser.wait("!find('approval').hidden")

    assert "2026" in browser.evaluate("find('steps').textContent")
    browser.evaluate("find('no').click(); true")
    browser.wait("find('approval').hidden && !find('send').disabled")


@pytest.mark.slow
def test_without_the_token_nothing_is_planned(browser: Browser, live: Live) -> None:
    """The page says what to do."""
    browser.open(f"{live.address}/#wrong")

    submit(browser, "hello")
    browser.wait("document.querySelector('#log .error')")

    assert "token" in browser.evaluate("find('log').textContent")
    assert not live.script.requests


@pytest.mark.slow
def test_the_policy_holds(browser: Browser, live: Live) -> None:
    """Markup, code in the page, other servers and frames are refused by the browser itself."""
    browser.open(f"{live.address}/#{TOKEN}")

    assert browser.evaluate(
        "(() => { try { document.body.innerHTML = '<b>x</b>'; return false } "
        "catch { return true } })()"
    )
    assert browser.evaluate(
        "fetch('http://127.0.0.1:1/').then(() => false, (error) => error instanceof TypeError)"
    )
    assert not browser.evaluate(
        "new Promise((done) => { const script = document.createElement('script'); "
        "script.text = trusted = 'window.broken = true'; document.head.append(script); "
        "setTimeout(() => done(Boolean(window.broken)), 50) }).catch(() => false)"
    )


def test_the_page_is_constant_and_needs_no_token(live: Live) -> None:
    """Three files of the package, with a strict policy; nothing of the user's is in them."""
    for path in ("/", "/page.js", "/page.css"):
        status, headers, body = live.request("GET", path, authorization=None)
        assert status == 200
        assert "default-src 'none'" in headers["content-security-policy"]
        assert "unsafe" not in headers["content-security-policy"]
        assert body
        assert b"http://" not in body.replace(b"http://www.w3.org/2000/svg", b"")
        assert b"https://" not in body
