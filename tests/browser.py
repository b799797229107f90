"""Drives a headless Chromium over a pipe, by the DevTools protocol; and a server on this machine for its pages."""

import base64
import functools
import json
import os
import select
import shutil
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

BROWSERS = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome", "chrome-headless-shell")

SILENCE = 120
"""Seconds: what a command of the protocol may take."""


def find() -> str:
    """The browser: that of the variable CHROME, or one by name. Skips the test where there is none."""
    browser = next(filter(None, map(shutil.which, [os.environ.get("CHROME", ""), *BROWSERS])), None)
    if browser is None:
        pytest.skip("no Chromium here: " + ", ".join(BROWSERS))
    return browser


class Browser:
    """One tab. `errors` are the lines that its pages have logged as errors or warnings, exceptions included."""

    def __init__(self, to: int, back: int):
        self._to, self._back = os.fdopen(to, "wb", 0), back
        self._count, self._rest = 0, b""
        self._session: str | None = None
        self.errors: list[str] = []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """The result of a command of the protocol."""
        self._count += 1
        message = {"id": self._count, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        self._to.write(json.dumps(message).encode() + b"\0")
        while (answer := self._read()).get("id") != self._count:
            self._note(answer)
        assert "error" not in answer, (method, answer)
        return answer["result"]

    def open(self, url: str) -> None:
        """Go to a page, until it has been loaded: its modules have run up to their first wait."""
        self.call("Page.navigate", url=url)
        while (message := self._read()).get("method") != "Page.loadEventFired":
            self._note(message)

    def run(self, script: str) -> Any:
        """The value of an expression, awaited if it is a promise."""
        answer = self.call("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def wait(self, condition: str) -> None:
        """Until an expression is true, for 60 seconds at most."""
        script = f"""new Promise(done => {{
          const end = Date.now() + 60000;
          const look = () => {condition} ? done(true) : Date.now() > end ? done(false) : setTimeout(look, 20);
          look();
        }})"""
        assert self.run(script), condition

    def size(self, width: int, height: int, scale: float = 1, dark: bool = False) -> None:
        """Sides of the window in CSS pixels, its pixels per CSS pixel, and the scheme that its user prefers."""
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=scale,
            mobile=width < 600,
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])

    def press(self, key: str) -> None:
        """Press a key: its name in JavaScript."""
        text = {"text": key} if len(key) == 1 else {}
        self.call("Input.dispatchKeyEvent", type="keyDown", key=key, code=key, **text, **CODES.get(key, {}))
        self.call("Input.dispatchKeyEvent", type="keyUp", key=key, code=key, **CODES.get(key, {}))

    def drag(self, *points: tuple[float, float]) -> None:
        """Press the mouse at the first point, move it along the others, and let it go."""
        for number, (x, y) in enumerate(points):
            kind = "mouseMoved" if number else "mousePressed"
            self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", buttons=1, clickCount=1)
        x, y = points[-1]
        self.call("Input.dispatchMouseEvent", type="mouseReleased", x=x, y=y, button="left", clickCount=1)

    def screenshot(self, path: Path) -> None:
        """Write what is seen as a PNG."""
        path.write_bytes(base64.b64decode(self.call("Page.captureScreenshot")["data"]))

    def _read(self) -> dict[str, Any]:
        while b"\0" not in self._rest:
            assert select.select([self._back], [], [], SILENCE)[0], "the browser says nothing any more"
            piece = os.read(self._back, 1 << 20)
            assert piece, "the browser has ended"
            self._rest += piece
        message, _, self._rest = self._rest.partition(b"\0")
        return json.loads(message)

    def _note(self, message: dict[str, Any]) -> None:
        parameters = message.get("params", {})
        match message.get("method"):
            case "Runtime.exceptionThrown":
                details = parameters["exceptionDetails"]
                self.errors.append(details.get("exception", {}).get("description", details["text"]))
            case "Runtime.consoleAPICalled" if parameters["type"] in ("error", "warning", "assert"):
                self.errors.append(" ".join(str(value.get("value", value)) for value in parameters["args"]))
            case "Log.entryAdded" if parameters["entry"]["level"] in ("error", "warning"):
                self.errors.append(parameters["entry"]["text"])


CODES = {
    "ArrowLeft": {"windowsVirtualKeyCode": 37},
    "ArrowUp": {"windowsVirtualKeyCode": 38},
    "ArrowRight": {"windowsVirtualKeyCode": 39},
    "ArrowDown": {"windowsVirtualKeyCode": 40},
    "Home": {"windowsVirtualKeyCode": 36},
    "Tab": {"windowsVirtualKeyCode": 9},
}


@contextmanager
def browser(profile: Path) -> Iterator[Browser]:
    """A browser with a profile in this folder. Skips the test where there is none, or no pipes as it needs them."""
    program = find()
    if os.name != "posix":
        pytest.skip("needs the pipes of a POSIX system")
    theirs, to = os.pipe()
    back, ours = os.pipe()
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--remote-debugging-pipe", "--no-first-run"]
    options += [f"--user-data-dir={profile}", "--window-size=1200,800"]
    # The browser reads from 3 and writes to 4.
    command = ["bash", "-c", f'exec 3<&{theirs} 4>&{ours}; exec "$0" "$@"', program, *options, "about:blank"]
    quiet = subprocess.DEVNULL
    process = subprocess.Popen(command, pass_fds=(theirs, ours), stdin=quiet, stdout=quiet, stderr=quiet)
    os.close(theirs)
    os.close(ours)
    try:
        tab = Browser(to, back)
        yield tab
        tab._session = None
        tab.call("Browser.close")
    finally:
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


class Handler(SimpleHTTPRequestHandler):
    """Serves a folder, and counts what is asked for."""

    extensions_map = {**SimpleHTTPRequestHandler.extensions_map, ".js": "text/javascript", ".wasm": "application/wasm"}

    def do_GET(self) -> None:
        self.server.asked.append(self.path)  # type: ignore[attr-defined]
        super().do_GET()

    def end_headers(self) -> None:
        self.send_header("Cache-Control", "no-store")
        if policy := self.server.policy:  # type: ignore[attr-defined]
            self.send_header("Content-Security-Policy", policy)
        super().end_headers()

    def log_message(self, *arguments: object) -> None:
        pass


class Server(ThreadingHTTPServer):
    """A server of a folder. `asked` are the paths of its requests; `policy` goes with all answers."""

    asked: list[str]
    policy = ""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


@contextmanager
def server(folder: Path) -> Iterator[Server]:
    """Serves a folder on this machine."""
    made = Server(("127.0.0.1", 0), functools.partial(Handler, directory=str(folder)))
    made.asked = []
    thread = threading.Thread(target=made.serve_forever, daemon=True)
    thread.start()
    try:
        yield made
    finally:
        made.shutdown()
        thread.join()
        made.server_close()
