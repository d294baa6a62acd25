"""The page in a real browser: a picture is dropped, seen, changed and saved; on a phone, too."""

import base64
import io
import json
import os
import shutil
import zipfile

import numpy as np
import pycocotools.mask as coco_mask
import pytest
from PIL import Image

from tests.app.test_server import picture

sync_api = pytest.importorskip("playwright.sync_api", reason="needs the extra browser: playwright")
CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")

pytestmark = [
    pytest.mark.skipif(CHROMIUM is None, reason="needs the program chromium, or CHROMIUM=path"),
    pytest.mark.filterwarnings("ignore"),  # of gradio and what it is made of
]
DROP = """([name, data]) => {
  const bytes = Uint8Array.from(atob(data), x => x.charCodeAt(0)), transfer = new DataTransfer();
  transfer.items.add(new File([bytes], name));
  document.dispatchEvent(new DragEvent("drop", { dataTransfer: transfer, cancelable: true }));
}"""


@pytest.fixture(scope="module")
def browser():
    with sync_api.sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield started
        started.close()


def opened(browser, address, **options):
    page = browser.new_page(**options)
    page.set_default_timeout(120_000)  # milliseconds
    faults, asked = [], []
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on("console", lambda message: faults.append(message.text))
    page.on("request", lambda request: asked.append(request.url))
    page.goto(address)
    page.wait_for_selector("body[data-ready]")
    return page, faults, asked


def drop(page, name, data):
    page.evaluate(DROP, [name, base64.b64encode(data).decode()])


def seen(page):
    return page.locator("#view").evaluate("x => x.toDataURL()")


def saved(page, button):
    with page.expect_download() as download:
        page.locator(button).click()
    return download.value.path().read_bytes()


def test_the_page(address, browser):
    page, faults, asked = opened(browser, address, viewport={"width": 1400, "height": 900})
    drop(page, "a.png", picture())
    rows = page.locator("#rows tr")
    rows.first.wait_for()
    assert rows.count() == 1  # the other one's score is 0.3
    assert page.locator("#note").inner_text().startswith("This model is a toy")
    one = seen(page)
    page.locator("#threshold").fill("0.2")
    assert rows.count() == 2
    assert page.locator("#count").inner_text() == "2 objects"
    both = seen(page)
    assert both != one

    rows.nth(1).locator("input").uncheck()
    page.mouse.move(0, 0)
    assert seen(page) == one
    [entry] = json.loads(saved(page, "#save-coco"))
    assert [entry["image_id"], entry["category_id"]] == ["a", 26]
    rows.nth(1).locator("input").check()
    with zipfile.ZipFile(io.BytesIO(saved(page, "#save-masks"))) as masks:
        assert masks.namelist() == ["a/1_car.png", "a/2_car.png"]
        left = np.asarray(Image.open(io.BytesIO(masks.read("a/1_car.png"))))
    assert np.array_equal(left > 0, coco_mask.decode(entry["segmentation"]))
    assert len(json.loads(saved(page, "#save-rle"))) == 2

    box = page.locator("#view").bounding_box()
    page.mouse.move(box["x"] + 0.3 * box["width"], box["y"] + box["height"] / 2)
    assert page.locator("#tip").inner_text() == "car 0.90"
    page.get_by_text("panoptic").click()
    page.get_by_text("2 segments").wait_for()
    with zipfile.ZipFile(io.BytesIO(saved(page, "#save-masks"))) as masks:
        ids = np.asarray(Image.open(io.BytesIO(masks.read("a.png"))))
    assert sorted(np.unique(ids[..., 0])) == [1, 2]
    drop(page, "b.tiff", picture(kind="TIFF"))  # which browsers can't show
    page.locator("#view").wait_for()
    page.get_by_text("2 segments").wait_for()
    assert page.locator("#strip button").count() == 2
    assert not faults
    assert all(url.startswith((address, f"blob:{address}")) for url in asked)

    drop(page, "broken.png", picture()[:60])
    page.locator("#problem:not([hidden])").wait_for()
    assert "broken.png can't be read as an image" in page.locator("#problem").inner_text()
    assert all("422" in fault for fault in faults)  # the browser's own line on the refusal


def focused(page):
    return page.evaluate("document.activeElement.dataset.key ?? document.activeElement.id")


def test_the_keyboard_is_enough(address, browser):
    page, faults, _ = opened(browser, address, viewport={"width": 1400, "height": 900})
    for name in ("a.png", "b.png"):
        drop(page, name, picture())
        page.get_by_text("1 object", exact=True).wait_for()
    plain = seen(page)
    page.locator("#rows input").focus()
    page.keyboard.press("Space")
    assert focused(page) == "row 0"  # though the table is made anew
    assert seen(page) != plain
    page.locator("#legend button").focus()
    page.keyboard.press("Enter")
    assert focused(page) == "class car"
    page.keyboard.press("ArrowLeft")
    assert page.locator("#file-name").inner_text() == "a.png"
    assert page.locator("#view").get_attribute("aria-label") == "a.png, 1 object"
    page.locator("#names").uncheck()
    page.locator("#opacity").fill("0")
    page.mouse.move(0, 0)
    bare = seen(page)
    page.locator("#legend button").press("Enter")
    page.locator("#clear").focus()  # so that nothing is lit up
    assert seen(page) == bare != plain  # an overlay of no opacity is none
    page.keyboard.press("Enter")
    assert focused(page) == "pick"
    assert page.locator("#empty").is_visible()
    assert not page.locator("#strip button").count()
    assert not faults


def test_what_passes_is_tried_again(address, browser):
    page, _, asked = opened(browser, address, viewport={"width": 1400, "height": 900})
    drop(page, "large.png", bytes(2**20 + 1))
    page.get_by_text("large.png is larger than 1 MiB").wait_for()
    assert not page.locator("#again").is_visible()
    assert not any("segment" in url for url in asked)
    page.locator("#clear").click()
    answers = ["cut", "busy", "through"]

    def meet(route):
        way = answers.pop(0)
        if way == "cut":
            route.abort()
        elif way == "busy":
            route.fulfill(status=503, json={"error": "32 requests are waiting already"})
        else:
            route.continue_()

    page.route("**/segment?*", meet)
    drop(page, "a.png", picture())
    page.get_by_text("Is m2f app still running?").wait_for()
    page.locator("#again").click()
    page.get_by_text("1 object", exact=True).wait_for()
    assert not answers
    assert not page.locator("#problem").is_visible()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_phone_scrolls_only_down(address, browser, scheme):
    phone = {"width": 390, "height": 844}
    page, faults, _ = opened(browser, address, viewport=phone, color_scheme=scheme)
    for i in range(6):
        drop(page, f"{i}.png", picture())
    page.locator("#rows tr").first.wait_for()
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    assert not faults
