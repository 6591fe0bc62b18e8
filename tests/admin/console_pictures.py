"""Make the pictures of docs/console.md anew: `python -m tests.admin.console_pictures`, which takes some two minutes.

A gateway that has something to show: two models, one of them with a deployment that is throttled now and then, two keys
with limits, and callers who keep asking.
"""

from __future__ import annotations

import io
import random
import re
import threading
import time
from pathlib import Path

import httpx
from PIL import Image
from playwright.sync_api import Page, expect

from deploy.local.engine import build
from gateway.auth.keys import digest, new_key
from tests.support.browser import chromium, watched_page
from tests.support.stack import KEY, NARROW_KEY, config, model, running_gateway, running_local

FOLDER = Path(__file__).parents[2] / "docs" / "images"
ADMIN = new_key()
SHOWN_S = 110.0
"""How long the callers have asked when the pictures are taken."""
SIZE = {"width": 1280, "height": 860}


def main() -> None:
    containers = {
        "llama-a": build("lmi27", first_token_delay_s=0.12, token_delay_s=0.012),
        "llama-b": build("vllm", first_token_delay_s=0.09, token_delay_s=0.009),
        "qwen-vl": build("vllm", first_token_delay_s=0.05, token_delay_s=0.005),
    }
    llama = model("llama-3.3-70b", "lmi", "27", limits={"concurrent_requests": 24}, deployment={"endpoint": "llama-a"})
    second = model("", "vllm", "0.33", deployment={"endpoint": "llama-b"})["deployments"]
    llama["deployments"] += second
    qwen = model("qwen2.5-vl", "vllm", "0.33", deployment={"endpoint": "qwen-vl"}, modalities=["text", "image"])
    with running_local(containers) as local:
        configuration = config(local.url, llama, qwen, admin_port=0, admin_key_digest=digest(ADMIN))
        website, batch = configuration["keys"]
        website |= {"id": "website", "limits": {"requests_per_minute": 900, "tokens_per_day": 250_000}}
        batch |= {"id": "batch", "models": ["*"], "limits": {"concurrent_requests": 8, "tokens_per_minute": 40_000}}
        local.add_fault({"kind": "throttle"}, endpoint="llama-b", times=None, probability=0.07, seed=3)
        with running_gateway(configuration) as gateway:
            over = threading.Event()
            callers = [threading.Thread(target=ask, args=(gateway.base_url, number, over)) for number in range(6)]
            for caller in callers:
                caller.start()
            try:
                time.sleep(SHOWN_S)
                url = next(found[1] for line in gateway.log if (found := re.search(r'"admin_url":"(.+?)"', line)))
                take_all(url)
            finally:
                over.set()
                for caller in callers:
                    caller.join()


def ask(base_url: str, number: int, over: threading.Event) -> None:
    chance = random.Random(number)
    with httpx.Client(base_url=base_url, timeout=30) as client:
        while not over.is_set():
            wave = 0.6 + 0.4 * (time.monotonic() % 60 < 35)
            body = {
                "model": chance.choice(["llama-3.3-70b", "llama-3.3-70b", "qwen2.5-vl"]),
                "messages": [{"role": "user", "content": f"count to {chance.randint(3, 40)}"}],
                "stream": chance.random() < 0.8,
            }
            if chance.random() < 0.01:
                body["model"] = "gpt-5"
            key = KEY if number % 3 else NARROW_KEY
            client.post("chat/completions", json=body, headers={"authorization": f"Bearer {key}"})
            over.wait(chance.expovariate(3 * wave))


def take_all(url: str) -> None:
    with chromium() as browser, watched_page(browser, url, viewport=SIZE) as watched:
        page = watched.page
        page.goto(f"{url}/console")
        page.get_by_label("The administration’s key").fill(ADMIN)
        page.get_by_role("button", name="Open").click()
        expect(page.get_by_text("Healthy").first).to_be_visible()
        page.wait_for_timeout(4000)  # a few samples of the page's own
        take(page, "console-overview")
        page.emulate_media(color_scheme="dark")
        take(page, "console-overview-dark")
        page.emulate_media(color_scheme="light")
        page.get_by_role("link", name="Calls", exact=True).click()
        page.get_by_role("row").filter(has_text="streamed").filter(has_text="llama").first.get_by_role("button").click()
        take(page, "console-calls")
        page.keyboard.press("Escape")
        page.get_by_role("link", name="Limits", exact=True).click()
        expect(page.get_by_role("meter").first).to_be_visible()
        take(page, "console-limits")
        page.get_by_role("link", name="Playground", exact=True).click()
        page.get_by_label("API key").fill(KEY)
        page.get_by_label("System message").fill("Answer briefly.")
        page.get_by_role("button", name="Send").click()
        expect(page.get_by_text("The answer is complete.")).to_be_visible()
        page.get_by_text("As Python").click()
        take(page, "console-playground")
        assert (watched.complaints, watched.elsewhere) == ([], [])


def take(page: Page, name: str) -> None:
    """Write a picture of the window; in 160 colours, which are more than it has but for the edges of letters."""
    picture = Image.open(io.BytesIO(page.screenshot())).convert("RGB")
    few = picture.quantize(160, dither=Image.Dither.NONE)
    few.save(FOLDER / f"{name}.png", optimize=True)


if __name__ == "__main__":
    main()
