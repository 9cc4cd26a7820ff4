"""What a user sees in a browser: the HTML report, and a run in TensorBoard, in headless Chromium.

Without a browser they are skipped; in CI, where the environment says CI=true, they fail.
"""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from contextlib import closing

import pytest
from lightning.pytorch.loggers import TensorBoardLogger

from mi_callback import MutualInformationMonitor
from mi_callback.estimation.records import Flag
from mi_callback.reporting import write_report
from tests.models import QUIET, Net, loader, trainer

from .records import a_history, estimate

pytestmark = [pytest.mark.slow, *(pytest.mark.filterwarnings(rule) for rule in QUIET)]


@pytest.fixture(scope="module")
def browser():
    binary = shutil.which("chromium") or shutil.which("google-chrome")
    driver = shutil.which("chromedriver")
    give_up = pytest.fail if os.environ.get("CI") == "true" else pytest.skip
    if binary is None or driver is None:
        give_up("needs chromium and chromedriver: apt-get install chromium chromium-driver")
    if importlib.util.find_spec("selenium") is None:
        give_up("needs selenium: pip install selenium")
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = binary
    for flag in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--window-size=1300,1300"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    made = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    yield made
    made.quit()


def wait_for(condition, seconds=60.0):
    """The first true value of ``condition``."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if found := condition():
            return found
        time.sleep(0.2)
    raise AssertionError(f"it did not come true in {seconds} s")


def errors(browser):
    return [entry["message"] for entry in browser.get_log("browser") if entry["level"] == "SEVERE"]


# the report


@pytest.fixture
def report(browser, tmp_path):
    pytest.importorskip("plotly")
    history = a_history(3, range(0, 50, 10))
    history.set_ceiling("I(X;Y)", 3.2, 0.1)
    history.append(epoch=20, step=1, layer="net.1", quantity="target", estimate=estimate(2.5, flags=(Flag.DUPLICATES,)))
    browser.get_log("performance")
    browser.get(write_report(history, tmp_path / "report.html").as_uri())
    wait_for(lambda: browser.find_elements("css selector", ".slider-grip-rect"))
    return history


def marked(browser):
    """Where the marked points are: x and y of the traces that the slider moves."""
    return browser.execute_script(
        "return document.getElementById('figure').data.filter(t => t.x.length == 1).map(t => [t.x[0], t.y[0]])"
    )


def test_the_report_opens_without_errors_and_without_a_network(browser, report):
    assert browser.title == "Mutual information while training"
    assert errors(browser) == []
    requested = [e["message"] for e in browser.get_log("performance") if "Network.requestWillBeSent" in e["message"]]
    urls = {url for message in requested for url in re.findall(r'"url":"([^"]+)"', message)}
    assert all(url.startswith(("file:", "data:", "blob:")) for url in urls)
    assert "Share chart" not in browser.page_source.split("<h2>")[0].split("</script>")[-1]


def test_moving_the_slider_moves_the_points(browser, report):
    from selenium.webdriver import ActionChains

    x, y = (report.series(q)["output"].mi for q in ("input", "target"))
    assert marked(browser)[2] == pytest.approx([x[-1], y[-1]])
    grip = browser.find_element("css selector", ".slider-grip-rect")
    rail = browser.find_element("css selector", ".slider-rail-rect").rect
    ActionChains(browser).drag_and_drop_by_offset(grip, -int(rail["width"]) // 2, 0).perform()
    wait_for(lambda: "epoch 20" in browser.find_element("css selector", ".slider-group").text)
    wait_for(lambda: marked(browser)[2] == pytest.approx([x[2], y[2]]))


def test_hovering_shows_values_and_flags(browser, report):
    from selenium.webdriver import ActionChains

    # the curve of I(T;Y) of net.1 is drawn in the second pair of axes; its third point is the flagged one
    x, y = browser.execute_script(
        "const g = document.getElementById('figure'), l = g._fullLayout, box = g.getBoundingClientRect();"
        "return [box.left + l.xaxis2._offset + l.xaxis2.d2p(20), box.top + l.yaxis2._offset + l.yaxis2.d2p(2.5)]"
    )
    ActionChains(browser).move_by_offset(0, 0).perform()
    pointer = ActionChains(browser)
    pointer.w3c_actions.pointer_action.move_to_location(int(x) - 3, int(y))
    pointer.w3c_actions.pointer_action.move_to_location(round(x), round(y))
    pointer.perform()
    text = wait_for(lambda: "".join(e.text for e in browser.find_elements("css selector", ".hoverlayer .hovertext")))
    assert "net.1" in text
    assert "epoch 20" in text
    assert "2.500interval 2.300 to 2.800" in text
    assert "flags: duplicates" in text


def test_a_click_on_a_name_switches_the_layer_off_and_on(browser, report):
    def off():
        return set(
            browser.execute_script(
                "return document.getElementById('figure')._fullData.filter(t => t.visible !== true).map(t => t.name)"
            )
        )

    toggle = browser.find_elements("css selector", ".legendtoggle")[1]
    toggle.click()
    wait_for(lambda: off() == {"net.3"})
    time.sleep(0.6)  # a second click at once would be a double click, which isolates a layer
    browser.find_elements("css selector", ".legendtoggle")[1].click()
    wait_for(lambda: off() == set())


# TensorBoard


@pytest.fixture(scope="module")
def tensorboard(tmp_path_factory):
    """The address of a TensorBoard that shows a run of two layers."""
    folder = tmp_path_factory.mktemp("run")
    monitor = MutualInformationMonitor(layers=["net.1"], n_permutations=4, space="scores")
    trainer(folder, monitor, max_epochs=3, logger=TensorBoardLogger(folder, name="run")).fit(Net(), loader())
    with closing(socket.socket()) as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "tensorboard.main", "--logdir", str(folder), "--port", str(port)]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    address = f"http://127.0.0.1:{port}"

    def answers():
        try:
            with urllib.request.urlopen(f"{address}/data/runs") as answer:
                return answer.read() not in (b"[]", b"")
        except OSError:
            return False

    try:
        wait_for(answers)
        yield address
    finally:
        server.terminate()
        server.wait()


def test_tensorboard_shows_scalars_and_figures(browser, tensorboard):
    browser.get(f"{tensorboard}/#timeseries")
    box = wait_for(lambda: browser.find_elements("css selector", "metrics-tag-filter input"))[0]
    wait_for(lambda: "mi_target" in body(browser))
    for tag in ("mi_target/net.1", "mi_target/output", "mi_input/output", "mi/curves", "mi/information_plane"):
        box.clear()
        box.send_keys(f"^{re.escape(tag)}$")
        wait_for(lambda tag=tag: tag in cards(browser))
    images = wait_for(lambda: browser.find_elements("css selector", "image-card img"))
    loaded = "return arguments[0].complete && arguments[0].naturalWidth > 400"
    assert all(wait_for(lambda image=image: browser.execute_script(loaded, image)) for image in images)


def body(browser):
    return browser.execute_script("return document.body.innerText")


def cards(browser):
    """The text of the cards; a tag's parts stand on lines of their own."""
    script = "return [...document.querySelectorAll('card-view')].map(card => card.innerText).join(' ')"
    return re.sub(r"\s", "", browser.execute_script(script))


def test_all_layers_of_a_quantity_share_a_chart(browser, tensorboard):
    browser.get(f"{tensorboard}/#custom_scalars")
    for quantity in ("target", "input", "usable"):  # the page hides its text from scripts in shadow roots
        title = f"mi_{quantity}"
        wait_for(lambda title=title: title in browser.find_element("css selector", "body").text.split())
