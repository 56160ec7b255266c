"""A headless Chromium, driven over the DevTools protocol through a pipe: real layout, real clicks, real keys."""

from __future__ import annotations

import base64
import json
import os
import queue
import shutil
import subprocess
import threading
import time
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any

__all__ = ["CHROMIUM", "Browser", "Tab"]

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
PATIENCE_S = 8.0
_FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-dev-shm-usage", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-extensions"),
    *("--hide-scrollbars", "--lang=en-GB", "--remote-debugging-pipe"),
)
_KEYS = {"Enter": 13, "Tab": 9, "Escape": 27, "ArrowLeft": 37, "ArrowRight": 39, "End": 35}


class CallFailed(AssertionError):
    """The browser does not do it, such as while a page gives way to the next."""


class Browser:
    """A browser with a profile of its own.

    Args:
        profile: A folder to make it in.
    """

    def __init__(self, profile: Path) -> None:
        assert CHROMIUM
        to_browser, self._to = os.pipe()
        self._from, from_browser = os.pipe()
        # Chromium reads commands from descriptor 3 and writes answers to 4.
        shell = f'exec 3<&{to_browser} 4>&{from_browser}; exec "$@"'
        self._process = subprocess.Popen(
            ["bash", "-c", shell, "chromium", CHROMIUM, *_FLAGS, f"--user-data-dir={profile}", "about:blank"],
            pass_fds=(to_browser, from_browser),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(to_browser)
        os.close(from_browser)
        self._number = 0
        self._answers: dict[int, queue.Queue[dict[str, Any]]] = {}
        self._tabs: dict[str, Tab] = {}
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def open(self, url: str, *, width: int = 1280, height: int = 900, dark: bool = False, touch: bool = False) -> Tab:
        """A new tab of that size, with cookies and storage of its own, once the page is loaded."""
        context = self.call("Target.createBrowserContext")["browserContextId"]
        target = self.call("Target.createTarget", url="about:blank", browserContextId=context)["targetId"]
        session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        tab = self._tabs[session] = Tab(self, session)
        for domain in ("Page", "Runtime", "Log", "Network"):
            tab.call(f"{domain}.enable")
        tab.resize(width, height, touch=touch)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        tab.call("Emulation.setEmulatedMedia", features=[scheme])
        tab.call("Page.navigate", url=url)
        tab.until('location.href !== "about:blank" && document.readyState === "complete"')
        return tab

    def call(self, method: str, session: str | None = None, **parameters: Any) -> dict[str, Any]:
        """Send a command; returns its result."""
        self._number += 1
        number, answer = self._number, queue.Queue[dict[str, Any]]()
        self._answers[number] = answer
        message = {"id": number, "method": method, "params": parameters, **({"sessionId": session} if session else {})}
        os.write(self._to, json.dumps(message).encode() + b"\0")
        found = answer.get(timeout=PATIENCE_S)
        if "error" in found:
            raise CallFailed(f"{method}: {found['error']}")
        result: dict[str, Any] = found["result"]
        return result

    def forget(self, session: str) -> None:
        """Close the tab of a session."""
        target = self.call("Target.getTargetInfo", session)["targetInfo"]["targetId"]
        del self._tabs[session]
        self.call("Target.closeTarget", targetId=target)

    def _read(self) -> None:
        with os.fdopen(self._from, "rb") as pipe:
            rest = b""
            while chunk := pipe.read1(1 << 20):
                *messages, rest = (rest + chunk).split(b"\0")
                for content in messages:
                    message = json.loads(content)
                    if "id" in message:
                        self._answers.pop(message["id"]).put(message)
                    elif tab := self._tabs.get(message.get("sessionId", "")):
                        tab.hear(message)

    def close(self) -> None:
        """End the browser."""
        with suppress(Exception):
            self.call("Browser.close")
        os.close(self._to)
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._reader.join(10)

    def __enter__(self) -> Browser:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class Tab:
    """A page.

    Attributes:
        complaints: Errors on its console, uncaught exceptions, and answers of status 400 and above.
        urls: Everything it asked for.
    """

    def __init__(self, browser: Browser, session: str) -> None:
        self._browser, self._session = browser, session
        self.complaints: list[str] = []
        self.urls: list[str] = []

    def hear(self, message: dict[str, Any]) -> None:
        """Take in an event."""
        parameters = message["params"]
        match message["method"]:
            case "Runtime.exceptionThrown":
                self.complaints.append(json.dumps(parameters["exceptionDetails"])[:2000])
            case "Log.entryAdded" if parameters["entry"]["level"] == "error":
                self.complaints.append(f"{parameters['entry']['text']} {parameters['entry'].get('url', '')}")
            case "Runtime.consoleAPICalled" if parameters["type"] in ("error", "warning"):
                self.complaints.append(json.dumps(parameters["args"])[:2000])
            case "Network.requestWillBeSent":
                self.urls.append(parameters["request"]["url"])

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Send a command to this page."""
        return self._browser.call(method, self._session, **parameters)

    def resize(self, width: int, height: int, *, touch: bool = False) -> None:
        """Another size of the window, in CSS pixels."""
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=touch)
        self.call("Emulation.setTouchEmulationEnabled", enabled=touch)

    def value(self, expression: str) -> Any:
        """The value of a JavaScript expression; a promise is awaited."""
        found = self._evaluate(expression)
        assert "exceptionDetails" not in found, found["exceptionDetails"]
        return found["result"].get("value")

    def _evaluate(self, expression: str) -> dict[str, Any]:
        return self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)

    def until(self, expression: str, timeout_s: float = PATIENCE_S) -> Any:
        """Wait until an expression is true; returns its value. While a page loads, it may raise."""
        deadline = time.monotonic() + timeout_s
        while True:
            try:
                found = self._evaluate(expression)
            except CallFailed as failure:
                found = {"exceptionDetails": str(failure)}
            if "exceptionDetails" not in found and (value := found["result"].get("value")):
                return value
            assert time.monotonic() < deadline, f"{expression} did not come true: {found}; {self.complaints}"
            time.sleep(0.02)

    def text(self, selector: str) -> str:
        """The visible text of an element."""
        return str(self.value(f"document.querySelector({json.dumps(selector)}).innerText"))

    def click(self, selector: str) -> None:
        """Scroll to an element and press on its middle, where nothing may cover it."""
        place = self._place(selector)
        for kind in ("mousePressed", "mouseReleased"):
            self.call("Input.dispatchMouseEvent", type=kind, x=place[0], y=place[1], button="left", clickCount=1)

    def drag(self, selector: str, share: float) -> None:
        """Drag a slider's thumb to a share of its width."""
        x, y = self._place(selector)
        left, width = self.value(
            f"(() => {{ const box = document.querySelector({json.dumps(selector)}).getBoundingClientRect();"
            " return [box.left, box.width]; })()"
        )
        self.call("Input.dispatchMouseEvent", type="mousePressed", x=x, y=y, button="left", clickCount=1)
        for part in (0.5, 1.0):
            to = x + (left + share * width - x) * part
            self.call("Input.dispatchMouseEvent", type="mouseMoved", x=to, y=y, button="left", buttons=1)
        self.call(
            "Input.dispatchMouseEvent", type="mouseReleased", x=left + share * width, y=y, button="left", clickCount=1
        )

    def _place(self, selector: str) -> tuple[float, float]:
        found = self.until(
            f"""(() => {{
                const element = document.querySelector({json.dumps(selector)});
                if (!element || element.disabled) return null;
                element.scrollIntoView({{block: "center"}});
                const box = element.getBoundingClientRect();
                const [x, y] = [box.left + box.width / 2, box.top + box.height / 2];
                const top = document.elementFromPoint(x, y);
                return box.width && element.contains(top) ? [x, y] : null;
            }})()"""
        )
        return found[0], found[1]

    def type(self, selector: str, text: str) -> None:
        """Press on a field, and type in place of what is in it."""
        self.click(selector)
        self.value(f"document.querySelector({json.dumps(selector)}).select()")
        self.call("Input.insertText", text=text)

    def press(self, key: str) -> None:
        """Press a key."""
        text = {"text": "\r"} if key == "Enter" else {}
        for kind in ("keyDown", "keyUp"):
            self.call("Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode=_KEYS[key], **text)

    def choose(self, selector: str, value: str) -> None:
        """Choose an option, as the list of a select does."""
        self.value(
            f"(() => {{ const list = document.querySelector({json.dumps(selector)}); list.value = {json.dumps(value)};"
            ' list.dispatchEvent(new Event("change", {bubbles: true})); })()'
        )

    def close(self) -> None:
        """Close it."""
        self._browser.forget(self._session)

    def screenshot(self, path: Path, *, whole: bool = True) -> None:
        """Write a PNG of the page, or of what is in the window."""
        found = self.call("Page.captureScreenshot", captureBeyondViewport=whole, format="png")
        path.write_bytes(base64.b64decode(found["data"]))
