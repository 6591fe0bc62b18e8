"""The console in a browser, before a real gateway and a local SageMaker: what an operator sees and does."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from deploy.local.engine import build
from gateway.auth.keys import digest, new_key
from tests.support.browser import Watched, chromium, watched_page
from tests.support.pictures import PNG_1
from tests.support.stack import KEY, Gateway, Local, config, model, running_gateway, running_local

ADMIN = new_key()
MODELS = (
    model("steady", "vllm", "0.33", modalities=["text", "image"], limits={"concurrent_requests": 50}),
    model("shaky", "lmi", "27", attempts=1),
)
SECRET = "the walrus was Paul"
HOSTILE = "<img src=x onerror=document.title='owned'><script>document.title='owned'</script>"
SIZE = {"width": 1280, "height": 900}


@pytest.fixture(scope="module")
def local() -> Iterator[Local]:
    containers = {"steady": build("vllm", token_delay_s=0.002), "shaky": build("lmi27")}
    with running_local(containers) as running:
        yield running


@contextmanager
def serving(local: Local, workers: int) -> Iterator[Gateway]:
    configuration = config(local.url, *MODELS, workers=workers, admin_port=0, admin_key_digest=digest(ADMIN))
    configuration["keys"][0]["limits"] = {"requests_per_minute": 6000, "tokens_per_day": 1_000_000}
    with running_gateway(configuration) as gateway:
        yield gateway


@pytest.fixture(scope="module")
def gateway(local: Local) -> Iterator[Gateway]:
    with serving(local, 1) as running:
        yield running


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as running:
        yield running


def administration(gateway: Gateway) -> str:
    return next(found[1] for line in gateway.log if (found := re.search(r'"admin_url":"(http[^"]+)"', line)))


@contextmanager
def opened(browser: Browser, gateway: Gateway, *, refused: int = 0, **options: Any) -> Iterator[Watched]:
    """Open the console, and see at the end that nothing has happened which must not.

    Args:
        refused: the status that some request is answered with, which is all that the browser complains of.
    """
    url = administration(gateway)
    with watched_page(browser, url, viewport=SIZE, **options) as watched:
        watched.page.goto(f"{url}/console")
        yield watched
        # A browser writes in red that an answer was no success, whatever the page makes of it.
        words = f"Failed to load resource: the server responded with a status of {refused} "
        assert [text for text in watched.complaints if not text.startswith(words)] == []
        assert watched.elsewhere == []
        assert "owned" not in watched.page.title()


@pytest.fixture
def page(browser: Browser, gateway: Gateway) -> Iterator[Page]:
    with opened(browser, gateway) as watched:
        sign_in(watched.page)
        yield watched.page


def sign_in(page: Page, key: str = ADMIN) -> None:
    page.get_by_label("The administration’s key").fill(key)
    page.get_by_role("button", name="Open").click()


def section(page: Page, name: str) -> None:
    page.get_by_role("link", name=name, exact=True).click()
    expect(page.get_by_role("heading", level=1)).to_contain_text(name)


def call(gateway: Gateway, name: str, text: str = "hello", *, stream: bool = False) -> int:
    body = {"model": name, "messages": [{"role": "user", "content": text}], "stream": stream}
    headers = {"authorization": f"Bearer {KEY}"}
    return httpx.post(f"{gateway.base_url}/chat/completions", json=body, headers=headers, timeout=20).status_code


@contextmanager
def often(act: Callable[[], object]) -> Iterator[None]:
    """Do something ten times a second, beside."""
    over = threading.Event()

    def run() -> None:
        while not over.wait(0.1):
            act()

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join(20)


# Who may see it


def test_a_wrong_key_is_told_and_the_right_one_opens_until_the_tab_is_left(browser: Browser, gateway: Gateway) -> None:
    with opened(browser, gateway, refused=401) as watched:
        page = watched.page
        expect(page.get_by_role("link", name="Overview")).to_be_hidden()
        sign_in(page, new_key())
        expect(page.get_by_role("alert").first).to_have_text("This is not the administration’s key.")
        expect(page.get_by_label("The administration’s key")).to_be_focused()
        expect(page.get_by_label("The administration’s key")).to_have_value("")
        sign_in(page)
        expect(page.get_by_role("status").first).to_have_text("Live")
        page.reload()
        expect(page.get_by_role("heading", name="Overview")).to_be_visible()
        assert page.evaluate("[Object.values(localStorage).join(), document.cookie]") == ["", ""]
        page.get_by_role("button", name="Sign out").click()
        expect(page.get_by_label("The administration’s key")).to_be_focused()
        assert page.evaluate("sessionStorage.length") == 0


# How it goes


def tile(page: Page, name: str) -> Locator:
    return page.locator(f"[data-tile={name}] dd > span").first


def health_of(page: Page, name: str) -> Locator:
    return page.get_by_role("row").filter(has=page.get_by_role("rowheader", name=name, exact=True))


def test_charts_and_tiles_move_with_the_calls(page: Page, gateway: Gateway) -> None:
    picture = page.locator("figure", has_text="Calls per second").locator("path").first
    with often(lambda: call(gateway, "steady", stream=True)):
        expect(tile(page, "rate")).to_have_text(re.compile(r"^[1-9]"))
        expect(tile(page, "first")).to_have_text(re.compile(r"^[0-9.]+ ms$"))
        expect(tile(page, "tokens")).to_have_text(re.compile(r"^[1-9]"))
        before = picture.get_attribute("d")
        expect(picture).not_to_have_attribute("d", before or "")
    expect(tile(page, "credentials")).to_have_text("Valid")
    expect(page.locator("figure", has_text="Between tokens")).to_contain_text(re.compile(r"p50 [0-9.]+ ms"))
    page.locator("#overview").get_by_label("Model").select_option("shaky")
    expect(page.get_by_role("rowheader", name="steady")).to_be_hidden()


def test_a_broken_deployment_turns_red_says_why_and_recovers(page: Page, gateway: Gateway, local: Local) -> None:
    steady, shaky = health_of(page, "steady"), health_of(page, "shaky")
    with often(lambda: (call(gateway, "shaky"), call(gateway, "steady"))):
        expect(shaky).to_contain_text("Healthy")
        local.add_fault({"kind": "model_error", "status": 500, "body": SECRET}, endpoint="shaky", times=None)
        try:
            expect(shaky).to_contain_text("Failing")
            expect(shaky).to_contain_text("the container fails")
            expect(shaky.locator(".badge")).to_have_class(re.compile(r"\bbad\b"))
            expect(page.get_by_role("rowheader", name="upstream_error")).to_be_visible()
            expect(steady).to_contain_text("Healthy")
        finally:
            local.clear_faults()
        expect(shaky).to_contain_text("Healthy")
        expect(shaky).to_contain_text("none failed")


# Calls


def test_calls_are_listed_filtered_and_explained_and_nothing_of_what_was_said(page: Page, gateway: Gateway) -> None:
    assert call(gateway, "steady", f"repeat: {SECRET}", stream=True) == 200
    assert call(gateway, "nowhere", SECRET) == 404
    section(page, "Calls")
    rows = page.get_by_role("table", name="Recent calls").locator("tbody tr")
    expect(rows.filter(has_text="model_not_found").first).to_be_visible()
    calls = page.locator("#calls")
    calls.get_by_label("Model").select_option("steady")
    calls.get_by_label("Code").select_option("ok")
    expect(rows.filter(has_text="model_not_found")).to_have_count(0)
    rows.filter(has_text="chat, streamed").first.get_by_role("button").click()
    dialog = page.get_by_role("dialog")
    expect(dialog).to_contain_text("the gateway")
    expect(dialog.get_by_role("img")).to_have_attribute("aria-label", re.compile(r"the gateway [0-9.]+ ms"))
    expect(dialog).to_contain_text("req_")
    page.keyboard.press("Escape")
    expect(dialog).to_be_hidden()
    assert SECRET not in page.content()
    answer = httpx.get(f"{administration(gateway)}/admin/live", headers={"authorization": f"Bearer {ADMIN}"})
    assert len(answer.json()["calls"]) > 1
    assert SECRET not in answer.text
    assert KEY not in answer.text


def test_tables_are_sorted_by_buttons(page: Page, gateway: Gateway) -> None:
    for number in (3, 30, 10):
        assert call(gateway, "steady", f"count to {number}") == 200
    section(page, "Calls")
    page.get_by_role("button", name="Hold").click()
    table = page.get_by_role("table", name="Recent calls")
    page.get_by_role("button", name="Tokens").click()
    expect(table.locator("th[aria-sort=descending]")).to_have_text("Tokens")
    page.get_by_role("button", name="Tokens").click()
    expect(table.locator("th[aria-sort=ascending]")).to_have_text("Tokens")
    cells = [re.sub(r".*→\s*", "", text) for text in table.locator("tbody td:nth-child(8)").all_inner_texts()]
    tokens = [int(text) for text in cells if text.isdigit()]
    assert len(tokens) >= 3
    assert tokens == sorted(tokens)


def test_limits_and_usage_are_told_by_key(page: Page, gateway: Gateway) -> None:
    assert call(gateway, "steady", "count to 9") == 200
    section(page, "Limits")
    row = page.get_by_role("row", name=re.compile("tokens per day"))
    expect(row.get_by_role("meter")).to_have_attribute("aria-valuetext", re.compile(r"^[0-9,]+ of 1,?000 k"))
    expect(page.get_by_role("table", name="Used today").get_by_role("rowheader", name="all")).to_be_visible()
    page.get_by_label("Show").fill("steady")
    expect(row).to_be_hidden()
    expect(page.get_by_role("row", name=re.compile("50 calls at once"))).to_be_visible()


# The playground


def send(page: Page, text: str, **fields: str) -> Locator:
    page.get_by_label("API key").fill(KEY)
    page.get_by_label("Your message").fill(text)
    for name, value in fields.items():
        page.get_by_label(name.replace("_", " ").capitalize()).fill(value)
    page.get_by_role("button", name="Send").click()
    expect(page.get_by_text("The answer is complete.")).to_be_visible()
    return page.get_by_role("region", name="Answer")


def test_an_answer_streams_and_its_times_are_told(page: Page, local: Local) -> None:
    section(page, "Playground")
    local.add_fault({"kind": "stall", "after_frames": 8}, endpoint="steady")
    try:
        page.get_by_label("API key").fill(KEY)
        page.get_by_label("Your message").fill("count to 30")
        page.get_by_role("button", name="Send").click()
        answer = page.get_by_role("region", name="Answer")
        expect(answer).to_contain_text("1, 2")
        assert "30" not in answer.inner_text(), "the rest has not come yet"
        expect(page.get_by_role("button", name="Stop")).to_be_enabled()
    finally:
        local.clear_faults()
    expect(answer).to_contain_text("29, 30")
    facts = page.locator("#playground dl.facts")
    expect(facts).to_contain_text(re.compile(r"First token\s*[0-9.]+ m?s"))
    expect(facts).to_contain_text("Server timing")
    expect(facts).to_contain_text(re.compile(r"[0-9]+ of the prompt, [0-9]+ of the answer"))
    page.get_by_text("Raw events").click()
    expect(page.get_by_label("Raw events")).to_contain_text("[DONE]")


def test_stopping_ends_the_call_at_the_container(page: Page, local: Local) -> None:
    section(page, "Playground")
    local.add_fault({"kind": "stall", "after_frames": 5}, endpoint="steady")
    page.get_by_label("API key").fill(KEY)
    page.get_by_label("Your message").fill("count to 30")
    page.get_by_role("button", name="Send").click()
    expect(page.get_by_role("region", name="Answer")).to_contain_text("1")
    page.get_by_role("button", name="Stop").click()
    expect(page.get_by_text("Stopped.")).to_be_visible()
    local.last_call()  # returns once nothing runs for it any more, though its stall never ends by itself
    local.clear_faults()


def test_a_tool_call_a_system_message_and_a_bound(page: Page, local: Local) -> None:
    section(page, "Playground")
    page.get_by_text("Tools, as JSON").click()
    page.get_by_role("button", name="Put in an example").click()
    send(page, "What is the weather in Rome?", system_message="Be brief.", most_tokens="200", temperature="0.5")
    expect(page.locator("#playground .tool")).to_contain_text("get_weather")
    expect(page.locator("#playground .tool")).to_contain_text("Rome")
    body = local.last_body()
    assert body["messages"][0] == {"role": "system", "content": "Be brief."}
    assert (body["max_tokens"], body["temperature"], body["tools"][0]["function"]["name"]) == (200, 0.5, "get_weather")
    page.get_by_label("Tools", exact=True).fill("[nonsense")
    page.get_by_role("button", name="Send").click()
    expect(page.get_by_text("The tools are not JSON")).to_be_visible()


def test_an_image_goes_along(page: Page, tmp_path: Path) -> None:
    section(page, "Playground")
    path = tmp_path / "red.png"
    path.write_bytes(PNG_1)
    page.get_by_label("Images").set_input_files(path)
    expect(page.get_by_role("img", name="red.png")).to_be_visible()
    page.get_by_label("Stream the answer").uncheck()
    expect(send(page, "What is this?")).to_contain_text("image/png 1x1")
    page.get_by_text("As curl").click()
    expect(page.get_by_label("curl")).to_contain_text("data:image/png;base64,…")


def test_hostile_text_stays_text(page: Page) -> None:
    section(page, "Playground")
    expect(send(page, f"repeat: {HOSTILE}")).to_have_text(HOSTILE)
    assert page.locator("#playground .answer img").count() == 0


def test_the_same_call_from_a_shell_and_from_python_without_the_key(page: Page, gateway: Gateway) -> None:
    section(page, "Playground")
    send(page, "Say 'it''s' \"so\"")
    page.get_by_text("As curl").click()
    page.get_by_text("As Python").click()
    shell, script = page.get_by_label("curl").inner_text(), page.get_by_label("Python").inner_text()
    assert "$API_KEY" in shell
    assert f"{gateway.url}/v1/chat/completions" in shell
    assert "'\\''it" in shell
    compile(script, "snippet", "exec")
    assert f'base_url="{gateway.url}/v1"' in script
    assert KEY not in page.content()
    assert page.evaluate("Object.values(sessionStorage)") == [ADMIN]


def test_a_refusal_is_shown_with_its_code(browser: Browser, gateway: Gateway) -> None:
    with opened(browser, gateway, refused=401) as watched:
        page = watched.page
        sign_in(page)
        section(page, "Playground")
        page.get_by_label("API key").fill(new_key())
        page.get_by_role("button", name="Send").click()
        expect(page.get_by_text("The call failed.")).to_be_visible()
        expect(page.get_by_text("invalid_api_key: Incorrect API key provided.")).to_be_visible()
        expect(page.get_by_role("heading", name="Playground")).to_be_visible()


# How it looks and is worked


def background(page: Page) -> str:
    return str(page.evaluate("getComputedStyle(document.body).backgroundColor"))


def test_dark_follows_the_system_unless_told_otherwise(page: Page) -> None:
    assert background(page) == "rgb(244, 246, 247)"
    page.emulate_media(color_scheme="dark")
    assert background(page) == "rgb(15, 20, 24)"
    theme = page.get_by_role("button", name=re.compile("^Colours"))
    theme.click()
    expect(theme).to_have_text("Colours: light")
    assert background(page) == "rgb(244, 246, 247)"
    page.emulate_media(color_scheme="light")
    theme.click()
    assert background(page) == "rgb(15, 20, 24)"
    page.reload()
    assert background(page) == "rgb(15, 20, 24)"


def focused(page: Page) -> str:
    return str(page.evaluate("(document.activeElement.textContent || document.activeElement.id).trim()"))


def test_it_is_worked_without_a_mouse(browser: Browser, gateway: Gateway) -> None:
    with opened(browser, gateway) as watched:
        page = watched.page
        expect(page.get_by_label("The administration’s key")).to_be_visible()
        walked = []
        for _ in range(3):
            page.keyboard.press("Tab")
            walked.append(focused(page))
        assert walked == ["Skip to the content", "Colours: auto", "admin-key"]
        page.keyboard.type(ADMIN)
        page.keyboard.press("Enter")
        expect(page.get_by_role("heading", name="Overview")).to_be_visible()
        page.evaluate("document.activeElement.blur(), getSelection().removeAllRanges()")
        page.locator("body").press("Tab")
        page.keyboard.press("Tab")
        while focused(page) != "Playground":
            page.keyboard.press("Tab")
        ring = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
        assert ring == "solid", "what has the focus is seen to have it"
        page.keyboard.press("Enter")
        expect(page.get_by_role("heading", name="Playground")).to_be_visible()
        page.get_by_label("API key").focus()
        page.keyboard.type(KEY)
        for _ in range(2):
            page.keyboard.press("Tab")
        page.keyboard.press("ControlOrMeta+A")
        page.keyboard.type("repeat: by hand")
        while focused(page) != "Send":
            page.keyboard.press("Tab")
        page.keyboard.press("Space")
        expect(page.get_by_role("region", name="Answer")).to_have_text("by hand")


def test_everything_that_is_asked_for_has_a_name(page: Page) -> None:
    for name in ("Overview", "Calls", "Limits", "Playground"):
        section(page, name)
        nameless = page.evaluate(
            """() => {
              const asked = 'main input, main select, main textarea, button, [role=img], [role=meter]';
              const named = (each) => each.labels?.length || each.ariaLabel || each.textContent.trim()
                || each.querySelector('title')?.textContent;
              return [...document.querySelectorAll(asked)].filter((each) => each.checkVisibility() && !named(each))
                .map((each) => each.outerHTML);
            }"""
        )
        assert nameless == []


@pytest.mark.parametrize("width", [1280, 800])
def test_nothing_is_wider_than_the_window(page: Page, width: int) -> None:
    page.set_viewport_size({"width": width, "height": 800})
    for name in ("Overview", "Calls", "Limits", "Playground"):
        section(page, name)
        assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_who_wants_no_motion_gets_none(page: Page) -> None:
    page.emulate_media(reduced_motion="reduce")
    section(page, "Limits")
    fill = page.locator(".fill").first
    expect(fill).to_be_attached()
    assert fill.evaluate("(each) => getComputedStyle(each).transitionDuration") == "0s"


# What is computed


@pytest.fixture(scope="module")
def blank(browser: Browser, gateway: Gateway) -> Iterator[Page]:
    with opened(browser, gateway) as watched:
        yield watched.page


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        pytest.param("quantile(0.5, {bounds: [1, 2, Infinity], counts: [0, 10, 10]})", 1.5, id="within a bucket"),
        pytest.param("quantile(0.5, {bounds: [1, 2, Infinity], counts: [10, 10, 10]})", 0.5, id="from zero"),
        pytest.param("quantile(0.95, {bounds: [1, 2, Infinity], counts: [0, 0, 10]})", 2, id="beyond the last bound"),
        pytest.param("quantile(0.5, {bounds: [1, Infinity], counts: [0, 0]})", None, id="of nothing"),
        pytest.param("quantile(0.5, null)", None, id="of a metric that there is not"),
        pytest.param("total(growth(sample(1, 5), sample(2, 8), 'calls'))", 3, id="growth"),
        pytest.param("total(growth(sample(1, 5), sample(2, 2), 'calls'))", 2, id="growth since a restart"),
        pytest.param("total(growth(null, sample(2, 8), 'calls'))", 8, id="growth since the start"),
        pytest.param("total(growth(sample(1, 5), sample(2, 8), 'calls', [], {model: 'b'}))", 0, id="of another model"),
        pytest.param("total(growth(sample(1, 5), sample(2, 8), 'nothing'))", 0, id="of no such metric"),
        pytest.param("level(sample(1, 5), 'calls')", 5, id="a level"),
        pytest.param("level(sample(1, 5), 'nothing')", None, id="no level"),
    ],
)
def test_what_counters_tell(blank: Page, expression: str, value: float | None) -> None:
    script = f"""async () => {{
      const {{ growth, level, quantile, total }} = await import('/console/series.js');
      const sample = (at, n) => ({{ at, metrics: {{ calls: {{ labels: ['model'], series: [[['a'], n]] }} }} }});
      return {expression};
    }}"""
    assert blank.evaluate(script) == value


# Several workers


def test_calls_of_every_worker_are_seen(browser: Browser, local: Local) -> None:
    with serving(local, 2) as gateway:
        for number in range(12):
            assert call(gateway, "steady", f"repeat: {SECRET}", stream=number % 2 > 0) == 200
        with opened(browser, gateway) as watched:
            page = watched.page
            sign_in(page)
            expect(tile(page, "workers")).to_have_text("2")
            expect(health_of(page, "steady")).to_contain_text("Healthy")
            section(page, "Calls")
            expect(page.get_by_role("table", name="Recent calls").locator("tbody tr")).to_have_count(12)
            section(page, "Limits")
            expect(page.get_by_text("each worker process counts by itself")).to_be_visible()
            expect(page.get_by_text("What keys have used today cannot be told either.")).to_be_visible()
        answer = httpx.get(f"{administration(gateway)}/admin/live", headers={"authorization": f"Bearer {ADMIN}"})
        told = answer.json()
        assert len(told["cursor"].split("-")) == 2, "a ring for each worker"
        assert next(row for row in told["metrics"]["calls"]["series"] if row[0][0] == "ok")[1] == 12
        assert SECRET not in answer.text
        assert gateway.stop() == 0
